"""Columns as filters: values as they are, the most frequent ones, or ranges of numbers; counted for each cluster."""

import numpy as np
import pytest

from cosmeans.errors import InputError, InputTypeError, OptionError
from cosmeans.page.columns import MAX_VALUES, read_columns


def column(values):
    return read_columns({"source": values}, len(values))[0]


def decoded(found):
    return [found.values[code] for code in found.code]


def test_few_values_are_themselves():
    found = column(["web", "book", None, "web", ""])
    assert found.values == ["(empty)", "book", "web"]
    assert decoded(found) == ["web", "book", "(empty)", "web", "(empty)"]


def test_few_numbers_are_in_their_order():
    found = column([10, 9, 2, 10, None])
    assert found.values == ["2", "9", "10", "(empty)"]
    assert decoded(found) == ["10", "9", "2", "10", "(empty)"]


def test_many_numbers_are_ranges_with_about_as_many_rows():
    numbers = np.random.default_rng(0).permutation(1000).astype(float)
    numbers[7] = np.nan
    found = column(numbers)
    assert found.values[-1] == "(empty)"
    assert found.code[7] == 5
    counts = np.bincount(found.code)
    assert counts[:5].sum() == 999
    assert counts[:5].min() > 150
    low = [float(value.split(" to ")[0].replace(",", "")) for value in found.values[:5]]
    assert all(numbers[i] >= low[code] for i, code in enumerate(found.code) if code < 5)


def test_of_many_texts_the_most_frequent_ones_are_named():
    values = [f"v{i:03}" for i in range(100) for _ in range(1 + (i < 5) * 10)]
    found = column(values)
    assert len(found.values) == MAX_VALUES
    assert found.values[-1] == "(other)"
    assert {f"v{i:03}" for i in range(5)} <= set(found.values)
    assert all(value in (seen, "(other)") for value, seen in zip(decoded(found), values, strict=True))


def test_counts_are_those_of_each_cluster():
    labels, values = np.array([0, 0, 1, -1, 1, 1]), ["a", "b", "a", "a", "b", "b"]
    assert column(values).counts(labels, 3).tolist() == [[1, 1], [1, 2], [0, 0]]


def test_what_is_no_column_is_told():
    with pytest.raises(InputError, match=r"columns\['a'\] has 2 values, the rows are 3"):
        read_columns({"a": [1, 2]}, 3)
    with pytest.raises(InputTypeError, match="must be a dict of names and lists"):
        read_columns([1, 2, 3], 3)
    with pytest.raises(InputTypeError, match="one value per row"):
        read_columns({"a": "abc"}, 3)
    with pytest.raises(OptionError, match="at most 12"):
        read_columns({str(i): [1] for i in range(13)}, 1)

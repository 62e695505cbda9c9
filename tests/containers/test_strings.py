"""Texts come as lists and as columns of every library; what is missing is an empty text."""

from pathlib import Path

import numpy as np
import pandas
import pyarrow
import pytest

from cosmeans.containers.strings import read_strings
from cosmeans.errors import InputError, InputTypeError

TEXTS = ["pear", "", "plum tree", "É"]
WITH_NULL = ["pear", None, "plum tree", "É"]
COLUMNS = {
    "list": list,
    "tuple": tuple,
    "array": lambda texts: np.array(texts, dtype=object),
    "Series": pandas.Series,
    "Series of objects": lambda texts: pandas.Series(texts, dtype=object),
    "Series of strings": lambda texts: pandas.Series(texts, dtype="string"),
    "Series with an index": lambda texts: pandas.Series(texts, index=[7, 5, 3, 1]),
    "Series of categories": lambda texts: pandas.Series(texts, dtype="category"),
    "column of Arrow": pyarrow.array,
    "chunks of Arrow": lambda texts: pyarrow.chunked_array([texts[:1], texts[1:]]),
    "dictionary of Arrow": lambda texts: pyarrow.array(texts).dictionary_encode(),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_holds_the_same_texts_and_nothing_is_an_empty_one(column):
    for given in (TEXTS, WITH_NULL):
        found = read_strings(COLUMNS[column](given), 4, "texts")

        assert found == TEXTS
        assert {type(text) for text in found} == {str} or column == "array"


def test_columns_of_polars():
    polars = pytest.importorskip("polars")

    for given in (TEXTS, WITH_NULL):
        assert read_strings(polars.Series(given), 4, "texts") == TEXTS
        assert read_strings(polars.Series(given, dtype=polars.Categorical), 4, "texts") == TEXTS


def test_floats_that_are_nan_are_missing_and_paths_are_texts():
    assert read_strings([float("nan"), np.float64("nan"), pandas.NA, Path("a/b")], 4, "images") == ["", "", "", "a/b"]


WRONG = {
    "text": ("one text", "texts must be a list of strings, one per row; got 'one text'. Pass a list."),
    "number": (3, "texts must be a list of strings, one per row; got 3"),
    "frame": (
        pandas.DataFrame({"a": TEXTS, "b": TEXTS}),
        r'got a DataFrame of 2. Pass one of them: texts=frame\["text"\]',
    ),
    "table": (pyarrow.table({"a": TEXTS}), "texts must be one column; got a Table of 1"),
    "short": (TEXTS[:3], "texts has 3 entries, the rows are 4; one per row is needed"),
    "numbers": (["a", 1, "b", "c"], r"texts\[1\] is 1; it must be a string. Pass '' where there is none"),
    "arrays": (["a", np.zeros(3), "b", "c"], r"texts\[1\] is .*; it must be a string"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_anything_else_is_named(kind):
    values, message = WRONG[kind]

    with pytest.raises((InputError, InputTypeError), match=message):
        read_strings(values, 4, "texts")

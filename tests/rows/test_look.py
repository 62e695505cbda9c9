"""What is known of rows of files before any are read."""

import os

import numpy as np
import pyarrow
import pytest
from pyarrow import feather, parquet

from cosmeans.errors import InputError, OptionError
from cosmeans.rows.look import look
from files_of import EMBEDDING, KINDS, csv_of_lists, json_lines, lists, table
from refusing import leave_memory

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 12)).astype(np.float32)
UNCOUNTED = ("a.jsonl", "a.csv", "wide.csv")
MAPPED = ("a.npy", "a.pt", "a.safetensors", "a.fvecs", "a.fbin")


@pytest.mark.parametrize("name", KINDS)
def test_facts_of_every_kind_of_file(tmp_path, name):
    make, library = KINDS[name]
    if library is not None:
        pytest.importorskip(library)
    make(tmp_path / name, X)

    facts = look(tmp_path / name)

    counted = name not in UNCOUNTED
    assert (facts.files, facts.features, facts.mapped) == (1, 12, name in MAPPED)
    assert facts.rows == (300 if counted else None)
    assert facts.decoded_bytes == (300 * 12 * 4 if counted else None)
    inside = [path for path in (tmp_path / name).rglob("*") if path.is_file()] or [tmp_path / name]
    assert facts.bytes_on_disk == sum(path.stat().st_size for path in inside)


def test_facts_of_tables(tmp_path):
    for number, size in enumerate((100, 180, 20)):
        columns = table(X[:size]).append_column(f"only {number}", pyarrow.array([1] * size))
        parquet.write_table(columns, tmp_path / f"{number}.parquet", row_group_size=90)

    facts = look(tmp_path)

    assert (facts.files, facts.rows, facts.features, facts.dtype) == (3, 300, 12, "float32")
    assert (facts.columns, facts.lists, facts.named) == ([EMBEDDING], True, False)
    assert (facts.row_groups, facts.largest_row_group) == (2 + 2 + 1, 90)
    assert facts.other_columns == {"id": "string", "weight": "double"}
    assert (facts.nulls, facts.files_with_nulls) == (0, 0)
    assert look(tmp_path, embedding=EMBEDDING, columns=["id"]).named
    with pytest.raises(OptionError, match="has no column 'x'"):
        look(tmp_path, columns=["x"])


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
def test_nulls_are_counted_by_footers(tmp_path, kind):
    whole, few = lists(X, kind), X[:40].tolist()
    few[3], few[7], few[9] = None, [None, None, *few[7][2:]], None
    for name, vectors in (("a", whole), ("b", pyarrow.array(few, whole.type))):
        others = {"a.b": range(len(vectors)), "s": len(vectors) * [{"x": 1, "y": [2]}]}
        parquet.write_table(
            pyarrow.table({**others, EMBEDDING: vectors}), tmp_path / f"{name}.parquet", row_group_size=8
        )

    facts = look(tmp_path)

    assert (facts.rows, facts.features, facts.nulls, facts.files_with_nulls) == (340, 12, 4, 1)


def test_nulls_that_no_footer_counts(tmp_path):
    parquet.write_table(table(X), tmp_path / "a.parquet", write_statistics=False)
    feather.write_feather(table(X), tmp_path / "b.feather")
    np.save(tmp_path / "c.npy", X)

    for name in ("a.parquet", "b.feather", "c.npy"):
        facts = look(tmp_path / name)
        assert (facts.nulls, facts.files_with_nulls, facts.features) == (None, None, 12)


@pytest.mark.parametrize(
    ("dtype", "stored", "decoded"),
    [(np.float16, "float16", 2), (np.int8, "int8", 2), (np.float64, "float64", 8), (np.int32, "int32", 4)],
)
def test_numbers_are_told_as_they_are_stored_and_counted_as_they_are_decoded(tmp_path, dtype, stored, decoded):
    parquet.write_table(pyarrow.table({EMBEDDING: lists((20 * X).astype(dtype))}), tmp_path / "a.parquet")

    facts = look(tmp_path / "a.parquet")

    assert (facts.dtype, facts.decoded_bytes) == (stored, 300 * 12 * decoded)


def test_what_fits_into_the_memory(tmp_path, monkeypatch):
    parquet.write_table(table(X), tmp_path / "a.parquet")
    np.save(tmp_path / "b.npy", X)

    leave_memory(monkeypatch, 4 * (75 * 12 * 4 + 1))  # of which a quarter is for rows

    assert look(tmp_path / "a.parquet").rows_in_memory == 75
    assert look([tmp_path / "a.parquet", tmp_path / "b.npy"]).rows_in_memory == 75
    assert look(tmp_path / "b.npy").rows_in_memory is None


def test_a_table_of_numbers_has_as_many_columns(tmp_path):
    KINDS["wide.parquet"][0](tmp_path / "a.parquet", X)
    parquet.write_table(pyarrow.table({"x": X[:, 0]}), tmp_path / "one.parquet")

    facts, one = look(tmp_path / "a.parquet"), look(tmp_path / "one.parquet")

    assert (facts.columns, facts.lists, facts.nulls) == ([f"x{place}" for place in range(12)], False, 0)
    assert (one.columns, one.features, one.lists) == (["x"], 1, False)


def test_no_rows_are_read(tmp_path):
    """What is destroyed between header and footer is not seen; nor are lines after the first ones."""
    parquet.write_table(table(X), tmp_path / "a.parquet", compression="none")
    whole = (tmp_path / "a.parquet").read_bytes()
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    (tmp_path / "a.parquet").write_bytes(whole[:4] + b"\xff" * (end - 4) + whole[end:])
    json_lines(tmp_path / "b.jsonl", np.tile(X, (4, 1)))
    csv_of_lists(tmp_path / "c.csv", X)
    lines = (tmp_path / "c.csv").read_text()
    with open(tmp_path / "c.csv", "a") as file:  # Arrow looks at the first 64 MiB
        file.writelines([lines.partition("\n")[2]] * ((80 << 20) // len(lines)))
    for name in ("b.jsonl", "c.csv"):
        with open(tmp_path / name, "a") as file:
            file.write('"no object')

    assert (look(tmp_path / "a.parquet").rows, look(tmp_path / "a.parquet").features) == (300, 12)
    assert look(tmp_path / "b.jsonl").features == 12
    assert look(tmp_path / "c.csv").features == 12


def test_lists_of_several_lengths_are_found_by_the_footer(tmp_path):
    values = [[1.0, 2.0]] * 40 + [[1.0]] + [[1.0, 2.0]] * 10
    parquet.write_table(pyarrow.table({EMBEDDING: values}), tmp_path / "a.parquet")

    with pytest.raises(InputError, match=r"a.parquet, row 40: a list of 1 numbers, others have 2"):
        look(tmp_path / "a.parquet")


def test_files_of_several_widths_are_an_error(tmp_path):
    json_lines(tmp_path / "a.jsonl", X)
    json_lines(tmp_path / "b.jsonl", X[:, :5])

    with pytest.raises(InputError, match=r"b.jsonl has rows of 5 numbers, .*a.jsonl has rows of 12"):
        look([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_the_footers_of_a_thousand_files_are_read_once(tmp_path, monkeypatch):
    """Under two seconds for 1,000 files is what this is for: each is opened once."""
    for number in range(20):
        parquet.write_table(table(X[:5]), tmp_path / f"{number:02d}.parquet")
    opened = []
    plain = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or plain(path, *rest, **more))

    assert look(tmp_path).rows == 100
    assert len([path for path in opened if path.endswith(".parquet")]) == 20

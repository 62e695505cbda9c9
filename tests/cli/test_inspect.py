"""The commands `look` and `info`."""

import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from files_of import EMBEDDING, json_lines, lists, table
from refusing import leave_memory

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    leave_memory(monkeypatch, 4 * 30 * 6 * 4)  # of which a quarter is for rows
    (tmp_path / "emb").mkdir()
    for number in range(2):
        parquet.write_table(table(X[60 * number :][:60]), f"emb/{number}.parquet", row_group_size=40)
    np.save("rows.npy", X)
    return tmp_path


def test_look_tells_of_tables(folder, out):
    code, stdout, _ = out("look emb")

    assert code == 0
    first, where, others, memory, disk = stdout.splitlines()
    assert first.startswith("2 files, ")
    assert first.endswith(" kB: 120 rows x 6 float32")
    assert where == 'column "embedding", lists, found by itself; 0 nulls; 4 row groups of up to 40 rows'
    assert others == "other columns: id (string), weight (double)"
    assert memory == (
        "memory: decoded rows take 2.9 kB, of which --memory-limit, by default 720 bytes here, holds 25%: "
        "a fit copies them to the disk, or decodes the others in every pass"
    )
    assert disk == "disk: labels and cosines of a fit take up to 3.4 kB"
    assert "lists, named;" in out("look emb/*.parquet --embedding embedding --id-column id --with weight")[1]


def test_look_tells_of_what_is_missing_or_many(folder, out, monkeypatch):
    parquet.write_table(pyarrow.table({f"x{place}": X[:, place] for place in range(6)}), "wide.parquet")
    rows = [None, *X[1:].tolist()]
    parquet.write_table(pyarrow.table({EMBEDDING: pyarrow.array(rows, lists(X).type)}), "null.parquet")
    json_lines(folder / "a.jsonl", X)
    leave_memory(monkeypatch, 4 << 20)

    assert 'columns "x0" to "x5", one number each; 0 nulls' in out("look wide.parquet")[1]
    assert "1 null in 1 file; 1 row group of up to 120 rows" in out("look null.parquet")[1]
    assert "holds: the files are decoded once" in out("look null.parquet")[1]
    told = out("look a.jsonl")[1]
    assert ": rows not counted x 6 float64" in told
    assert "nulls not counted" in told
    assert "disk" not in told


def test_look_at_mapped_files(folder, out):
    code, stdout, _ = out("look rows.npy")

    assert code == 0
    assert stdout.splitlines()[:2] == [
        f"1 file, {(120 * 24 + 128) / 1000:.1f} kB: 120 rows x 6 float32",
        "memory: rows are mapped from the files, and need none of their own",
    ]


def test_the_facts_as_json(folder, out):
    facts = json.loads(out("look emb --json")[1])

    assert (facts["embeddings"], facts["files"], facts["rows"], facts["features"]) == (["emb"], 2, 120, 6)
    assert (facts["columns"], facts["row_groups"], facts["largest_row_group"]) == (["embedding"], 4, 40)
    assert (facts["nulls"], facts["decoded_bytes"], facts["rows_in_memory"]) == (0, 120 * 24, 30)
    assert facts["other_columns"] == {"id": "string", "weight": "double"}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("look none.parquet", "No such file: none.parquet"),
        ("look emb --with x", "has no column 'x'"),
        ("look rows.npy --id-column x", "rows.npy has no columns besides its rows"),
        ("look emb rows.npy --key x", "Remove the key"),
        ("look", "Missing argument"),
    ],
)
def test_what_can_not_be_is_told(folder, out, line, word):
    code, _, stderr = out(line)

    assert code == 2
    assert word in stderr


def test_info_of_files_is_look(folder, out):
    assert out("info emb") == out("look emb")
    assert out("info rows.npy emb --json") == out("look rows.npy emb --json")
    X.tofile("raw.bin")
    assert json.loads(out("info raw.bin --shape 120,6 --dtype float32 --json")[1])["features"] == 6
    assert out("info none.parquet emb/0.parquet")[0] == 2

"""Texts of rows from plain lines and from a column of a table: as they were written, or a clear refusal."""

import csv
import gzip
import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cosmeans.cli import run
from cosmeans.cli.texts import read_texts
from cosmeans.errors import FileError, InputError, OptionError

TEXTS = ["007", 'say "hi", you\nthere', "2020-01-01T00:00:00Z", "NA", "", "été"]
TABLES = ["t.parquet", "t.csv", "t.tsv", "t.jsonl", "t.csv.gz", "t.jsonl.gz"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the same table of two columns, `id` and `title`, in every kind of file."""
    monkeypatch.chdir(tmp_path)
    ids = range(len(TEXTS))
    parquet.write_table(pyarrow.table({"id": list(ids), "title": TEXTS}), "t.parquet")
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        with open(name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([("id", "title"), *zip(ids, TEXTS, strict=True)])
    lines = [json.dumps({"id": i, "title": text}) + "\n" for i, text in zip(ids, TEXTS, strict=True)]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    for name in ("t.csv", "t.jsonl"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    return tmp_path


@pytest.mark.parametrize("name", TABLES)
def test_a_column_gives_its_cells_as_they_were_written(folder, name):
    assert read_texts(folder / name, len(TEXTS), "title") == TEXTS
    assert read_texts(folder / name, len(TEXTS), "id") == [str(i) for i in range(len(TEXTS))]


@pytest.mark.parametrize("name", TABLES)
def test_a_column_is_named_unless_there_is_only_one(folder, name):
    with pytest.raises(OptionError, match=r"2 columns: name the one with the texts by --column \(id, title\)"):
        read_texts(folder / name, len(TEXTS))
    with pytest.raises(OptionError, match=r"has no such column. It has: id, title"):
        read_texts(folder / name, len(TEXTS), "titel")
    (folder / "one.csv").write_text("title\na\nb\n")
    assert read_texts(folder / "one.csv", 2) == ["a", "b"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_from_any_editor(folder, ending, mark):
    (folder / "lines.txt").write_bytes(mark + ending.join(["été", "", "b\rc", ""]).encode())
    (folder / "lines.jsonl").write_bytes(mark + b'{"title": "a"}' + ending.encode())

    assert read_texts(folder / "lines.txt", 3) == ["été", "", "b\rc"]
    assert read_texts(folder / "lines.jsonl", 1) == ["a"]


def test_a_cell_that_is_missing_is_an_empty_text(folder):
    (folder / "gaps.jsonl").write_text('{"title": "a"}\n{"id": 1}\n{"title": null}\n')
    assert read_texts(folder / "gaps.jsonl", 3, "title") == ["a", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("bad.parquet", b"", FileError, "bad.parquet can't be read as .parquet"),
        ("bad.csv", b"a,b\n1,2,3\n", FileError, "Expected 2 columns, got 3"),
        ("bad.csv", b"a\n\xff\n", FileError, "invalid UTF8"),
        ("bad.jsonl", b"{\n", FileError, "line 1 is not JSON"),
        ("bad.jsonl", b"[1]\n", FileError, "line 1 is no JSON object"),
        ("bad.csv.gz", b"a\n", FileError, "can't be read as text"),
        ("bad.txt", b"\xff\n", FileError, "Needed: UTF-8 lines"),
        ("short.csv", b"a\n1\n", InputError, "short.csv has 1 rows, the embeddings have 2 rows"),
    ],
)
def test_what_can_not_be_read_is_told(tmp_path, name, content, error, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read_texts(tmp_path / name, 2)


def test_a_column_of_plain_lines_is_refused(tmp_path):
    with pytest.raises(OptionError, match="is read as plain lines"):
        read_texts(tmp_path / "texts.txt", 2, "title")


def test_commands_take_a_column(folder, capsys):
    np.save("rows.npy", np.eye(6, 8, dtype=np.float32) + 0.1)

    for line in (
        "fit rows.npy -k 2 --texts t.parquet --column title --out fit",
        "exemplars fit rows.npy -m 6 --texts t.csv --column title --out best.csv",
        "evaluate fit rows.npy --classes t.jsonl --column title --json",
    ):
        assert run(line.split()) == 0
    assert "- 007\n" in (folder / "fit" / "clusters.md").read_text(encoding="utf-8")
    assert "été" in (folder / "best.csv").read_text(encoding="utf-8")
    assert "purity" in capsys.readouterr().out

"""Texts of rows from plain lines and from a column of a table: as they were written, or a clear refusal."""

import csv
import gzip
import json
import os
import tracemalloc

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cosmeans.cli import run
from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.rows.texts import read_texts
from refusing import leave_memory

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
        ("bad.jsonl", b"[1]\n", FileError, "line 1 is not a JSON object"),
        ("bad.csv.gz", b"a\n", FileError, "can't be read as text"),
        ("bad.txt", b"\xff\n", FileError, "Use UTF-8 lines"),
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


@pytest.mark.parametrize("name", ["T.CSV", "T.TSV", "T.PARQUET", "T.JSONL", "T.CSV.GZ", "t.Jsonl.gz"])
def test_the_case_of_a_suffix_does_not_matter(folder, name):
    (folder / name.lower()).rename(folder / name)

    assert read_texts(folder / name, len(TEXTS), "title") == TEXTS


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("texts", [["a", "", "b"], ["", "a", ""], ["", "", ""]])
def test_an_empty_line_of_a_table_of_one_column_is_an_empty_text(tmp_path, texts, ending):
    (tmp_path / "one.csv").write_text(ending.join(["title", *texts, ""]), newline="")
    (tmp_path / "two.csv").write_text(
        ending.join(["n,title", "", *(f"1,{text}" for text in texts), "", ""]), newline=""
    )

    assert read_texts(tmp_path / "one.csv", 3) == texts
    assert read_texts(tmp_path / "two.csv", 3, "title") == texts


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_two_columns_of_one_name_are_told(tmp_path, name):
    table = pyarrow.table([["a"], ["b"]], names=["title", "title"])
    (csv_of if name == "t.csv" else parquet.write_table)(table, tmp_path / name)

    with pytest.raises(FileError, match=r"has 2 columns called title. Rename all but one"):
        read_texts(tmp_path / name, 1, "title")


def csv_of(table, path):
    path.write_text(",".join(table.column_names) + "\na,b\n")


def test_the_cells_of_any_column_are_texts_or_an_error_that_names_the_file(tmp_path):
    columns = {
        "numbers": pyarrow.array([1, None], pyarrow.int16()),
        "dates": pyarrow.array([0, 1], pyarrow.date32()),
        "times": pyarrow.array([0, 1], pyarrow.timestamp("ns")),
        "spans": pyarrow.array([0, 1], pyarrow.duration("ns")),
        "lists": pyarrow.array([["a", "b"], []]),
        "records": pyarrow.array([{"x": 1}, None]),
        "words": pyarrow.array(["a", "a"]).dictionary_encode(),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")

    assert read_texts(tmp_path / "t.parquet", 2, "numbers") == ["1", ""]
    assert read_texts(tmp_path / "t.parquet", 2, "dates") == ["1970-01-01", "1970-01-02"]
    assert read_texts(tmp_path / "t.parquet", 2, "lists") == ["['a', 'b']", "[]"]
    assert read_texts(tmp_path / "t.parquet", 2, "words") == ["a", "a"]
    for name in ("times", "spans", "records"):
        try:
            assert len(read_texts(tmp_path / "t.parquet", 2, name)) == 2
        except FileError as error:
            assert "t.parquet can't be read as .parquet" in str(error)  # noqa: PT017


@pytest.mark.linux
@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.txt.gz", "t.csv.gz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing"])
def test_only_regular_files_are_read(tmp_path, name, kind):
    path = tmp_path / name
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()

    with pytest.raises(FileError, match=rf"{name} is not a file but a {kind}|No such file: .*{name}"):
        read_texts(path, 2)


@pytest.mark.parametrize("name", ["t.txt.gz", "t.csv.gz", "t.jsonl.gz"])
@pytest.mark.parametrize("content", ["\n", "a,b,c,d\n", "x" * 3000 + "\n"], ids=len)
def test_a_packed_file_of_texts_without_end_is_not_unpacked(tmp_path, name, content, monkeypatch):
    """What is held stays small, and reading ends soon."""
    leave_memory(monkeypatch, 40_000)
    head = {"t.csv.gz": "a,b,c,d\n" if "," in content else "a\n"}.get(name, "")
    line = '{"a": ""}\n' if name == "t.jsonl.gz" else content
    with gzip.open(tmp_path / name, "wt", compresslevel=1) as file:
        file.write(head + line * (4_000_000 // len(line)))

    with pytest.raises((FileError, InputError), match=r"has more than 1020 (lines|rows)|more than 10.0 kB of texts"):
        read_texts(tmp_path / name, 10, "a" if name != "t.txt.gz" and "," in content else None)


def test_a_line_without_end_is_told(tmp_path):
    packed = gzip.compress(bytes(1 << 23).replace(b"\0", b"a"), 1) * 9  # a little more than a text may have
    for name in ("t.txt.gz", "t.csv.gz", "t.jsonl.gz"):
        (tmp_path / name).write_bytes(packed)

        with pytest.raises(FileError, match=rf"{name} can't be read as text"):
            read_texts(tmp_path / name, 10)


def test_a_dictionary_of_long_texts_is_not_written_out(tmp_path):
    table = pyarrow.table({"title": pyarrow.array(["x" * 500_000] * 100).dictionary_encode()})
    parquet.write_table(table, tmp_path / "t.parquet", dictionary_pagesize_limit=1 << 26)

    tracemalloc.start()
    try:
        texts = read_texts(tmp_path / "t.parquet", 100)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert len(texts) == 100
    assert texts[0] is texts[99]


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_json_is_an_error_that_names_the_line(tmp_path, depth):
    (tmp_path / "t.jsonl").write_text('{"a": "b"}\n' + "[" * depth + "\n")

    with pytest.raises(FileError, match=r"t.jsonl, line 2 is not (a JSON object|JSON)"):
        read_texts(tmp_path / "t.jsonl", 2)

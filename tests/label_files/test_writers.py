"""Tables of labels in each kind of file: what is carried stays as it is in the files of rows, in their order."""

import csv
import json
import os

import numpy as np
import pyarrow
import pytest
from pyarrow import feather, parquet

from cosmeans import KMeans
from cosmeans.cli import run
from files_of import lists

N = 70_000  # more than a chunk
X = np.random.default_rng(0).standard_normal((N, 2)).astype(np.float32)
HOSTILE = ["=1+1", "@SUM(A1)", "-5", "+3.5", "007", "", "a,b", 'say "no"', "two\nlines", "1e5", "-2+3", "ü"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = KMeans(2, random_state=0, verbose=0)
    model.centers = np.eye(2)
    model.save("model")
    return tmp_path


def predicted(rows):
    return np.where(rows[:, 0].astype(float) >= rows[:, 1].astype(float), 0, 1)


def done(line):
    assert run([*line.split(), "-q"]) == 0


def test_parquet_keeps_types_nulls_and_order_over_many_chunks(folder):
    """Row groups of 999 rows never end where a chunk does."""
    columns = {
        "number": pyarrow.array([None if n % 7 == 0 else n for n in range(N)], pyarrow.int32()),
        "embedding": lists(X),
        "text": [None if n % 11 == 0 else f"text {n}" for n in range(N)],
        "when": pyarrow.array(np.arange(N), pyarrow.timestamp("ms", "UTC")),
        "kind": pyarrow.array([str(n % 3) for n in range(N)]).dictionary_encode(),
        "parts": lists(np.arange(2 * N).reshape(N, 2)),
        "id": pyarrow.array(np.arange(N)[::-1] + (1 << 60), pyarrow.uint64()),
    }
    rows = pyarrow.table(columns)
    parquet.write_table(rows, "a.parquet", row_group_size=999)
    feather.write_feather(rows, "b.feather", chunksize=777)
    names = ["number", "text", "when", "kind", "parts"]

    done(
        f"predict model a.parquet b.feather --embedding embedding --out labels --id-column id --with {','.join(names)}"
    )
    done(f"predict model a.parquet --embedding embedding --out all.parquet --id-column id --with {','.join(names)}")

    for path in ("labels/a.parquet", "labels/b.parquet", "all.parquet"):
        found = parquet.read_table(path)
        old = ["label"] if path == "all.parquet" else []
        assert found.column_names == ["row", "id", "cluster", "similarity", *names, *old]
        assert found["row"].to_pylist() == list(range(N))
        assert np.array_equal(found["cluster"], predicted(X))
        for name in ("id", *names):
            expected = rows[name].cast(pyarrow.string()) if name == "kind" else rows[name]
            assert found[name].equals(expected), name
    assert parquet.ParquetFile("all.parquet").metadata.num_row_groups == 2
    group = parquet.ParquetFile("all.parquet").metadata.row_group(0)
    encoded = {group.column(i).path_in_schema: group.column(i).has_dictionary_page for i in range(group.num_columns)}
    assert not encoded["row"]
    assert not encoded["similarity"]
    assert encoded["cluster"]


def test_csv_stays_csv_with_its_cells_as_they_were_written(folder):
    x = X[: len(HOSTILE)]
    with open("a.csv", "w", newline="") as file:
        lines = [[f"{n:04d}", json.dumps(x[n].tolist()), text, -n] for n, text in enumerate(HOSTILE)]
        csv.writer(file).writerows([["id", "embedding", "text", "minus"], *lines])

    done("predict model a.csv --out labels --id-column id --with text,minus")

    with open("labels/a.csv", newline="") as file:
        head, *found = csv.reader(file)
    assert head == ["row", "id", "cluster", "similarity", "text", "minus"]
    columns = dict(zip(head, zip(*found, strict=True), strict=True))
    assert columns["id"] == tuple(f"{n:04d}" for n in range(len(x)))
    assert columns["cluster"] == tuple(map(str, predicted(x)))
    assert columns["minus"] == tuple(str(-n) for n in range(len(x)))
    formulas = {"=1+1", "@SUM(A1)", "-2+3"}  # what a spreadsheet would act on, and no number
    assert columns["text"] == tuple("'" + text if text in formulas else text for text in HOSTILE)
    cosines = x.max(axis=1).astype(float) / np.linalg.norm(x.astype(float), axis=1)
    assert np.abs(np.array(columns["similarity"], float) - cosines).max() < 1e-6


@pytest.mark.parametrize("suffix", ["tsv", "ndjson", "jsonl.gz", "json"])
def test_other_files_of_text_get_a_table_of_their_kind(folder, suffix):
    import gzip

    separator = "\t"
    if suffix == "tsv":
        text = "id\tembedding\n" + "".join(f"{n}{separator}{row.tolist()}\n" for n, row in enumerate(X[:5]))
    else:
        text = "".join(json.dumps({"id": n, "embedding": row.tolist()}) + "\n" for n, row in enumerate(X[:5]))
    with (gzip.open if suffix.endswith("gz") else open)(f"a.{suffix}", "wt") as file:
        file.write(text)

    done(f"predict model a.{suffix} --out labels --id-column id")

    assert sorted(os.listdir("labels")) == ["_manifest.json", "a.csv" if suffix == "tsv" else "a.jsonl"]


def test_json_lines_stay_json_lines_with_all_digits(folder):
    records = [
        {"embedding": X[n].tolist(), "id": 2**62 + n, "text": text, "x": None if n % 2 else n + 0.1}
        for n, text in enumerate(HOSTILE)
    ]
    with open("a.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)

    done("predict model a.jsonl --out labels --id-column id --with text,x")

    with open("labels/a.jsonl", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert [list(record) for record in found] == [["row", "id", "cluster", "similarity", "text", "x"]] * len(HOSTILE)
    assert [record["id"] for record in found] == [record["id"] for record in records]
    assert [record["text"] for record in found] == HOSTILE
    assert [record["x"] for record in found] == [record["x"] for record in records]
    assert [record["cluster"] for record in found] == predicted(X[: len(HOSTILE)]).tolist()
    assert [record["row"] for record in found] == list(range(len(HOSTILE)))


def test_text_files_can_have_tables_of_parquet(folder):
    with open("a.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"embedding": row.tolist(), "n": 2}) + "\n" for row in X[:9])

    done("predict model a.jsonl --out labels --with n --labels parquet")

    assert parquet.read_table("labels/a.parquet")["n"].to_pylist() == [2.0] * 9


def test_a_carried_column_called_label_takes_the_place_of_the_old_name(folder):
    parquet.write_table(pyarrow.table({"embedding": lists(X[:9]), "label": ["mine"] * 9}), "a.parquet")

    done("predict model a.parquet --out all.parquet --with label")

    found = parquet.read_table("all.parquet")
    assert found.column_names == ["row", "cluster", "similarity", "label"]
    assert found["label"].to_pylist() == ["mine"] * 9


def test_files_of_several_types_have_one_type_in_one_table(folder, capsys):
    for name, kind in (("a", pyarrow.int32()), ("b", pyarrow.int64()), ("c", pyarrow.string())):
        ids = pyarrow.array([str(n) for n in range(9)]).cast(kind)
        parquet.write_table(pyarrow.table({"embedding": lists(X[:9]), "id": ids}), f"{name}.parquet")

    done("predict model a.parquet b.parquet --out all.parquet --id-column id")

    assert parquet.read_table("all.parquet")["id"].to_pylist() == [*range(9)] * 2
    assert run(["predict", "model", "a.parquet", "c.parquet", "--out", "no.parquet", "--id-column", "id"]) == 2
    assert "types in the files that don't go together" in capsys.readouterr().err
    done("predict model a.parquet c.parquet --out labels --id-column id")


def test_a_column_that_parquet_can_not_hold_is_told(folder, capsys):
    odd = pyarrow.array([(1, 2, 3)] * 9, pyarrow.month_day_nano_interval())
    feather.write_feather(
        pyarrow.table({"embedding": lists(X[:9]), "odd": odd}), "a.feather", compression="uncompressed"
    )

    assert run(["predict", "model", "a.feather", "--out", "labels", "--with", "odd"]) == 2

    assert "The column 'odd' can't be carried to Parquet: it is of type month_day_nano" in capsys.readouterr().err
    assert not (folder / "labels").exists()

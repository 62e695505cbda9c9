"""Rows on the command line: files of every kind, and the columns of theirs that go along with results."""

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from cosmeans import KMeans
from cosmeans.cli import run
from files_of import lists, table

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two shards of a table with texts, and a model of their rows."""
    monkeypatch.chdir(tmp_path)
    texts = pyarrow.array([f"text {number}" for number in range(120)])
    whole = table(X).append_column("text", texts)
    (tmp_path / "emb").mkdir()
    for number in range(2):
        parquet.write_table(whole.slice(60 * number, 60), tmp_path / "emb" / f"part-{number}.parquet")
    parquet.write_table(whole, tmp_path / "all.parquet")
    np.save(tmp_path / "rows.npy", X)
    KMeans(4, epochs=3, random_state=0, verbose=0).fit(X).save("model")
    return tmp_path


@pytest.mark.parametrize("paths", [["emb"], ["emb/*.parquet"], ["emb/part-0.parquet", "emb/part-1.parquet"]])
def test_fit_takes_folders_patterns_and_files(folder, paths):
    assert run(["fit", *paths, "-k", "4", "--out", "new", "-q"]) == 0
    assert run(["fit", "rows.npy", "-k", "4", "--out", "old", "-q"]) == 0

    tables = [parquet.read_table(f"new/labels/part-{number}.parquet") for number in range(2)]
    assert np.array_equal(pyarrow.concat_tables(tables)["cluster"], np.load("old/labels.npy"))


def test_results_are_named_after_the_folder(folder):
    assert run(["fit", "emb/*.parquet", "-k", "4", "-q"]) == 0

    assert (folder / "cosmeans-emb" / "labels" / "part-1.parquet").exists()


def test_columns_go_along_with_results(folder):
    assert (
        run(["fit", "emb", "-k", "4", "--out", "new", "--id-column", "id", "--with", "text", "--column", "text", "-q"])
        == 0
    )
    assert run(["fit", "all.parquet", "-k", "4", "--out", "one", "--id-column", "id", "--with", "text", "-q"]) == 0
    assert run(["predict", "model", "emb", "--id-column", "id", "--out", "labels.parquet", "-q"]) == 0
    assert run(["outliers", "model", "emb", "--with", "text,id", "--quantile", "0.1", "--out", "worst.csv", "-q"]) == 0
    assert (
        run(["dedup", "model", "emb", "--id-column", "id", "--threshold", "0.5", "--removed", "gone.parquet", "-q"])
        == 0
    )

    labels = parquet.read_table("one/labels.parquet")
    assert labels.column_names == ["row", "id", "cluster", "similarity", "text", "label"]
    assert labels.column("label") == labels.column("cluster")
    assert labels.column("id").to_pylist() == [f"{number:03d}" for number in [*range(120)]]
    assert "text 7" in (folder / "new" / "clusters.md").read_text(encoding="utf-8")
    assert parquet.read_table("labels.parquet").column_names == ["row", "id", "cluster", "similarity", "label"]
    worst = csv.read_csv("worst.csv", convert_options=csv.ConvertOptions(column_types={"id": pyarrow.string()}))
    rows = worst.column("row").to_pylist()
    assert worst.column("text").to_pylist() == [f"text {row}" for row in rows]
    assert worst.column("id").to_pylist() == [f"{row:03d}" for row in rows]
    gone = parquet.read_table("gone.parquet")
    assert gone.column("id of original").to_pylist() == [f"{row:03d}" for row in gone.column("original").to_pylist()]


def test_weights_of_a_column(folder):
    assert run(["fit", "emb", "-k", "4", "--weight-column", "weight", "--out", "new", "-q"]) == 0

    expected = KMeans(4, random_state=0, verbose=0).fit(X, sample_weight=np.arange(120) % 5.0)
    tables = [parquet.read_table(f"new/labels/part-{number}.parquet") for number in range(2)]
    assert np.array_equal(pyarrow.concat_tables(tables)["cluster"], expected.labels_)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("fit two.parquet -k 2", 'columns of lists of numbers: "a", "b". Name one with --embedding.'),
        ("fit emb -k 2 --embedding x", "has no such column"),
        ("fit emb -k 2 --with x", "has no column 'x'. Its columns: id, embedding, weight, text"),
        ("fit rows.npy -k 2 --with x", "rows.npy has no columns besides its rows"),
        ("fit rows.npy -k 2 --id-column x", "rows.npy has no columns besides its rows"),
        ("fit emb -k 2 --weights rows.npy --weight-column weight", "both give weights"),
        ("fit raw.bin -k 2 --shape 3x4 --dtype float32", "--shape 3x4 must be two numbers"),
        ("predict model emb --with id --out labels.npy", "holds labels alone"),
        ("predict model emb --with id --labels npy --out labels", "columns are carried to tables"),
        ("predict model emb --labels npy --partition-by-cluster --out labels", "Partitions by cluster are tables"),
        ("predict model emb --labels csv --out labels", "--labels must be one of parquet, npy; got 'csv'"),
        ("predict model emb --labels parquet --out labels.npy", "--labels has no effect for one file of labels"),
        ("predict model emb --partition-by-cluster", "Name a folder: --out labels.npy/"),
        ("predict model emb --with id,cluster --out labels", "'cluster' can't be carried: the table has one"),
        ("predict model emb --out model", "model is a model folder"),
        ("predict model emb --out rows.npy/", "rows.npy is not a folder"),
        ("outliers model emb --with similarity", "'similarity' can't be carried: the table has one"),
        ("fit emb -k 2 --labels npy --with id", "columns are carried to tables"),
        ("fit emb -k 2 --file-order size", "--file-order must be one of path, natural; got 'size'"),
    ],
)
def test_what_can_not_be_is_told(folder, capsys, line, word):
    parquet.write_table(pyarrow.table({"a": lists(X), "b": lists(X)}), "two.parquet")
    if ",cluster" in line:
        parts = [parquet.read_table(path).append_column("cluster", [[1] * 60]) for path in sorted(folder.glob("emb/*"))]
        parquet.write_table(pyarrow.concat_tables(parts), "emb/part-0.parquet")

    assert run(line.split()) == 2
    assert word in capsys.readouterr().err

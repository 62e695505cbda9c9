"""Labels of rows of files, piece by piece, with tables of their own: from Python as from the command line."""

import os

import numpy as np
import pandas
import pytest
import torch
from pyarrow import parquet

from beginnings import no_work
from cosmeans import KMeans, open_rows
from cosmeans.cli import run
from cosmeans.errors import FeatureNamesWarning, InputError, OptionError, OutputExistsError, ZeroRowsWarning
from files_of import json_lines, table

X = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32)
X[[41, 250]] = 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("emb")
    for name, span in {"a": slice(0, 100), "b": slice(100, 300)}.items():
        parquet.write_table(table(X[span]), f"emb/{name}.parquet", row_group_size=33)
    return tmp_path


def new(**options):
    return KMeans(5, random_state=0, verbose=0, **{"zero_rows": "skip", **options})


def tables():
    return pandas.concat([pandas.read_parquet(f"labels/{name}.parquet") for name in "ab"])


def test_a_fit_writes_the_labels_that_it_has(folder):
    kmeans = new().fit("emb", labels_out="labels")

    assert np.array_equal(kmeans.labels_, new().fit(X).labels_)
    assert tables().columns.tolist() == ["row", "cluster", "similarity"]
    assert np.array_equal(tables()["cluster"], kmeans.labels_)
    assert np.array_equal(tables()["similarity"], kmeans.similarity_.astype(np.float32))
    assert tables()["row"].tolist() == [*range(100), *range(200)]


def test_predict_writes_and_returns_and_goes_on(folder):
    kmeans = new().fit(X)
    rows = open_rows("emb", id_column="id")

    found = kmeans.predict(rows, labels_out=folder / "labels")

    assert found.dtype == np.int64
    assert np.array_equal(found, kmeans.labels_)
    assert tables().columns.tolist() == ["row", "id", "cluster", "similarity"]
    before = os.stat("labels/a.parquet").st_mtime_ns
    os.remove("labels/b.parquet")
    assert np.array_equal(kmeans.predict(rows, labels_out="labels"), kmeans.labels_)
    assert os.stat("labels/a.parquet").st_mtime_ns == before
    kmeans.save("model")
    assert run(["predict", "model", "emb", "--out", "labels", "--id-column", "id", "-q"]) == 0
    assert os.stat("labels/a.parquet").st_mtime_ns == before
    other = new(epochs=1).fit(X)
    with pytest.raises(OutputExistsError, match="holds labels of another model"), no_work():
        other.predict(rows, labels_out="labels")


def test_labels_are_read_from_finished_tables_of_every_kind(folder):
    np.save("emb/c.npy", X[:30])
    json_lines(folder / "emb/d.jsonl", X[30:60])
    with open("emb/e.csv", "w") as file:
        file.write("x0,x1,x2,x3,x4,x5,x6\n" + "".join(",".join(map(str, row)) + "\n" for row in X[60:90].tolist()))
    paths = [f"emb/{name}" for name in ("a.parquet", "c.npy", "d.jsonl", "e.csv")]
    kmeans = new().fit(X)
    expected = np.concatenate([kmeans.labels_[:100], kmeans.labels_[:90]])

    for _ in range(2):
        assert np.array_equal(kmeans.predict(paths, labels_out="labels"), expected)

    assert sorted(os.listdir("labels")) == ["_manifest.json", "a.parquet", "c.parquet", "d.jsonl", "e.csv"]


@pytest.mark.parametrize("rows", [X, torch.from_numpy(X), [*X]], ids=["array", "tensor", "list"])
def test_rows_that_are_not_those_of_files_have_no_tables(folder, rows):
    kmeans = new().fit(X)
    for call in (new().fit, kmeans.predict):
        with pytest.raises(OptionError, match="labels_out writes a table for each file of rows"), no_work():
            call(rows, labels_out="labels")
    assert not os.path.exists("labels")


@pytest.mark.parametrize("labels_out", [3, b"labels", True])
def test_a_folder_of_another_kind_is_told_before_the_work(folder, labels_out):
    kmeans = new().fit(X)
    for call in (new().fit, kmeans.predict):
        with pytest.raises(TypeError, match="labels_out must be a string"), no_work():
            call("emb", labels_out=labels_out)


def test_a_folder_that_holds_labels_is_not_used_for_a_fit(folder):
    new().fit("emb", labels_out="labels")
    with pytest.raises(OutputExistsError, match="labels holds labels already"), no_work():
        new(epochs=1).fit("emb", labels_out="labels")
    os.remove("labels/_manifest.json")
    with pytest.raises(OutputExistsError, match=r"labels/a\.parquet already exists, and no _manifest"), no_work():
        new(epochs=1).fit("emb", labels_out="labels")


def test_rows_of_another_width_are_told_before_a_folder_is_made(folder):
    kmeans = new().fit(X[:, :5])
    with pytest.raises(InputError, match="7 features, but KMeans is expecting 5"), no_work():
        kmeans.predict("emb", labels_out="labels")
    kmeans.save("model")
    assert run(["predict", "model", "emb", "--out", "labels"]) == 2
    assert not os.path.exists("labels")


def test_zero_rows_are_told_once_for_all_files(folder):
    kmeans = new(zero_rows="warn", memory_limit=0)
    kmeans.centers = np.eye(5, 7)
    with pytest.warns(
        ZeroRowsWarning, match=r"2 of 300 rows .* \(the first is row 41 \(.*a.parquet, row 41\)\)"
    ) as told:
        kmeans.predict("emb", labels_out="labels")
    assert len(told) == 1
    with pytest.raises(InputError, match=r"the first is row 41 \(.*a.parquet, row 41\)"):
        kmeans.set_params(zero_rows="error").predict("emb", labels_out="others")


def test_names_of_features_are_told_once(folder):
    frame = pandas.DataFrame(X, columns=list("abcdefg"))
    kmeans = new().fit(frame)
    with pytest.warns(FeatureNamesWarning, match="does not have valid feature names") as told:
        kmeans.predict("emb", labels_out="labels")
    assert len(told) == 1


def test_a_limit_of_memory_cuts_the_rows_into_pieces_and_nobody_sees_it(folder):
    rows = np.tile(X, (600, 20))
    np.save("many.npy", rows)  # 101 MB: two pieces of 64 MiB
    kmeans = new(memory_limit=0)
    kmeans.centers = (
        np.repeat(new().fit(X).cluster_centers_, 20, axis=1).reshape(5, 7, 20).swapaxes(1, 2).reshape(5, -1)
    )
    expected = new().fit(X)

    found = kmeans.predict("many.npy", labels_out="labels")

    table = pandas.read_parquet("labels/many.parquet")
    assert table["row"].tolist() == list(range(len(rows)))
    assert np.array_equal(found, np.tile(expected.labels_, 600))
    assert np.array_equal(table["cluster"], found)
    assert np.abs(table["similarity"] - np.tile(expected.similarity_, 600)).max() < 1e-6

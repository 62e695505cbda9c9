"""Folders of labels: one table for each file of rows, whatever happens in between."""

import json
import os
import shutil
import sys

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import dataset, parquet

import refusing
from beginnings import no_work
from cosmeans import KMeans
from cosmeans.cli import run
from files_of import lists

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 6)).astype(np.float32)
X[65] = 0  # has no direction
SPANS = {"emb/a.parquet": (0, 50), "emb/deep/b.parquet": (50, 120), "emb/deep/c.parquet": (120, 150)}
IDS = [f"{number:03d}" for number in range(150)]
PREDICT = "predict model emb --out labels --id-column id --with text -q"


def write_rows(path, start, stop):
    texts = [f"text {number}" for number in range(start, stop)]
    columns = {"id": pyarrow.array(IDS[start:stop], "string"), "embedding": lists(X[start:stop])}
    table = pyarrow.table(columns | {"text": pyarrow.array(texts, "string")})
    with open(path, "wb") as file:
        parquet.write_table(table, file, row_group_size=7)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with three files of rows, and a model."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("emb/deep")
    for path, span in SPANS.items():
        write_rows(path, *span)
    KMeans(4, random_state=0, verbose=0, zero_rows="skip").fit(X).save("model")
    return tmp_path


@pytest.fixture
def truth(folder):
    """Labels and cosines in float64, by brute force."""
    unit = X.astype(float) / np.maximum(np.linalg.norm(X.astype(float), axis=1), 1e-30)[:, None]
    scores = unit @ KMeans.load("model").cluster_centers_.astype(float).T
    labels, cosines = scores.argmax(axis=1), scores.max(axis=1)
    labels[65], cosines[65] = -1, 0
    return labels, cosines


def times(path="labels"):
    return {file: os.stat(file).st_mtime_ns for file in sorted(folder_files(path)) if file.endswith(".parquet")}


def folder_files(path):
    return [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]


def test_every_file_has_a_table_of_its_rows(folder, truth):
    assert run(PREDICT.split()) == 0

    tables = {path: pandas.read_parquet(path.replace("emb", "labels")) for path in SPANS}
    for path, (start, stop) in SPANS.items():
        assert tables[path].columns.tolist() == ["row", "id", "cluster", "similarity", "text"]
        assert tables[path]["row"].tolist() == list(range(stop - start))
        assert tables[path]["id"].tolist() == IDS[start:stop]
        assert tables[path]["text"].tolist() == [f"text {number}" for number in range(start, stop)]
    everything = pandas.concat(tables.values())
    assert [str(kind) for kind in everything.dtypes[["cluster", "similarity"]]] == ["int64", "float32"]
    assert np.array_equal(everything["cluster"], truth[0])
    assert np.array_equal(everything["cluster"], KMeans.load("model").set_params(zero_rows="skip").predict(X))
    assert np.abs(everything["similarity"] - truth[1]).max() < 1e-6
    assert sorted(folder_files("labels")) == sorted(
        [path.replace("emb", "labels") for path in SPANS] + ["labels/_manifest.json"]
    )


@pytest.mark.parametrize("gone", [["deep/b"], ["a", "deep/c"], ["deep/b", "deep/c"]])
def test_finished_files_are_kept_and_the_others_are_made(folder, truth, capsys, gone):
    assert run(PREDICT.split()) == 0
    before = times()
    gone = [f"labels/{name}.parquet" for name in gone]
    for path in gone:
        os.remove(path)

    assert run([*PREDICT.removesuffix(" -q").split(), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told.pop("digest") == KMeans.load("model").digest()
    assert told == {"rows": 150, "left_out": 1, "labels": "labels", "files": 3, "kept": 3 - len(gone)}
    after = times()
    assert [path for path in before if after[path] != before[path]] == gone
    assert np.array_equal(pandas.concat(map(pandas.read_parquet, after))["cluster"], truth[0])


@pytest.mark.parametrize("broken", ["emb/deep/b.parquet", "emb/deep/c.parquet"])
def test_a_run_that_ends_in_the_middle_goes_on(folder, truth, broken, capsys):
    """A file that is corrected is not another one: nothing of it was finished."""
    whole, rows = (folder / broken).read_bytes(), parquet.read_table(broken)
    bad = X[slice(*SPANS[broken])].copy()
    bad[20, 1] = np.nan
    parquet.write_table(rows.set_column(1, "embedding", lists(bad)), broken)

    assert run(PREDICT.split()) == 2
    where = f"Row {SPANS[broken][0] + 20} ({broken}, row 20) contains NaN"
    assert where in capsys.readouterr().err
    kept = times()
    assert list(kept) == [path.replace("emb", "labels") for path in SPANS if path < broken]
    (folder / broken).write_bytes(whole)

    assert run(PREDICT.split()) == 0
    assert {path: time for path, time in times().items() if path in kept} == kept
    assert np.array_equal(pandas.concat(map(pandas.read_parquet, times()))["cluster"], truth[0])
    assert not [name for name in folder_files("labels") if name.endswith(".tmp")]


@pytest.mark.parametrize("after", range(3))
def test_a_full_disk_in_the_middle_loses_nothing_that_is_finished(folder, truth, after):
    with pytest.MonkeyPatch.context() as patch:
        refused = refusing.refuse_flush(patch, ".parquet.", after=after)
        assert run(PREDICT.split()) == 1
    assert len(refused) == after + 1
    kept = times()
    assert len(kept) == after

    assert run(PREDICT.split()) == 0

    assert {path: time for path, time in times().items() if path in kept} == kept
    assert np.array_equal(pandas.concat(map(pandas.read_parquet, times()))["cluster"], truth[0])


OTHERS = {
    "another model": (
        lambda: KMeans(4, random_state=1, verbose=0, zero_rows="skip").fit(X).save("model", force=True),
        "holds labels of another model",
    ),
    "a file was written again": (lambda: os.utime("emb/a.parquet", ns=(5, 5)), "a.parquet was changed since"),
    "a file has other rows": (lambda: write_rows("emb/a.parquet", 0, 40), "a.parquet had "),
    "one file more": (lambda: write_rows("emb/d.parquet", 0, 5), "d.parquet was not among the files"),
    "one file less": (lambda: os.remove("emb/a.parquet"), "is not among the files now"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_work_is_refused_until_force_replaces_it(folder, capsys, case):
    change, told = OTHERS[case]
    assert run(PREDICT.split()) == 0
    before = times()
    (folder / "labels" / "deep" / "mine.txt").write_text("mine")
    change()

    assert run(PREDICT.split()) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Choose another folder; on the command line --force replaces its tables." in said
    assert times() == before

    assert run([*PREDICT.split(), "--force"]) == 0
    assert run(PREDICT.split()) == 0
    expected = {os.path.join("labels", os.path.relpath(file, "emb")) for file in folder_files("emb")}
    if case == "one file less":
        expected = {"labels/b.parquet", "labels/c.parquet"}  # in their common folder
    assert set(times()) == expected
    assert (folder / "labels" / "deep" / "mine.txt").read_text() == "mine"
    manifest = json.loads((folder / "labels" / "_manifest.json").read_text())
    assert manifest["older"] == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("predict model emb --out labels --id-column id -q", 'with columns="text", this call is without columns'),
        ("predict model emb --out labels --with text -q", "with --id-column id, this call is without --id-column"),
        (f"{PREDICT} --labels parquet", "without labels, this call is with --labels parquet"),
        (
            f"{PREDICT} --partition-by-cluster",
            "without --partition-by-cluster, this call is with --partition-by-cluster",
        ),
        (f"{PREDICT} --embedding embedding", "without embedding, this call is with --embedding embedding"),
    ],
)
def test_other_options_are_refused(folder, capsys, line, told):
    assert run(PREDICT.split()) == 0

    assert run(line.split()) == 2

    assert told in capsys.readouterr().err
    assert run([*line.split(), "--force"]) == 0


def test_what_is_not_ours_is_never_replaced(folder, capsys):
    os.makedirs("labels/deep")
    (folder / "labels/deep/b.parquet").write_text("mine")

    for line in (PREDICT, f"{PREDICT} --force"):
        assert run(line.split()) == 2
        assert "labels/deep/b.parquet already exists, and no _manifest.json" in capsys.readouterr().err
    assert folder_files("labels") == ["labels/deep/b.parquet"]
    assert (folder / "labels/deep/b.parquet").read_text() == "mine"

    os.remove("labels/deep/b.parquet")
    assert run(PREDICT.split()) == 0
    write_rows("emb/d.parquet", 0, 5)
    (folder / "labels/d.parquet").write_text("mine")
    assert run([*PREDICT.split(), "--force"]) == 2
    assert "labels/d.parquet already exists and is not listed in _manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:50], "is truncated or damaged"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "that this version can read"),
        (lambda text: text.replace('"table": "a.parquet"', '"table": "../a.parquet"'), "which is not in its folder"),
        (lambda text: text.replace('"rows": 50', '"rows": -1'), "rows must be an integer"),
    ],
)
def test_a_damaged_manifest_is_told(folder, capsys, damage, told):
    assert run(PREDICT.split()) == 0
    path = folder / "labels" / "_manifest.json"
    path.write_text(damage(path.read_text()))
    before = times()

    for line in (PREDICT, f"{PREDICT} --force"):
        assert run(line.split()) == 2
        assert told in capsys.readouterr().err
    assert times() == before


def test_one_cluster_can_be_read_alone(folder, truth):
    line = "predict model emb --out labels --id-column id --partition-by-cluster -q"
    assert run(line.split()) == 0
    before = times()

    assert run(line.split()) == 0
    assert times() == before
    found = dataset.dataset("labels", partitioning="hive").to_table().to_pandas()
    assert sorted(found.columns) == ["cluster", "id", "row", "similarity"]
    found = found.sort_values("id")
    assert found["cluster"].tolist() == truth[0].tolist()
    assert np.abs(found["similarity"] - truth[1]).max() < 1e-6
    alone = parquet.read_table("labels/cluster=2/deep/b.parquet")
    assert alone["id"].to_pylist() == [IDS[row] for row in range(50, 120) if truth[0][row] == 2]
    assert alone["row"].to_pylist() == [row - 50 for row in range(50, 120) if truth[0][row] == 2]
    assert folder_files("labels/cluster=-1") == ["labels/cluster=-1/deep/b.parquet"]


def test_partitions_are_made_again_where_one_is_missing_and_replaced_by_force(folder):
    line = "predict model emb --out labels --partition-by-cluster -q"
    assert run(line.split()) == 0
    before = times()
    os.remove("labels/cluster=1/a.parquet")

    assert run(line.split()) == 0
    after = times()
    assert set(after) == set(before)
    assert {path for path in before if after[path] != before[path]} == {path for path in before if "/a.parquet" in path}

    (folder / "labels/cluster=1/mine.parquet").write_text("mine")
    assert run(f"{PREDICT} --force".split()) == 0
    assert sorted(folder_files("labels")) == sorted(
        ["labels/_manifest.json", "labels/cluster=1/mine.parquet", *(path.replace("emb", "labels") for path in SPANS)]
    )
    assert sorted(os.listdir("labels")) == ["_manifest.json", "a.parquet", "cluster=1", "deep"]


def test_a_large_file_is_cut_into_pieces_by_cluster(folder):
    """2^20 rows are sorted at once; what follows goes to more files of the same folders."""
    rows = np.tile(np.eye(2, dtype=np.float32), ((1 << 19) + 3, 1))
    np.save("many.npy", rows)
    model = KMeans(2, random_state=0, verbose=0)
    model.centers = np.eye(2)
    model.save("two")

    for _ in range(2):
        assert run(["predict", "two", "many.npy", "--out", "labels", "--partition-by-cluster", "-q"]) == 0

    names = ["cluster=0/many.from-1048576.parquet", "cluster=0/many.parquet"]
    found = sorted(os.path.relpath(path, "labels") for path in folder_files("labels") if "cluster=0" in path)
    assert found == names
    assert (
        dataset.dataset("labels/cluster=0").to_table()["row"].to_pylist()[: 1 << 19] == sorted(range(0, 1 << 20, 2))
        or dataset.dataset("labels/cluster=0").count_rows() == len(rows) // 2
    )
    parts = [parquet.read_table(f"labels/{name}")["row"].to_numpy() for name in reversed(names)]
    assert np.array_equal(np.concatenate(parts), np.arange(0, len(rows), 2))


def test_labels_alone(folder, truth):
    assert run(["predict", "model", "emb", "--out", "labels/", "--labels", "npy", "-q"]) == 0
    assert run(["predict", "model", "emb", "--out", "labels/", "--labels", "npy", "-q"]) == 0

    for path, (start, stop) in SPANS.items():
        found = np.load(path.replace("emb", "labels").replace(".parquet", ".npy"))
        assert found.dtype == np.int64
        assert np.array_equal(found, truth[0][start:stop])


def test_one_file_and_a_folder(folder, truth):
    assert run(["predict", "model", "emb/deep/b.parquet", "--out", "one/", "--with", "text", "-q"]) == 0

    assert pandas.read_parquet("one/b.parquet")["cluster"].tolist() == truth[0][50:120].tolist()


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["emb/a.parquet", "emb/deep/../a.parquet"], "is given twice"),
        (["a.npy", "a.pt"], "The labels of a.pt would be stored in a.parquet, as would a.npy"),
    ],
)
def test_two_tables_of_one_name_are_refused(folder, capsys, paths, told):
    import torch

    np.save("a.npy", X)
    torch.save(torch.from_numpy(X), "a.pt")

    assert run(["predict", "model", *paths, "--out", "labels"]) == 2

    assert told in capsys.readouterr().err
    assert not (folder / "labels").exists()


def test_files_without_rows_have_tables_without_rows(folder, truth):
    write_rows("emb/aa.parquet", 0, 0)

    for _ in range(2):
        assert run(PREDICT.split()) == 0

    empty = parquet.read_table("labels/aa.parquet")
    assert empty.schema.equals(parquet.read_schema("labels/a.parquet"))
    assert len(empty) == 0


def test_files_in_several_places_keep_their_folders(folder, truth):
    shutil.copytree("emb", "other/place/emb")

    assert run(["predict", "model", "emb/a.parquet", "other/place/emb/a.parquet", "--out", "labels", "-q"]) == 0

    names = ["labels/emb/a.parquet", "labels/other/place/emb/a.parquet"]
    assert sorted(times()) == names
    assert all(pandas.read_parquet(name)["cluster"].tolist() == truth[0][:50].tolist() for name in names)


@pytest.mark.linux
def test_names_may_hold_any_bytes(folder, truth):
    name = os.fsdecode(b"n\xff\x1b[31m.parquet")
    write_rows(os.path.join("emb", name), 0, 5)

    for _ in range(2):
        assert run(PREDICT.split()) == 0

    with open(os.path.join("labels", name), "rb") as file:
        assert parquet.read_table(file)["cluster"].to_pylist() == truth[0][:5].tolist()


def test_a_fit_of_several_files_has_the_same_tables_in_its_folder(folder, capsys):
    fit = "fit emb -k 4 --out result --with text --zero-rows skip"
    assert run([*fit.split(), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["files"]["tables"] == os.path.join("result", "labels")
    assert sorted(os.listdir("result")) == ["convergence.png", "history.json", "labels", "model"]
    model = KMeans(4, random_state=0, verbose=0, zero_rows="skip").fit(X)
    tables = [pandas.read_parquet(path.replace("emb", "result/labels")) for path in SPANS]
    assert tables[0].columns.tolist() == ["row", "cluster", "similarity", "text"]
    assert np.array_equal(pandas.concat(tables)["cluster"], model.labels_)
    assert np.array_equal(pandas.concat(tables)["similarity"], model.similarity_.astype(np.float32))

    before = times("result/labels")
    assert (
        run(["predict", "result", "emb", "--out", "result/labels", "--with", "text", "-q"]) == 0
    )  # the same model and rows
    assert times("result/labels") == before
    assert run([*fit.split(), "--force", "-q", "--partition-by-cluster"]) == 0
    assert sorted(os.listdir("result/labels")) == [
        "_manifest.json", "cluster=-1", "cluster=0", "cluster=1", "cluster=2", "cluster=3",
    ]  # fmt: skip
    (folder / "result/labels/mine.txt").write_text("mine")
    assert run([*fit.split(), "--force"]) == 2
    assert "result/labels also holds files that are not outputs (mine.txt)" in capsys.readouterr().err
    os.remove("result/labels/mine.txt")
    assert run(["fit", "emb/a.parquet", "-k", "4", "--out", "result", "--force", "-q"]) == 0
    assert sorted(os.listdir("result")) == ["convergence.png", "history.json", "labels.npy", "labels.parquet", "model"]


@pytest.mark.parametrize(
    ("path", "told"),
    [("emb/a.parquet", "has changed since it was opened"), ("rows.npy", "was changed while its rows were labelled")],
)
def test_a_file_that_changes_meanwhile_is_told(folder, capsys, monkeypatch, path, told):
    """When it is opened again; one that is mapped, which is not, at the end."""
    np.save("rows.npy", X)
    flush = os.fsync

    def flushing(descriptor):
        os.utime(path, ns=(7, 7))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushing)
    assert run(["predict", "model", path, "--out", "labels", "-q"]) == 2
    assert f"{path} {told}" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named_before_any_work(folder, capsys, monkeypatch):
    np.save("rows.npy", X)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as Python remembers what can't be imported

    for line in ("predict model rows.npy --out labels", "predict model rows.npy --out labels.parquet"):
        with no_work():
            assert run(line.split()) == 2
        assert 'pip install "cosmeans[tables]"' in capsys.readouterr().err
    assert not (folder / "labels").exists()
    assert run(["predict", "model", "rows.npy", "--out", "labels", "--labels", "npy", "-q"]) == 0


def test_many_small_files_are_labelled_together_and_finished_one_by_one(folder, truth, capsys):
    """More files than those after each of which the manifest is written."""
    os.mkdir("many")
    for number in range(150):
        np.save(f"many/{number:03d}.npy", X[number : number + 1])
    np.save("many/140.npy", np.full((1, 6), np.nan, np.float32))
    line = ["predict", "model", "many", "--out", "labels", "--labels", "npy", "--json"]

    assert run(line) == 2
    assert "Row 140 (many/140.npy, row 0) contains NaN" in capsys.readouterr().err
    made = {name: os.stat(f"labels/{name}").st_mtime_ns for name in os.listdir("labels") if name.endswith(".npy")}
    assert len(made) == 140
    inputs = json.loads((folder / "labels/_manifest.json").read_text())["inputs"]
    assert [entry["left_out"] for entry in inputs] == [int(n == 65) if n < 140 else None for n in range(150)]

    np.save("many/140.npy", X[140:141])
    assert run(line) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 140
    assert {name: os.stat(f"labels/{name}").st_mtime_ns for name in made} == made
    assert [np.load(f"labels/{number:03d}.npy").tolist() for number in range(150)] == truth[0].reshape(-1, 1).tolist()

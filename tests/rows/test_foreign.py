"""Files that other tools wrote (scripts/make_foreign.py, which is not run here) hold the same rows, bit for bit."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmeans import KMeans, open_rows
from cosmeans.errors import FileError

FOLDER = Path(__file__).parent.parent / "data" / "foreign"
X = np.load(FOLDER / "reference.npy")
NULL = 30
REFUSED = "pyarrow-1.feather"
LIBRARIES = {".h5": "h5py", ".hdf5": "h5py", ".zarr": "zarr", ".lance": "lance"}
NAMES = sorted({path.name for path in FOLDER.iterdir()} - {"README.md", REFUSED})
TABLES = [
    name
    for name in NAMES
    if name.endswith((".parquet", ".arrow", ".feather", ".jsonl", ".csv", ".lance")) or name.startswith("spark")
]
WITH_IDS = [name for name in TABLES if name != "pandas-wide.csv"]


def found(name, **options):
    library = LIBRARIES.get(Path(name).suffix)
    if library is not None:
        pytest.importorskip(library)
    return open_rows(FOLDER / name, **options)


def bits(rows):
    """Every NaN is one: a null has no bits of its own."""
    rows = np.asarray(rows, np.float32)
    return np.where(np.isnan(rows), np.float32(np.nan), rows).view(np.int32)


def test_the_reference_is_what_was_asked_for():
    assert X.shape == (61, 8)
    assert np.isnan(X[NULL]).all()
    assert np.isfinite(np.delete(X, NULL, axis=0)).all()
    assert len(NAMES) > 25


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_other_tools_have_the_same_bits(name):
    rows = found(name)

    assert rows.shape == X.shape
    assert np.array_equal(bits(rows.read(slice(0, 61))), bits(X))
    order = np.array([60, 3, 30, 3, 0])
    assert np.array_equal(bits(rows.gather(torch.from_numpy(order))), bits(X[order]))


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_of_them_is_the_same(name):
    options = {"n_clusters": 5, "random_state": 0, "verbose": 0, "nonfinite": "skip", "epochs": 3}
    with pytest.warns(UserWarning, match="contains NaN"):
        model = KMeans(**options).fit(found(name))
    with pytest.warns(UserWarning, match="contains NaN"):
        expected = KMeans(**options).fit(X)

    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert np.array_equal(model.labels_, expected.labels_)
    assert model.labels_[NULL] == -1


@pytest.mark.parametrize("name", WITH_IDS)
def test_ids_and_texts_come_along(name):
    rows = found(name, id_column="id")

    batches = [batch.to_pydict() for batch in rows.columns(["id", "text"])]

    assert [int(value) for batch in batches for value in batch["id"]] == list(range(61))
    assert [value for batch in batches for value in batch["text"]] == [f"text {number}, ä" for number in range(61)]


def test_a_feather_file_of_version_1_is_told():
    with pytest.raises(FileError, match=r"pyarrow-1\.feather is a Feather file of version 1.*Convert it once"):
        open_rows(FOLDER / REFUSED)


def test_the_page_says_who_wrote_each_and_all_of_it_is_small():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert sorted(re.findall(r"^\| `([^`]+)` \| \w+ [\d.]+ \|$", page, re.MULTILINE)) == sorted([*NAMES, REFUSED])
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2_000_000

"""Cosines of rows with every centroid, in memory and in a file."""

import os
import re

import numpy as np
import pytest
import torch
from pyarrow import parquet

import refusing
from beginnings import no_work
from cosmeans import KMeans, open_rows
from cosmeans.errors import OptionError, OutputExistsError, WriteError
from files_of import table

X = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32)
X[41] = 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, span in {"a": slice(0, 100), "b": slice(100, 300)}.items():
        parquet.write_table(table(X[span]), f"{name}.parquet", row_group_size=33)
    return tmp_path


@pytest.fixture
def kmeans():
    return KMeans(5, random_state=0, verbose=0, zero_rows="skip").fit(X)


def truth(kmeans):
    unit = X.astype(float) / np.maximum(np.linalg.norm(X.astype(float), axis=1), 1e-30)[:, None]
    return unit @ kmeans.cluster_centers_.astype(float).T


GIVEN = {
    "files": lambda: "*.parquet",
    "opened": lambda: open_rows(["a.parquet", "b.parquet"]),
    "arrays": lambda: X,
    "tensors": lambda: torch.from_numpy(X),
    "batches": lambda: lambda: iter([X[:50], X[50:]]),
}


@pytest.mark.parametrize("given", GIVEN)
def test_cosines_in_a_file_have_the_bits_of_those_in_memory(folder, kmeans, given):
    expected = kmeans.transform(X)

    found = kmeans.transform(GIVEN[given](), out="cosines.npy")

    assert np.abs(expected - truth(kmeans)).max() < 1e-6
    assert isinstance(found, np.memmap)
    assert found.mode == "r"
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert np.array_equal(np.load("cosines.npy"), expected)
    assert sorted(os.listdir()) == ["a.parquet", "b.parquet", "cosines.npy"]


def test_many_rows_are_written_in_pieces_and_batches(folder, kmeans):
    np.save("many.npy", np.tile(X, (9000, 1)))  # 76 MB: two pieces

    found = kmeans.set_params(memory_limit=0).transform("many.npy", out="cosines.npy")

    assert np.array_equal(found, np.tile(kmeans.transform(X), (9000, 1)))


def test_files_whose_cosines_exceed_the_limit_need_a_file(folder, kmeans):
    kmeans.set_params(memory_limit=4 * 300 * 5 - 1)
    told = "The cosines of 300 rows with all clusters take 6.0 kB of memory, and 6.0 kB are allowed. Pass out="

    with pytest.raises(OptionError, match=re.escape(told)), no_work():
        kmeans.transform("*.parquet")

    assert kmeans.transform(X).shape == (300, 5)  # rows in memory are the caller's own affair
    assert kmeans.transform("*.parquet", out="cosines.npy").shape == (300, 5)
    assert kmeans.set_params(memory_limit=4 * 300 * 5).transform("*.parquet").shape == (300, 5)


def test_without_a_limit_a_quarter_of_the_free_memory_is_it(folder, kmeans, monkeypatch):
    refusing.leave_memory(monkeypatch, 4 * 4 * 300 * 5 - 4)
    with pytest.raises(OptionError, match="Pass out="), no_work():
        kmeans.transform("*.parquet")


@pytest.mark.parametrize(
    ("out", "error", "told"),
    [
        ("cosines.csv", OptionError, "cosines are written as .npy"),
        ("a.npy", OutputExistsError, "a.npy already exists. Choose another name, or remove it."),
        ("a.parquet/b.npy", WriteError, "a part of the path is a file|is not a folder"),
        (3, TypeError, "out must be a string"),
    ],
)
def test_a_file_that_can_not_be_is_told_before_the_work(folder, kmeans, out, error, told):
    (folder / "a.npy").write_text("mine")

    with pytest.raises(error, match=told), no_work():
        kmeans.transform("*.parquet", out=out)

    assert (folder / "a.npy").read_text() == "mine"


def test_a_disk_that_gets_full_leaves_nothing(folder, kmeans):
    with pytest.MonkeyPatch.context() as patch:
        refusing.refuse_flush(patch, "cosines")
        with pytest.raises(WriteError, match=r"No space left to write cosines\.npy"):
            kmeans.transform("*.parquet", out="cosines.npy")

    assert sorted(os.listdir()) == ["a.parquet", "b.parquet"]

"""Files in Fortran order: the bits of the same rows in any other order, and how much is read."""

import os

import numpy as np
import pytest
import torch

from cosmeans import KMeans, open_rows
from cosmeans.errors import ColumnOrderWarning, FileError
from refusing import leave_memory

RNG = np.random.default_rng(0)
# three strips of 64 KB and a part of one
X = RNG.standard_normal((40_000, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "i1", "<u2"])
def test_rows_are_those_of_the_array(tmp_path, dtype):
    rows = np.abs(20 * X).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(rows))

    opened = open_rows(tmp_path / "a.npy")

    assert (opened.shape, opened.mapped) == (rows.shape, False)
    for start, stop in ((0, 40_000), (0, 1), (16_383, 16_385), (8000, 33_000), (39_999, 40_000), (7, 7), (42, 43)):
        assert np.array_equal(opened.read(slice(start, stop)).double().numpy(), rows[start:stop].astype(float))
    order = RNG.permutation(40_000)[:300]
    assert np.array_equal(opened.gather(torch.from_numpy(order)).double().numpy(), rows[order].astype(float))


@pytest.mark.parametrize("options", [{}, {"memory_limit": 0}, {"memory_limit": 200_000, "batch_size": 4096}], ids=str)
def test_a_fit_is_that_of_the_array(tmp_path, options):
    np.save(tmp_path / "a.npy", np.asfortranarray(X))

    found = KMeans(6, random_state=0, verbose=0, epochs=4, **options).fit(tmp_path / "a.npy")

    expected = KMeans(6, random_state=0, verbose=0, epochs=4).fit(X)
    assert found.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert np.array_equal(found.labels_, expected.labels_)


def test_bits_of_float16_in_unsigned_integers(tmp_path):
    narrow = X.astype(np.float16)
    np.save(tmp_path / "a.npy", np.asfortranarray(narrow.view(np.uint16)))

    assert np.array_equal(open_rows(tmp_path / "a.npy", dtype="float16").read(slice(0, 40_000)).numpy(), narrow)


def test_a_pass_reads_each_number_once(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.asfortranarray(X))
    opened = open_rows(tmp_path / "a.npy")
    opens = []
    plain_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opens.append(path) or plain_open(path, *rest, **more))

    for start in range(0, 40_000, 3000):
        opened.read(slice(start, min(start + 3000, 40_000)))

    assert len([path for path in opens if str(path).endswith("a.npy")]) == 3, "once for each block"


def test_a_large_file_is_told_with_the_line_that_converts_it(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.asfortranarray(X))
    leave_memory(monkeypatch, X.nbytes)

    with pytest.warns(
        ColumnOrderWarning, match=r"a\.npy is stored column by column \(Fortran order\) and takes 480"
    ) as caught:
        rows = open_rows(tmp_path / "a.npy")

    assert np.array_equal(rows.read(slice(0, 40_000)).numpy(), X)
    monkeypatch.chdir(tmp_path)
    advice = str(caught[0].message).partition(": np.lib")[2].removesuffix(".")
    exec("np.lib" + advice, {"np": np, "x": np.load("a.npy", mmap_mode="r")})
    assert np.load("rows.npy").flags.c_contiguous
    assert np.array_equal(np.load("rows.npy"), X)


def test_a_file_that_is_cut_or_changed_later_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(X))
    rows = open_rows(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 1000)

    with pytest.raises(FileError, match=r"a\.npy has changed since it was opened"):
        rows.read(slice(0, 40_000))

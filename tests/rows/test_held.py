"""Rows that stay in memory: the same bits for any limit, and files decoded once where all of them fit."""

import numpy as np
import pytest
import torch

from cosmeans import KMeans, open_rows
from cosmeans.errors import FileError, OptionError
from cosmeans.options import FitOptions
from cosmeans.rows.held import HeldRows, hold
from files_of import KINDS
from refusing import leave_memory

RNG = np.random.default_rng(0)
X = RNG.standard_normal((500, 16)).astype(np.float32)


class Counted:
    """A source of files that counts the rows it was asked for."""

    def __init__(self, source):
        self._source, self.read_rows = source, 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, span):
        self.read_rows += span.stop - span.start
        return self._source.read(span)

    def gather(self, indices):
        self.read_rows += len(indices)
        return self._source.gather(indices)


@pytest.fixture
def path(tmp_path):
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", X)
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("limit", [None, 0, 1, 64 * 100, 64 * 499, 64 * 500, "1kB", "1 GiB"])
@pytest.mark.parametrize("init", ["random", "nested", "k-means++"])
def test_the_limit_changes_no_bit(path, limit, init):
    options = {"init": init, "random_state": 0, "epochs": 3, "verbose": 0, "batch_size": 90}

    found = KMeans(6, memory_limit=limit, **options).fit(path)

    expected = KMeans(6, **options).fit(X)
    assert np.array_equal(found.cluster_centers_, expected.cluster_centers_)
    assert np.array_equal(found.labels_, expected.labels_)
    assert found.inertia_ == expected.inertia_
    assert np.array_equal(found.predict(path), expected.predict(X))


@pytest.mark.parametrize("n_held", [0, 1, 99, 100, 101, 499, 500])
def test_held_rows_are_not_asked_for_again(path, n_held):
    source = Counted(open_rows(path))
    rows = HeldRows(source, n_held)

    for _ in range(3):
        for start in range(0, 500, 70):
            span = slice(start, min(500, start + 70))
            assert np.array_equal(rows.read(span).numpy(), X[span])

    assert source.read_rows == 500 + 2 * (500 - n_held)
    for wanted in ([3, 3, 499, 0], [], RNG.permutation(500)):
        index = torch.tensor(np.array(wanted, np.int64))
        assert np.array_equal(rows.gather(index).numpy(), X[index.numpy()])


def test_all_at_once_is_one_view(path):
    source = Counted(open_rows(path))
    rows = HeldRows(source, 20)
    rows.read(slice(0, 7))

    whole = rows.view()

    assert np.array_equal(whole.numpy(), X)
    assert whole.data_ptr() == rows.read(slice(0, 1)).data_ptr() == rows.view().data_ptr()
    assert source.read_rows == 500, "none is decoded again"


def test_a_view_of_all_rows_needs_room(path, tmp_path, monkeypatch):
    leave_memory(monkeypatch, X.nbytes - 1)
    for part in (0, 1):
        np.save(tmp_path / f"{part}.npy", X[250 * part : 250 * (part + 1)])
    files = open_rows([tmp_path / "0.npy", tmp_path / "1.npy"])
    words = "memory must hold all rows at once for a function as init: 32.0 kB, and 32.0 kB"
    for given, other in ((open_rows(path), "cache (--cache DIR)"), (files, "a single file")):
        rows, _ = hold(given, 0)
        rows.hold_none()
        with pytest.raises(FileError) as caught:
            rows.view()
        assert words in str(caught.value)
        assert f"Pass {other}" in str(caught.value)

    np.save(tmp_path / "all.npy", X)
    mapped = hold(open_rows(tmp_path / "all.npy"), 0)[0].view()
    assert np.array_equal(mapped.numpy(), X)
    leave_memory(monkeypatch, X.nbytes)
    for given in (open_rows(path), files):
        assert np.array_equal(hold(given, 0)[0].view().numpy(), X)


def test_a_view_is_decoded_where_no_copy_is_to_be_made(path, tmp_path):
    rows, _ = hold(open_rows(path), 0, tmp_path / "cache", make=False)
    assert np.array_equal(rows.view().numpy(), X)
    assert not (tmp_path / "cache").exists()


def test_rows_that_were_held_can_be_dropped(path):
    source = Counted(open_rows(path))
    rows = HeldRows(source, 300)
    rows.read(slice(0, 200))
    assert rows.n_direct == 200

    rows.hold_none()

    assert (rows.n_bytes_held, rows.n_direct) == (0, 0)
    assert np.array_equal(rows.read(slice(100, 200)).numpy(), X[100:200])
    assert source.read_rows == 300


def test_a_limit_is_shared_by_rows_and_what_is_kept_besides(path, tmp_path):
    rows, left = hold(open_rows(path), 64 * 500 + 7)
    assert rows.n_bytes_held == 64 * 500
    assert left == 7
    large = RNG.standard_normal((3000, 512)).astype(np.float32)
    KINDS["groups.parquet"][0](tmp_path / "large.parquet", large)
    rows, left = hold(open_rows(tmp_path / "large.parquet"), 2048 * 2900 + 7)
    assert (rows.n_bytes_held, left) == (2048 * 2900, 7)
    rows, left = hold(open_rows(tmp_path / "large.parquet"), 100)
    assert (rows.n_bytes_held, left) == (4 << 20, 0), "a few rows, of which samples are taken"
    np.save(tmp_path / "a.npy", X)
    rows, left = hold(open_rows(tmp_path / "a.npy"), 1000)
    assert (rows.n_bytes_held, left) == (0, 1000), "mapped rows are in memory already"


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("500 MiB", 500 << 20), ("1.5kb", 1500), ("12", 12), ("2tib", 2 << 40), ("0B", 0)],
)
def test_a_size_may_be_written_with_its_unit(text, size):
    assert FitOptions(memory_limit=text).memory_limit == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8 XB", "1e9", "8GB more"])
def test_a_size_without_meaning_is_told(text):
    with pytest.raises(OptionError, match=r'memory_limit must be a number of bytes.*such as "8GB".*got'):
        FitOptions(memory_limit=text)

"""Rows gathered in one reading: in memory or in a temporary file, the same bits."""

import os
import sys

import numpy as np
import pytest
import torch

from cosmeans import open_rows
from cosmeans.errors import WriteError
from cosmeans.rows.gathered import gather_once
from files_of import KINDS

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3000, 24)).astype(np.float32)
PLACES = [[], [0], [2999], list(range(3000)), sorted(RNG.choice(3000, 700, replace=False).tolist())]


class Sequential:
    """A source that only goes forward, and says what it was asked for."""

    n_rows, n_features, n_direct, dtype = 3000, 24, 0, torch.float32

    def __init__(self):
        self.asked = []

    def read(self, span):
        assert not self.asked or span.start == self.asked[-1][1]
        self.asked.append((span.start, span.stop))
        return torch.from_numpy(X[span])


@pytest.mark.parametrize("where", PLACES, ids=["none", "first", "last", "all", "some"])
@pytest.mark.parametrize("room", [0, 1 << 30], ids=["file", "memory"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_rows_come_in_order_and_whole(tmp_path, where, room, dtype):
    rows = (torch.from_numpy(X) * 30).to(dtype)
    torch.save(rows, tmp_path / "a.pt")

    found = gather_once(open_rows(tmp_path / "a.pt"), torch.tensor(where, dtype=torch.int64), room)

    assert found.dtype == dtype
    assert torch.equal(found, rows[where])


@pytest.mark.parametrize("where", PLACES[1:], ids=["first", "last", "all", "some"])
def test_where_single_rows_are_dear_the_source_is_read_once_from_front_to_back(where):
    source = Sequential()

    found = gather_once(source, torch.tensor(where), 1 << 30)

    assert np.array_equal(found.numpy(), X[where])
    assert source.asked[0][0] == where[0]
    assert source.asked[-1][1] == where[-1] + 1


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", X)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb"))  # noqa: SIM115

    with pytest.raises(WriteError, match=r'no room for the .*sample.*No space left.*TMPDIR.*init="random"'):
        gather_once(open_rows(tmp_path / "a.npy"), torch.arange(3000), 0)


def test_the_temporary_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", X)

    found = gather_once(open_rows(tmp_path / "a.parquet"), torch.arange(100, 2000), 0)

    assert os.listdir(tmp_path / "here") == []
    assert np.array_equal(found.numpy(), X[100:2000])

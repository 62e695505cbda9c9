"""Rows left out: none of them is named for measuring, and none comes back as anything but zeros."""

import numpy as np
import pytest
import torch

from cosmeans import sphere
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.rows import kept, memory
from cosmeans.rows.kept import evenly
from cosmeans.rows.unread import UnreadRows
from generators import normal


def source(x, weights=None):
    return memory.MemoryRows(
        torch.from_numpy(x), squared_norms=sphere.squared_norms, sample_weight=weights, zero_rows="skip",
        nonfinite="skip",
    )  # fmt: skip


@pytest.fixture
def left_out():
    """60 rows of which some have no direction and some no weight; which take part; their weights."""
    x, weights = normal(60, 5), np.ones(60)
    x[0], x[7, 2], x[59], x[20:29] = np.nan, np.inf, 0.0, -np.inf
    weights[[1, 33, 58]] = 0.0
    part = np.ones(60, bool)
    part[[0, 7, 59, *range(20, 29), 1, 33, 58]] = False
    return x, part, weights


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
def test_rows_left_out_are_taken_as_zeros(left_out):
    x, _, _ = left_out
    directed = np.isfinite(x).all(axis=1) & x.any(axis=1)
    rows = source(x)
    for taken in (rows.take(torch.arange(60)), rows.sample(torch.arange(60)).take(torch.arange(60))):
        np.testing.assert_array_equal(taken.numpy().any(axis=1), directed)
        assert torch.isfinite(taken).all()
    unread = UnreadRows(torch.from_numpy(x), ReferenceBackend())
    np.testing.assert_array_equal(unread.take(torch.arange(60)).numpy(), rows.take(torch.arange(60)).numpy())
    assert not unread.usable


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.parametrize("block", [1, 7, 60, 1 << 20])
def test_rows_to_measure_take_part_and_lie_at_even_distances(block, left_out, monkeypatch):
    monkeypatch.setattr(kept, "BLOCK", block)
    x, part, weights = left_out
    rows, index = source(x, weights), np.flatnonzero(part)
    odd = rows.sample(torch.arange(1, 60, 2))
    for size in (1, 2, 9, len(index), 1000):
        wanted = index[np.linspace(0, len(index) - 1, min(size, len(index))).astype(int)]
        np.testing.assert_array_equal(rows.spread(size).numpy(), wanted)
        assert part[1 + 2 * odd.spread(size).numpy()].all()
    np.testing.assert_array_equal(odd.spread(60).numpy(), np.flatnonzero(part[1::2]))
    np.testing.assert_array_equal(rows.kept(torch.arange(60)).numpy(), part)


def test_few_or_no_rows_to_measure():
    assert evenly(lambda span: torch.zeros(span.stop - span.start, dtype=torch.bool), 10, 4).tolist() == []
    assert evenly(lambda span: torch.arange(span.start, span.stop) == 3, 10, 4).tolist() == [3]
    assert evenly(lambda span: None, 10, 4).tolist() == [0, 3, 6, 9]
    assert evenly(lambda span: None, 0, 4).tolist() == []
    assert evenly(lambda span: None, 10, 4).dtype is torch.int64

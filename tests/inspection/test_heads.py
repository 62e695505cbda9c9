"""Heads in place of rows: what they lost is never said to be less, and heads that say little are not used."""

import numpy as np
import pytest
import torch

from cosmeans.inspection.heads import heads_of, lost_of_unit
from generators import heavy_tailed, normal, unit_rows
from halved import Headed


def unit_of(rows, norms):
    """Rule 1 in NumPy: quotients in float64, rounded to float32."""
    return (rows.astype(np.float64) / norms[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    "x",
    [normal(2000, 3), normal(500, 50), 1e4 * normal(300, 9, 2), unit_rows(200, 7) + np.float32(2.0**-19)],
    ids=["3", "50", "long", "near 1"],
)
def test_unit_heads_are_no_farther_from_unit_rows(x):
    source = Headed(x.astype(np.float32))
    norms = np.sqrt((source.x.astype(np.float64) ** 2).sum(axis=1))
    lost = lost_of_unit(torch.from_numpy(source.lost), torch.from_numpy(norms)).numpy()
    rows, heads = unit_of(source.x, norms), unit_of(source.given, norms)
    length = np.sqrt(((rows.astype(np.float64) - heads) ** 2).sum(axis=1))
    assert (lost >= length).all()
    assert (lost[np.isfinite(lost)] <= 1.01 * source.lost[np.isfinite(lost)] / norms[np.isfinite(lost)] + 3e-7).all()


def test_roundings_of_both_quotients_are_counted():
    """Heads that lost next to nothing: what is left is that both are divided and rounded."""
    x = normal(4000, 20)
    heads = x * np.float32(1 + 2.0**-23)
    norms = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))
    stored = np.sqrt(((x.astype(np.float64) - heads) ** 2).sum(axis=1)).astype(np.float32)
    lost = lost_of_unit(torch.from_numpy(stored * np.float32(1 + 1e-6)), torch.from_numpy(norms)).numpy()
    length = np.sqrt(((unit_of(x, norms).astype(np.float64) - unit_of(heads, norms)) ** 2).sum(axis=1))
    assert (length > 1.001 * stored / norms).any()
    assert (lost >= length).all()


def test_rows_of_unit_length_lost_what_they_lost():
    source = Headed(unit_rows(50, 9))
    heads, narrow = heads_of(source, slice(10, 30), None)
    assert np.array_equal(heads.numpy(), source.given[10:30])
    assert np.array_equal(narrow.lost.numpy(), source.lost[10:30])
    assert np.array_equal(narrow.exact(torch.tensor([3, 0, 19])).numpy(), source.x[[13, 10, 29]])
    cut = narrow.cut(slice(4, 20))
    assert np.array_equal(cut.lost.numpy(), source.lost[14:30])
    assert np.array_equal(cut.exact(torch.tensor([2])).numpy(), source.x[[16]])


def test_a_head_that_is_its_row_lost_nothing():
    x = normal(40, 8).astype(np.float16).astype(np.float32)
    norms = torch.from_numpy(np.linalg.norm(x.astype(np.float64), axis=1))
    assert not lost_of_unit(torch.from_numpy(Headed(x).lost), norms).any()


def test_batches_whose_heads_say_little_are_read_whole():
    x = normal(1000, 6)
    x[:15] *= 1e-9
    norms = torch.from_numpy(np.linalg.norm(x.astype(np.float64), axis=1))
    _, narrow = heads_of(Headed(x), slice(0, 1000), norms)
    assert torch.isinf(narrow.lost).sum() == 15
    assert heads_of(Headed(x), slice(0, 100), norms[:100]) is None
    assert heads_of(Headed(heavy_tailed(90, 6)), slice(0, 90), torch.ones(90, dtype=torch.float64)) is None

"""Rows that were inspected: how many make a batch, which are left out, what a sample of them is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, seeding
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.errors import InputError, ZeroRowsWarning
from cosmeans.inspection.rows import choose_batch_size, least_batch_size
from generators import heavy_tailed, normal, rows_left_out

X = normal(60, 7)


def sizes(n, d, batch_size, open_session):
    rows = open_session(np.ones((n, d), np.float32), ReferenceBackend(), batch_size=batch_size).rows
    return [len(batch) for batch in rows.batches()]


def test_batches_are_as_large_as_asked_for(open_session):
    assert sizes(1000, 4, 300, open_session) == [300, 300, 300, 100]
    assert sizes(10, 4, 1000, open_session) == [10]


def test_very_small_batches_are_merged(open_session, monkeypatch):
    monkeypatch.undo()  # of what tests have in place of the bounds
    assert sizes(40, 1 << 16, 1, open_session) == [16, 16, 8]
    assert sizes(40, 1 << 16, 30, open_session) == [30, 10]
    assert (least_batch_size(4), least_batch_size(4, "cuda"), least_batch_size(4, "mps")) == (1 << 18, 1 << 23, 0)


def test_a_batch_chosen_by_memory_is_a_small_part_of_it():
    assert 1024 <= choose_batch_size(10**9, 768) <= (64 << 20) // (4 * 768)
    assert choose_batch_size(100, 768) == 100


@pytest.mark.parametrize("kind", ["any lengths", "unit", "one of another length"])
def test_batches_have_every_row_once_with_what_it_is_divided_by(kind, backend, open_session):
    x = 3.0 * X if kind == "any lengths" else truth.unit(X)[0]
    if kind == "one of another length":
        x[33] *= 2.0
    weights = np.random.default_rng(0).exponential(1.0, 60) + 0.5
    rows = open_session(x, backend, weights, batch_size=25).rows
    batches = list(rows.batches())
    assert [(batch.start, len(batch)) for batch in batches] == [(0, 25), (25, 25), (50, 10)]
    np.testing.assert_array_equal(torch.cat([batch.rows for batch in batches]).numpy(), x)
    np.testing.assert_array_equal(torch.cat([batch.weights for batch in batches]).numpy(), weights)
    by = [torch.ones(len(batch)).double() if batch.norms is None else batch.norms for batch in batches]
    np.testing.assert_array_equal(torch.cat(by).numpy(), truth.lengths(x)[1])
    assert (rows.norms is None) == (kind == "unit")


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
def test_rows_left_out_are_taken_as_zeros_and_take_no_part(backend, open_session):
    x, part, weights = rows_left_out()
    directed = np.isfinite(x).all(axis=1) & x.any(axis=1)
    every = torch.arange(60)
    rows = open_session(x, backend, nonfinite="skip").rows
    for taken in (rows.take(every), rows.sample(every).take(every)):
        np.testing.assert_array_equal(taken.numpy().any(axis=1), directed)
        assert torch.isfinite(taken).all()
    assert rows.total == int(directed.sum()) << rows.scale
    weighted = open_session(x, backend, weights, nonfinite="skip").rows
    for kept in (weighted.kept(every), weighted.sample(every).kept(every)):
        np.testing.assert_array_equal(kept.numpy(), part)


def test_a_sample_is_a_source_of_its_rows(open_session):
    x = heavy_tailed(400, 6)
    x[17] = 0.0
    weights = np.random.default_rng(0).exponential(1.0, 400)
    rows = open_session(x, ReferenceBackend(), weights, batch_size=64).rows
    index = torch.from_numpy(seeding.subset(400, 150, 2**40 + 1))
    sample = rows.sample(index)
    units, keep = truth.unit(x)
    assert sample.n_rows == 150
    assert torch.equal(sample.take(torch.arange(150)), torch.from_numpy(units[index]))
    assert sample.kept(torch.arange(150)).tolist() == keep[index].tolist()
    assert torch.equal(sample.masses(), rows.masses()[index])
    assert sample.total == int(rows.masses()[index][torch.from_numpy(keep[index])].sum())
    assert sample.exponent == rows.exponent
    assert sample.n_bytes == 150 * 6 * 4
    starts = [batch.start for batch in sample.batches()]
    assert starts == [0, 64, 128]
    joined = torch.cat([batch.rows for batch in sample.batches()])
    assert torch.equal(joined, torch.from_numpy(x[index]))
    again = sample.sample(torch.tensor([3, 5]))
    assert torch.equal(again.take(torch.arange(2)), torch.from_numpy(units[index[[3, 5]]]))


@pytest.mark.parametrize("sampled", [False, True])
def test_rows_of_which_none_takes_part_are_told(sampled, open_session):
    x = np.zeros((5, 3), np.float32)
    rows = open_session(x, ReferenceBackend()).rows
    with pytest.raises(InputError, match="None of the 5 rows can be clustered"):
        (rows.sample(torch.arange(5)) if sampled else rows).need_weight()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_below_float32_are_told_from_zero_rows(dtype):
    x = X.astype(dtype)
    x[[5, 9]] *= 1e-60 if dtype is np.float64 else np.float32(1e-40)
    x[20] = 0.0

    def fit(**options):
        KMeans(3, random_state=0, verbose=0, **options).fit(x)

    with pytest.warns(
        ZeroRowsWarning, match=r"3 of 60 rows are zero \(the first is row 5, 2 of them with numbers below"
    ):
        fit()
    with pytest.raises(InputError, match=r"1.2e-38\).*Multiply such rows by a constant first"):
        fit(zero_rows="error")

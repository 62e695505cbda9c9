"""Labels and scores of every backend, bit by bit against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import truth
from cosmeans.backends.cpu import CpuBackend
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.progress import Silent
from generators import CASES, near_ties, normal, text_rows, unit_rows

pytestmark = pytest.mark.usefixtures("poisoned")


def assigned(rows, centroids, operations, before=None):
    """Labels of all rows, batch by batch."""
    operations.begin(rows)
    prepared = operations.prepare(torch.from_numpy(centroids))
    labels = torch.full((rows.n_rows,), -1, dtype=torch.int32) if before is None else before.clone()
    for batch in rows.batches():
        labels[batch.span] = operations.assign(batch, prepared, labels[batch.span]).labels
    assert labels.dtype == torch.int32
    return labels.numpy()


@pytest.mark.parametrize("case", CASES)
def test_every_label_is_the_first_of_the_largest_scores(case, backend, operations, open_session):
    x, first = CASES[case]()
    centroids, (units, keep) = truth.unit(first)[0], truth.unit(x)
    expected = truth.labels(units, centroids, keep)
    for batch_size in (None, 1, 7, 64):
        found = assigned(open_session(x, backend, batch_size=batch_size).rows, centroids, operations)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("d", "k", "spread"), [(64, 64, 1e-4), (384, 64, 1e-5), (64, 200, 3e-8)])
def test_near_ties_are_settled(d, k, spread, open_session):
    backend = CpuBackend()
    x, centroids = near_ties(4000, d, k, spread)
    found = assigned(open_session(x, backend).rows, centroids, backend.operations())
    np.testing.assert_array_equal(found, truth.labels(x, centroids))
    product = (x @ centroids.T).argmax(axis=1)
    assert (product != found).any(), "a float32 product alone must be wrong here, or this test proves nothing"


def test_labels_before_do_not_change_labels(backend, operations, open_session):
    x, centroids = near_ties(300, 30, 20, 1e-6)
    rows = open_session(x, backend).rows
    before = torch.from_numpy(np.random.default_rng(0).integers(-1, 20, 300).astype(np.int32))
    np.testing.assert_array_equal(assigned(rows, centroids, operations, before), truth.labels(x, centroids))


def test_passes_one_after_another_remember_nothing_wrong(backend, operations, open_session):
    x = text_rows(600)
    rows = open_session(x, backend, batch_size=100).rows
    operations.begin(rows)
    labels = torch.full((600,), -1, dtype=torch.int32)
    centroids = x[:30].copy()
    for step in range(8):
        prepared = operations.prepare(torch.from_numpy(centroids))
        for batch in rows.batches():
            labels[batch.span] = operations.assign(batch, prepared, labels[batch.span]).labels
        np.testing.assert_array_equal(labels.numpy(), truth.labels(x, centroids))
        moving = slice(0, 30, step + 1)
        centroids[moving] = truth.unit(centroids[moving] + 0.4 / (step + 1) ** 3 * unit_rows(30, 384, step)[moving])[0]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 12), st.integers(0, 2**20), st.integers(0, 3))
def test_coarse_grids_full_of_ties(n, d, k, seed, span):
    rng = np.random.default_rng(seed)
    x = rng.integers(-span, span + 1, (n, d)).astype(np.float32)
    first = rng.integers(-span, span + 1, (k, d)).astype(np.float32)
    first[~first.any(axis=1), 0] = 1.0
    backend = CpuBackend()
    session = backend.session(MemoryRows(torch.from_numpy(x)), Task(k, zero_rows="skip"), Alone(), Silent(), print)
    session.read()
    centroids = truth.unit(first)[0]
    units, keep = truth.unit(x)
    np.testing.assert_array_equal(
        assigned(session.rows, centroids, backend.operations()), truth.labels(units, centroids, keep)
    )


@pytest.mark.parametrize("case", CASES)
def test_scores_have_the_bits_of_the_definition(case, backend, operations, open_session):
    x, first = CASES[case]()
    centroids, (units, keep) = truth.unit(first)[0], truth.unit(x)
    all_scores = truth.scores(units, centroids)
    rng = np.random.default_rng(0)
    labels = np.where(keep, rng.integers(0, len(centroids), len(x)), -1).astype(np.int32)
    own = np.where(keep, all_scores[np.arange(len(x)), labels], 0.0)
    for batch in open_session(x, backend, batch_size=97).rows.batches():
        found = operations.scores(batch, torch.from_numpy(centroids), torch.from_numpy(labels[batch.span]))
        assert found.numpy().tobytes() == own[batch.span].tobytes()
        both, squared = operations.chords(batch, torch.from_numpy(centroids), torch.from_numpy(labels[batch.span]))
        assert both.numpy().tobytes() == found.numpy().tobytes()
        assert squared.numpy().tobytes() == truth.chords(units, centroids, labels)[batch.span].tobytes()
        cosines = operations.cosines(batch, torch.from_numpy(centroids)).numpy()
        expected = np.where(keep[batch.span, None], all_scores[batch.span].astype(np.float32), np.float32(0))
        assert cosines.tobytes() == expected.tobytes()


@pytest.mark.parametrize("case", ["random", "text", "any lengths", "one ulp apart", "D = 1"])
def test_improve_keeps_the_larger_score(case, backend, operations, open_session):
    x, first = CASES[case]()
    centroids = truth.unit(first)[0]
    expected = np.maximum.accumulate(truth.scores(truth.unit(x)[0], centroids), axis=1)
    (batch,) = open_session(x, backend, batch_size=len(x)).rows.batches()
    best = torch.full((len(x),), -2.0, dtype=torch.float64)
    for j, centroid in enumerate(centroids):
        operations.improve(batch, torch.from_numpy(centroid), best)
        assert best.numpy().tobytes() == expected[:, j].tobytes()


@pytest.mark.parametrize("d", [1, 2, 100, 384, 768, 1000, 4097])
def test_squared_norms_have_the_bits_of_the_definition(d, backend, operations):
    x = normal(130, d)
    x[3], x[5, 0], x[7, -1] = 0.0, 1e-41, np.float32(3e38)
    expected = truth.lengths(x)[0].tobytes()
    assert backend.squared_norms(torch.from_numpy(x)).numpy().tobytes() == expected
    assert operations.squared_norms(torch.from_numpy(x)).numpy().tobytes() == expected


def test_bad_rows_show_in_every_backend(backend):
    x = np.array([[np.nan, 1], [np.inf, 0], [0, -np.inf], [3e38, 3e38], [1, 0]], np.float32)
    finite = torch.isfinite(backend.squared_norms(torch.from_numpy(x)))
    assert finite.tolist() == [False, False, False, True, True]

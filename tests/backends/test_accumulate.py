"""Sums of every backend against Python integers: exact, in any order, in any steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import truth
from cosmeans.data import Batch, ClusterSums
from generators import CASES, hard_divisions, normal, unit_rows

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.filterwarnings("ignore::cosmeans.errors.WeightRangeWarning"),  # as far apart as sums can hold
]


def labels_of(values):
    return torch.from_numpy(np.asarray(values, np.int32))


def accumulated(rows, operations, steps, n_clusters):
    """Sums after the labels of steps[0], then steps[1], ...; each step moves what changed."""
    into = ClusterSums.zeros(n_clusters, rows.n_features, rows.scale, "cpu")
    for before, after in pairwise(steps):
        for batch in rows.batches():
            labels, new = labels_of(before[batch.span]).clone(), labels_of(after[batch.span])
            changed = int((labels != new).sum())
            assert int(operations.accumulate(batch, labels, new, into)) == changed
            assert torch.equal(labels, new)
    return into


def expected(x, weights, labels, n_clusters):
    units, keep = truth.unit(x)
    weights = [1.0] * len(x) if weights is None else truth.scaled_weights(weights)
    scale = truth.scale_of(weights)
    terms = truth.terms(np.where(keep[:, None], units, 0), weights, scale)
    return truth.sums(terms, labels, n_clusters).tolist(), scale


def test_rows_are_divided_by_their_length_not_multiplied_by_its_reciprocal(operations):
    entries, norms = hard_divisions(500)
    batch = Batch(0, torch.from_numpy(entries[:, None]), torch.from_numpy(norms))
    into, places = ClusterSums.zeros(500, 1, 40, "cpu"), np.arange(500)

    operations.accumulate(batch, labels_of(np.full(500, -1)), labels_of(places), into)

    quotients = (entries / norms).astype(np.float32).astype(np.float64)
    assert into.direction[:, 0].tolist() == np.rint(quotients * 2.0**40).astype(np.int64).tolist()
    scores = operations.scores(batch, torch.ones(500, 1), labels_of(places))
    assert scores.tolist() == quotients.tolist()


def random_labels(x, n_clusters, seed=0):
    keep = truth.unit(x)[1]
    return np.where(keep, np.random.default_rng(seed).integers(-1, n_clusters, len(x)), -1)


def weights_of(kind, n):
    rng = np.random.default_rng(1)
    return {
        "none": None,
        "integers": rng.integers(0, 5, n),
        "reals": rng.exponential(3.0, n),
        "all below one": rng.random(n) / n,
        "far apart": 10.0 ** rng.uniform(-6, 9, n),
    }[kind]


@pytest.mark.parametrize("kind", ["none", "integers", "reals", "all below one", "far apart"])
@pytest.mark.parametrize("case", ["random", "any lengths", "zero rows", "D = 1", "D = 129", "duplicates"])
def test_sums_are_exact(case, kind, backend, operations, open_session):
    x = CASES[case]()[0]
    weights, labels = weights_of(kind, len(x)), random_labels(x, 5)
    direction, scale = expected(x, weights, labels, 5)
    for batch_size in (None, 1, 64):
        rows = open_session(x, backend, weights, batch_size=batch_size).rows
        into = accumulated(rows, operations, [np.full(len(x), -1), labels], 5)
        assert rows.scale == scale
        assert into.direction.tolist() == direction
        assert into.count.tolist() == [int((labels == k).sum()) for k in range(5)]


@pytest.mark.parametrize("kind", ["none", "reals"])
def test_fifty_moves_leave_the_sums_of_one_full_pass(kind, backend, operations, open_session):
    x = normal(150, 31)
    steps = [np.full(150, -1)]
    rng = np.random.default_rng(2)
    for _ in range(50):
        steps.append(np.where(rng.random(150) < 0.3, rng.integers(-1, 6, 150), steps[-1]))
    weights = weights_of(kind, 150)
    into = accumulated(open_session(x, backend, weights, batch_size=40).rows, operations, steps, 6)
    assert into.direction.tolist() == expected(x, weights, steps[-1], 6)[0]
    assert into.count.tolist() == [int((steps[-1] == k).sum()) for k in range(6)]


@pytest.mark.parametrize("total", [2**22 - 1, 2**22, 2**31, 2**41])
def test_equal_rows_up_to_any_total_weight_do_not_overflow(total, backend, operations, open_session):
    x = np.repeat(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32), [3, 2], axis=0)
    x[:, 1] = 2.0**-11  # squared length 1 + 2^-22: unit within the tolerance, so the entry 1 stays
    weights = np.array([total - 4, 1, 1, 1, 1])
    labels = np.array([0, 0, 0, 1, 1])
    direction, _ = expected(x, weights, labels, 2)
    rows = open_session(x, backend, weights).rows
    into = accumulated(rows, operations, [np.full(5, -1), labels, 1 - labels, labels], 2)
    assert into.direction.tolist() == direction
    assert abs(direction[0][0]) == (total - 2) << rows.scale < 2**62


def test_permuted_rows_give_the_same_sums(backend, operations, open_session):
    x, order = unit_rows(500, 40), np.random.default_rng(3).permutation(500)
    labels = random_labels(x, 7)
    start = np.full(500, -1)
    one = accumulated(open_session(x, backend).rows, operations, [start, labels], 7)
    other = accumulated(open_session(x[order], backend).rows, operations, [start, labels[order]], 7)
    assert torch.equal(one.direction, other.direction)
    assert torch.equal(one.count, other.count)


def test_float_sums_would_be_noticed():
    x = unit_rows(5000, 3)
    direction, scale = expected(x, None, np.zeros(5000, int), 1)
    assert (x.sum(axis=0) * np.float32(2.0) ** scale).tolist() != [float(v) for v in direction[0]]


def test_rows_are_never_written(backend, operations, open_session):
    x = 3.0 * normal(64, 17)
    kept, rows = x.copy(), open_session(x, backend).rows
    accumulated(rows, operations, [np.full(64, -1), random_labels(x, 4)], 4)
    operations.prepare(torch.from_numpy(unit_rows(4, 17)))
    assert np.array_equal(x, kept)

"""Bounds that are kept from pass to pass hold, where they are met exactly, too."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends.cpu import CpuBackend, bounds
from cosmeans.backends.cpu.bounds import choose_split
from generators import converging, normal, trajectory
from screening import assigned_by

D = 64


SMALL = 0.01  # a step along the first axis


def tilted(first_entries, ahead=1):
    """Unit centroids, each along an axis of its own but for its first entry."""
    out = np.zeros((len(first_entries), D), np.float32)
    out[np.arange(len(out)), ahead + np.arange(len(out))] = 1.0
    out[:, 0] = first_entries
    return truth.unit(out)[0]


@pytest.mark.parametrize(("own", "stays"), [(0.98 * SMALL, False), (1.02 * SMALL, True)])
def test_a_bound_grows_as_far_as_centroids_moved(own, stays, open_session):
    """All centroids but that of the rows move straight towards them: t grows by the whole chord."""
    x = np.repeat(np.eye(1, D, dtype=np.float32), 600, axis=0)
    before = tilted([own] + [-SMALL] * 39)
    after = tilted([own] + [SMALL] * 39)
    backend = CpuBackend("split", 1 << 30)
    passes = [before] * 4 + [after]  # g stands still after three
    *_, (labels, _, (found,)) = assigned_by(backend, open_session(x, backend).rows, passes)
    np.testing.assert_array_equal(labels, truth.labels(x, after))
    assert (labels == 0).all() == stays
    if stays:
        assert found.counters.dots == len(x)  # own ones only: the bound proved every label


def test_a_bound_grows_as_far_as_the_middle_moved(open_session):
    """Half of the centroids move away from the rows and take g along: t of those that stand still grows."""
    x = np.repeat(np.eye(1, D, dtype=np.float32), 600, axis=0)
    before = tilted([0.05] + [0.0] * 39)
    after = tilted([-0.01] + [0.0] * 20 + [-0.4] * 19)
    backend = CpuBackend("split", 1 << 30)
    *_, (labels, _, _) = assigned_by(backend, open_session(x, backend).rows, [before, after])
    np.testing.assert_array_equal(labels, truth.labels(x, after))
    assert (labels == 1).all()


def test_split_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = np.sort(rng.exponential(0.1, 200))[::-1].copy()
        need = rng.normal(0.05, 0.05, 300)
        costs = []
        for heavy in range(201):
            farthest = moved[heavy] if heavy < 200 else 0.0
            paid = 0 if heavy == 0 else min(200, -(-heavy // bounds.PANEL) * bounds.PANEL) + bounds.EACH_ROW
            whole = 200 + bounds.EACH_ROW
            costs.append((paid + (need <= farthest).mean() * (whole - paid)) / whole)
        chosen = choose_split(moved, need)
        assert chosen.left == pytest.approx(min(1.0, *costs) if min(costs) <= bounds.WORTH else 1.0)
        assert chosen.heavy == 200 or chosen.farthest == moved[chosen.heavy]


def test_a_pass_broken_off_leaves_no_bound_to_go_on_from(open_session):
    x, first = converging()
    backend = CpuBackend("split", 1 << 30)
    rows = open_session(x, backend, batch_size=500).rows
    operations = backend.operations()
    operations.begin(rows)
    labels = torch.full((len(x),), -1, dtype=torch.int32)
    for turn in range(3):
        centroids = truth.unit(first + 0.2 * turn * normal(*first.shape, 5))[0]
        prepared = operations.prepare(torch.from_numpy(centroids))
        for batch in list(rows.batches())[: 2 if turn == 1 else None]:  # the second pass ends early
            labels[batch.span] = operations.assign(batch, prepared, labels[batch.span]).labels
    np.testing.assert_array_equal(labels.numpy(), truth.labels(x, centroids))


@pytest.mark.parametrize("strategy", ["split", "pca", "int8"])
def test_kept_bounds_are_above_every_other_centroid(strategy, open_session):
    x, first = converging()
    backend = CpuBackend(strategy, 1 << 30)
    passes = trajectory(x, first, 9)
    results = assigned_by(backend, open_session(x, backend, batch_size=512).rows, passes)
    for (labels, prepared, _), centroids in zip(results, passes, strict=True):
        kept, origin = prepared.kept, prepared.targets.origin.astype(np.float64)
        t = x.astype(np.float64) @ (centroids.astype(np.float64) - origin).T
        np.testing.assert_array_equal(kept.label, labels)
        t[np.arange(len(x)), labels] = -np.inf
        assert (kept.bound >= t.max(axis=1)).all()


def test_bounds_that_grow_too_little_let_wrong_labels_through(open_session):
    x, first = converging(4000, 24, 60)
    passes = trajectory(x, first, 10)

    def wrong(spoil):
        backend = CpuBackend("split", 1 << 30)
        both = zip(assigned_by(backend, open_session(x, backend).rows, passes, spoil), passes, strict=True)
        return sum(int((labels != truth.labels(x, those)).sum()) for (labels, *_), those in both)

    def too_little(prepared):
        prepared.split = replace(prepared.split, farthest=prepared.split.farthest / 50)

    assert wrong(lambda prepared: None) == 0
    assert wrong(too_little) > 0

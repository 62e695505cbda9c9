"""Centroids that follow from sums, and the metrics of an epoch, in one slot and in a ring of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import truth
from cosmeans import sphere
from cosmeans.backends.gpu.kernels.update import OutputRing, UpdateWorkspace
from cosmeans.data import ClusterSums

CPU = torch.device("cpu")
TOTAL, CHANGED, SETTLED = 12345 << 35, 3, 4


def some_sums(k: int, d: int, directions: Any, seed: int = 1) -> ClusterSums:
    """One cluster has no direction, and one has no rows."""
    direction = (directions(k, d, seed).double() * 2.0**38).to(torch.int64)
    direction[k // 2] = 0
    return ClusterSums(direction, torch.arange(k), 35)


def updated(space: UpdateWorkspace, sums: ClusterSums, previous: Tensor, ring: OutputRing) -> None:
    space.update(sums, previous, ring)
    numbers = (torch.tensor([n], dtype=torch.int32) for n in (CHANGED, SETTLED))
    space.metrics(sums.count, torch.tensor([float(TOTAL)], dtype=torch.float64), *numbers, ring)


def check(sums: ClusterSums, previous: Tensor, centroids: Tensor, degenerate: Tensor, metrics: Tensor) -> None:
    direction = sums.direction.tolist()
    expected = truth.update(direction, previous.numpy())
    chords = (expected - previous.numpy()).astype(np.float64)
    count = sums.count.numpy()
    assert np.array_equal(centroids.numpy(), expected)
    assert degenerate.tolist() == truth.lost(direction).tolist()
    assert metrics.tolist() == [
        truth.similarity(direction, previous.numpy(), TOTAL),
        truth.tree(chords * chords).max(),
        float((count**2).sum()),
        float(count.sum()),
        float(count.max()),
        float((count == 0).sum()),
        float(degenerate.sum()),
        float((expected != previous.numpy()).any()),
        float(CHANGED),
        float(SETTLED),
    ]


@pytest.mark.parametrize(("k", "d"), [(1, 1), (5, 17), (33, 70), (600, 3)])
def test_an_update_and_its_metrics_are_the_truth(k: int, d: int, directions: Any) -> None:
    previous, sums = sphere.normalise(directions(k, d)), some_sums(k, d, directions)
    ring = OutputRing.single(previous)

    updated(UpdateWorkspace(k, CPU), sums, previous, ring)

    check(sums, previous, ring.centroids[0], ring.degenerate[0], ring.metrics[0])


def test_updates_take_the_slots_of_a_ring_in_turn(directions: Any) -> None:
    k, d, n_updates = 5, 17, torch.zeros(1, dtype=torch.int64)
    ring, space = OutputRing.ring(3, k, d, n_updates), UpdateWorkspace(k, CPU)
    ring.start.copy_(sphere.normalise(directions(k, d)))
    before = []

    for epoch in range(5):
        before.append(ring.start.clone())  # each epoch starts from where the one before left its centroids
        updated(space, some_sums(k, d, directions, epoch + 1), ring.start, ring)
        assert int(n_updates) == epoch + 1

    for epoch in (2, 3, 4):
        slot = epoch % 3
        found = (ring.centroids[slot], ring.degenerate[slot], ring.metrics[slot])
        check(some_sums(k, d, directions, epoch + 1), before[epoch], *found)
    assert torch.equal(ring.start, ring.centroids[4 % 3])

"""Sums and counts of moved rows, to the bit: brute force in Python's integers is the truth."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import truth
from cosmeans.backends.gpu.kernels.accumulate import MoveWorkspace, accumulate
from cosmeans.data import Batch, ClusterSums

CPU = torch.device("cpu")
SHAPES = [(1, 1, 1), (63, 17, 5), (130, 70, 33), (67, 130, 140)]  # N, D, K: odd, so that every mask is used


def check_moves(batch: Batch, labels: list[Tensor], k: int, space: MoveWorkspace, scale: int = 35) -> None:
    """Rows move from each of these labels to the next: sums, counts and the number of changed rows are the truth."""
    found = ClusterSums.zeros(k, batch.rows.shape[1], scale, "cpu")
    weights = [1.0] * len(batch) if batch.weights is None else batch.weights.tolist()
    terms = truth.terms(truth.unit(batch.rows.numpy())[0], weights, scale)
    for before, after in itertools.pairwise(labels):
        moved = before.clone()

        accumulate(batch, moved, after, found, space, programs=4)

        assert int(space.n_changed) == int((before != after).sum())
        assert torch.equal(moved, after)
        assert found.direction.tolist() == truth.sums(terms, after.tolist(), k).tolist()
        assert found.count.tolist() == np.bincount(after[after >= 0].numpy(), minlength=k).tolist()


# between the scales 22 and 44 entries are rounded to fixed point in float32 arithmetic, else in float64
CASES = [*((*shape, 35) for shape in SHAPES), (9, 17, 5, 20), (9, 17, 5, 22), (9, 17, 5, 44), (9, 17, 5, 45)]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("n", "d", "k", "scale"), CASES)
def test_sums_and_counts_are_the_truth(n: int, d: int, k: int, scale: int, weighted: bool, a_batch: Any) -> None:
    batch, generator = a_batch(n, d, weighted=weighted), torch.Generator().manual_seed(2)
    labels = [torch.randint(-1, k, (n,), dtype=torch.int32, generator=generator) for _ in range(3)]

    check_moves(batch, [torch.full_like(labels[0], -1), *labels], k, MoveWorkspace(n, k, CPU, span=8192), scale)


@pytest.mark.parametrize("share", [0.02, 1.0], ids=["few rows move", "all move"])
def test_events_sorted_in_many_groups_add_up_to_the_same(share: float, a_batch: Any) -> None:
    n, d, k = 2100, 5, 2
    batch, generator = a_batch(n, d), torch.Generator().manual_seed(2)

    def draw() -> Tensor:
        return torch.randint(-1, k, (n,), dtype=torch.int32, generator=generator)

    labels = [torch.full((n,), -1, dtype=torch.int32), draw()]
    # rows without a label are among those that move, to and fro
    labels.append(torch.where(torch.rand(n, generator=generator) < share, draw(), labels[-1]))
    space = MoveWorkspace(n, k, CPU, span=1024, first_run=1)

    check_moves(batch, labels, k, space)

    assert (space.first, space.span, space.groups) == (8, 1024, 11)
    n_events = int(space.n_events)
    assert n_events == int(space.totals[: space.groups].sum())
    assert torch.equal(torch.bincount(space.clusters[:n_events], minlength=k), events_of(*labels[-2:], k))


def events_of(before: Tensor, after: Tensor, k: int) -> Tensor:
    """How many rows join or leave each cluster."""
    moved = before != after
    both = torch.cat([before[moved], after[moved]])
    return torch.bincount(both[both >= 0], minlength=k)


@pytest.mark.parametrize(
    ("n", "k", "first", "span"),
    [
        (1_000_000, 1000, 8, 8192),
        (1_000_000, 2048, 1, 8192),
        (1_000_000, 4096, 1, 1_000_000),  # fewer than eight events of a cluster would be together
        (100_000, 1000, 1, 8192),
        (500, 100, 1, 8192),
        (500, 4096, 1, 1024),
    ],
)
def test_groups_hold_runs(n: int, k: int, first: int, span: int) -> None:
    space = MoveWorkspace(n, k, torch.device("meta"), span=8192)

    assert (space.first, space.span) == (first, span)
    assert space.groups == first + -(-n // span)
    # what the plan of the memory has for counters: 3 bytes a row and 108 a cluster
    assert 12 * space.groups * k <= 3 * n + 108 * k

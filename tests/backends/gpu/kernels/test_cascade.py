"""From 8 bits to float16: rows that are gathered, and pairs that are compared. Brute force in float64 is the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.cascade import CascadeWorkspace, compare, gather
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, quantize_rows
from cosmeans.backends.gpu.kernels.screen import Uncertified
from cosmeans.data import Batch

CPU = torch.device("cpu")


def directions(n: int, d: int, seed: int) -> Tensor:
    return sphere.normalise(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def copied(rows: Tensor, tile: int) -> QuantizedRows:
    copy = QuantizedRows.empty(*rows.shape, tile, device=CPU)
    quantize_rows(Batch(0, rows), copy, 0)
    return copy


@pytest.mark.parametrize("n_gathered", [3, 8, 100])
def test_rows_are_labelled_however_many_can_be_gathered(n_gathered: int, assign: Any) -> None:
    rows, centroids = directions(50, 70, 0), directions(40, 70, 1)

    labels = assign(Batch(0, rows), centroids, integers=True, n_gathered=n_gathered)

    assert labels.tolist() == (rows.double() @ centroids.double().T).argmax(dim=1).tolist()


@pytest.mark.parametrize("tile", [0, 64, 128])
@pytest.mark.parametrize("count", [0, 3, 4, 9])
def test_gathered_rows_are_the_listed_ones_and_others_go_on(tile: int, count: int) -> None:
    rows, chosen = directions(150, 100, 2), torch.tensor([149, 0, 64, 63, 7, 128, 1, 90, 89], dtype=torch.int32)
    source, space, left = (
        copied(rows, tile),
        CascadeWorkspace(150, 100, tile, CPU, n_gathered=4),
        Uncertified.empty(150, CPU),
    )
    into, found = space.gathered, space.uncertified
    for memory in (into.values, into.residuals, into.scales):
        memory.fill_(-7.0)
    found.rows[:9], found.scores[:9], found.counts[0] = chosen, 0.5, count
    left.counts.zero_()
    bounds = torch.tensor([0.01, 1.0, 1.0, 1.0])

    gather(source, 0, source, 0, bounds, 0.0, space, left, programs=2)

    here = chosen[: min(count, 4)].long()
    expected = copied(rows[here], tile) if len(here) else into
    assert torch.equal(into.residuals[: len(here)], source.residuals[here])
    assert torch.equal(into.scales[: len(here)], source.scales[here])
    for row in range(len(here)):
        assert torch.equal(_row(into, row), _row(expected, row))
    assert (into.residuals[len(here) :] == -7.0).all()
    n_left = int(left.counts[0])
    assert sorted(left.rows[:n_left].tolist()) == sorted(chosen[4:count].tolist())
    assert (left.scores[:n_left] <= 0.5 - 2 * 0.01).all()  # what two scores of the first stage may lose


def _row(copy: QuantizedRows, row: int) -> Tensor:
    """One row of a copy, entries in order."""
    if copy.tile == 0:
        return copy.values.view(-1, copy.width)[row]
    lines = copy.values.view(-1, copy.width // 64, copy.tile, 8, 8)[row // copy.tile, :, row % copy.tile]
    return torch.stack([lines[:, chunk ^ (row % 8)] for chunk in range(8)], dim=1).flatten()


def compared(
    rows: Tensor, centroids: Tensor, pairs: np.ndarray, tile: int = 0, told: float = 1.0
) -> tuple[list[int], dict[int, list[int]]]:
    """Labels of rows with two candidates each (-7: none), and the pairs that are left, by row.

    told: the share of what the float16 copies lose that the comparison hears of.
    """
    found, left = Uncertified.empty(len(rows), CPU), Uncertified.empty(len(rows), CPU)
    found.pairs[:] = torch.arange(len(rows))
    found.pair_clusters[:] = torch.from_numpy(pairs.astype(np.int32).ravel())
    found.counts[:] = torch.tensor([0, len(rows), 0, 0])
    left.counts.zero_()
    labels = torch.full((len(rows),), -7, dtype=torch.int32)
    copy = copied(rows, tile)
    copy.residuals.mul_(told)
    compare(copy, 0, centroids, found, labels, left, programs=1)
    n_left = int(left.counts[1])
    remaining = left.pair_clusters.view(-1, 2)[:n_left].tolist()
    return labels.tolist(), dict(zip(left.pairs[:n_left].tolist(), remaining, strict=True))


@pytest.mark.parametrize("tile", [0, 64])
def test_of_two_candidates_the_nearer_one_is_proved_or_both_stay(tile: int) -> None:
    rows, centroids = directions(90, 70, 3), directions(20, 70, 4)
    truth = rows.double().numpy() @ centroids.double().numpy().T
    best_two = np.sort(np.argsort(-truth, axis=1)[:, :2], axis=1)

    labels, left = compared(rows, centroids, best_two, tile)

    for row, label in enumerate(labels):
        if row in left:
            assert label == -7
            assert left[row] == best_two[row].tolist()
        else:
            assert label == truth[row].argmax()
    assert len(left) < 5


def close_pairs() -> tuple[Tensor, Tensor, np.ndarray]:
    """Rows between two centroids, so near to the middle that their float16 copies are on the other side of it."""
    draw = np.random.default_rng(5)
    a, b = (draw.standard_normal((200, 64)) for _ in range(2))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    middle = a + b + draw.standard_normal((200, 1)) * 4e-5 * (a - b)
    rows = sphere.normalise(torch.from_numpy(middle).float())
    centroids = sphere.normalise(torch.from_numpy(np.stack([a, b], axis=1).reshape(400, 64)).float())
    return rows, centroids, np.arange(400).reshape(200, 2)


def test_candidates_that_float16_can_not_tell_apart_stay() -> None:
    rows, centroids, pairs = close_pairs()
    scores = (rows.double()[:, None] * centroids.double().view(200, 2, 64)).sum(dim=2)
    truth = pairs[np.arange(200), scores.argmax(dim=1).numpy()]

    labels, left = compared(rows, centroids, pairs)

    assert all(label == truth[row] for row, label in enumerate(labels) if row not in left)
    assert len(left) > 100


def test_a_comparison_that_hears_of_a_hundredth_of_the_errors_lets_wrong_labels_through() -> None:
    rows, centroids, pairs = close_pairs()
    scores = (rows.double()[:, None] * centroids.double().view(200, 2, 64)).sum(dim=2)
    truth = pairs[np.arange(200), scores.argmax(dim=1).numpy()]

    labels, left = compared(rows, centroids, pairs, told=0.01)

    assert any(label != truth[row] for row, label in enumerate(labels) if row not in left)

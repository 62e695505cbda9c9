"""Rows that the screen lists get the label of the largest canonical score; brute force is the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import truth
from cosmeans import sphere
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, quantize_rows
from cosmeans.backends.gpu.kernels.refine import RefineWorkspace, refine
from cosmeans.backends.gpu.kernels.screen import Errors
from cosmeans.data import Batch


def directions(n: int, d: int, seed: int) -> torch.Tensor:
    return sphere.normalise(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def settled(rows: torch.Tensor, centroids: torch.Tensor, candidates: np.ndarray) -> tuple[list[int], int]:
    """Labels of rows, of which every second one is listed with two candidates, and how many were settled."""
    listed = np.arange(0, len(rows), 2)
    space = RefineWorkspace(len(rows), rows.device)
    space.uncertified.pairs[: len(listed)] = torch.from_numpy(listed.astype(np.int32))
    space.uncertified.pair_clusters[: 2 * len(listed)] = torch.from_numpy(candidates[listed].astype(np.int32).ravel())
    space.uncertified.counts[:] = torch.tensor([0, len(listed), 0, 0], dtype=torch.int32)
    labels = torch.full((len(rows),), -7, dtype=torch.int32)
    batch, columns = Batch(0, rows), CentroidWorkspace(*centroids.shape, 0, rows.device).quantize(centroids)
    copy = QuantizedRows.empty(len(rows), rows.shape[1], 0, device=rows.device)
    refine(space, copy, 0, batch, columns, labels, Errors(0.0, 0.0), programs=3)
    return labels.tolist(), int(space.n_refined)


def test_of_two_candidates_the_one_of_larger_score_wins() -> None:
    rows, centroids = directions(41, 30, 0), directions(12, 30, 1)
    truth = rows.double().numpy() @ centroids.double().numpy().T
    best_two = np.sort(np.argsort(-truth, axis=1)[:, :2], axis=1)

    labels, number = settled(rows, centroids, best_two)

    assert labels[::2] == truth.argmax(axis=1)[::2].tolist()
    assert set(labels[1::2]) == {-7}  # rows that are not listed keep theirs
    assert number == 21


def test_of_two_equal_scores_the_lower_index_wins() -> None:
    rows = torch.eye(6)[:, :4].contiguous()[:4]
    centroids = sphere.normalise(torch.tensor([[0.0, 0, 0, 1], [1, 1, 0, 0], [1, -1, 0, 0]]))

    labels, _ = settled(rows, centroids, np.array([[1, 2]] * 4))

    assert labels[0] == 1


@pytest.mark.parametrize("n_equal", [3, 16, 17])
def test_of_many_candidates_the_best_wins(n_equal: int) -> None:
    """Almost equal centroids, in more columns than a program reads at once; more of them than a list of candidates."""
    n, d, k = 3, 20, 150
    rows, near = directions(n, d, 0), directions(1, d, 1)
    centroids = directions(k, d, 2)
    centroids[120 : 120 + n_equal] = sphere.normalise(near + 1e-5 * directions(n_equal, d, 3))
    rows[:] = sphere.normalise(near + 1e-3 * rows)
    space, labels = RefineWorkspace(n, rows.device), torch.full((n,), -7, dtype=torch.int32)
    space.uncertified.rows[:], space.uncertified.scores[:] = torch.arange(n, dtype=torch.int32).flip(0), 0.999
    space.uncertified.counts[:] = torch.tensor([n, 0, 0, 0])
    copy = QuantizedRows.empty(n, d, 0, rows.device)
    columns = CentroidWorkspace(k, d, 0, rows.device).quantize(centroids)
    quantize_rows(Batch(0, rows), copy, 0)

    refine(space, copy, 0, Batch(0, rows), columns, labels, Errors(0.0, 0.0), programs=1)

    assert labels.tolist() == truth.labels(rows.numpy(), centroids.numpy()).tolist()
    assert int(space.n_refined) == n
    assert (space.n_candidates == 0).all()  # as the next pass expects it

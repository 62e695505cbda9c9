"""The meaning of every backend: float64 brute force in plain torch, slow and obviously right.

`cpu/` and `gpu/` have the same operations under the same names, and must give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans import epoch, sphere
from cosmeans.backends.session import Operations, PlainSession
from cosmeans.contracts import Group, RowSource
from cosmeans.data import NO_LABEL, Assignment, Batch, ClusterSums, Task
from cosmeans.observer import Log, Observer

_PAIRS_AT_ONCE = 1 << 22  # entries of (rows, K, D) products held at once: 32 MB of float64


class ReferenceBackend:
    """Every operation as it is defined (docs/algorithm.md)."""

    name = "reference"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def session(self, source: RowSource, task: Task, group: Group, observer: Observer, log: Log) -> PlainSession:
        return PlainSession(self.operations, source, task, self.device, group, observer)

    def operations(self) -> Operations:
        """They keep nothing, so all sessions have the same."""
        return OPERATIONS

    def squared_norms(self, rows: Tensor) -> Tensor:
        return sphere.squared_norms(rows)


def assign(batch: Batch, centroids: Tensor, before: Tensor) -> Assignment:
    """Label of every row by the canonical scores with all centroids; -1 for rows left out."""
    labels = _of_all_scores(batch, centroids, lambda scores_BK: scores_BK.argmax(dim=1).to(torch.int32))
    return Assignment(_where_kept(batch, labels, NO_LABEL), len(batch))


def accumulate(batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
    """Move the rows whose label changed from sum to sum, and write their labels into `before`.

    Returns how many those were.
    """
    changed = (before != after).nonzero()[:, 0]
    unit = sphere.unit_rows(batch.rows[changed], None if batch.norms is None else batch.norms[changed])
    weights = None if batch.weights is None else batch.weights[changed][:, None]
    terms = sphere.term(weights, sphere.fixed_point(unit, into.scale))
    for labels, sign in ((before[changed], -1), (after[changed], 1)):
        labelled = labels >= 0
        index = labels[labelled].to(torch.int64)
        into.direction.index_add_(0, index, terms[labelled], alpha=sign)
        into.count.index_add_(0, index, torch.ones_like(index), alpha=sign)
    before.copy_(after)
    return len(changed)


def update(sums: ClusterSums, previous: Tensor, total: int, changed: int, settled: int) -> epoch.Outcome:
    """The centroids that follow these sums, and the numbers of the epoch."""
    return epoch.outcome(sums.direction, sums.count, previous, total, changed, settled)


def scores(batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
    """Canonical score of each row with the centroid of its label, (B,) float64; 0 for label -1."""
    own = centroids[labels.clamp_min(0).to(torch.int64)]
    found = sphere.scores(sphere.unit_rows(batch.rows, batch.norms), own)
    return torch.where(labels >= 0, found, torch.zeros_like(found))


def chords(batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`scores`, and the squared chord of each row and the centroid of its label, (B,) float64 each."""
    own = centroids[labels.clamp_min(0).to(torch.int64)]
    squared = sphere.squared_chords(sphere.unit_rows(batch.rows, batch.norms), own)
    return scores(batch, centroids, labels), torch.where(labels >= 0, squared, torch.zeros_like(squared))


def cosines(batch: Batch, centroids: Tensor) -> Tensor:
    """Canonical scores with every centroid, rounded to float32, (B, K); 0 for rows left out."""
    found = _of_all_scores(batch, centroids, lambda scores_BK: scores_BK.to(torch.float32))
    return _where_kept(batch, found, 0.0)


def improve(batch: Batch, centroid: Tensor, best: Tensor) -> None:
    """Raise best (B,) float64 to the canonical score with this centroid (D,) where that is larger."""
    torch.maximum(best, sphere.scores(sphere.unit_rows(batch.rows, batch.norms), centroid), out=best)


OPERATIONS = Operations(
    assign=assign,
    squared_norms=sphere.squared_norms,
    unit_rows=sphere.unit_rows,
    accumulate=accumulate,
    update=update,
    scores=scores,
    chords=chords,
    inertia_limbs=sphere.inertia_limbs,
    cosines=cosines,
    improve=improve,
)


def _of_all_scores(batch: Batch, centroids: Tensor, then: Callable[[Tensor], Tensor]) -> Tensor:
    """then(scores (b, K)) for a few rows at a time, joined."""
    unit = sphere.unit_rows(batch.rows, batch.norms)
    step = max(1, _PAIRS_AT_ONCE // max(1, centroids.numel()))
    return torch.cat([then(sphere.scores(rows[:, None, :], centroids)) for rows in unit.split(step)])


def _where_kept(batch: Batch, values: Tensor, otherwise: float) -> Tensor:
    if batch.keep is None:
        return values
    keep = batch.keep.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(keep, values, torch.full_like(values, otherwise))

"""The meaning of every backend: float64 brute force in plain torch, slow and obviously right.

`cpu/` and `gpu/` have the same functions and must give the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import RowSource
from cosmeans.data import NO_LABEL, Assignment, Batch, ClusterSums

_PAIRS_AT_ONCE = 1 << 22  # entries of (rows, K, D) products held at once: 32 MB of float64


class ReferenceBackend:
    """Scores every row with every centroid canonically (DESIGN: sections 1 and 4 of docs/algorithm.md)."""

    name = "reference"
    lookahead = 0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def squared_norms(self, rows: Tensor) -> Tensor:
        return sphere.squared_norms(rows)

    def lengths(self, squared: Tensor) -> sphere.Lengths:
        return sphere.lengths(squared)

    def begin(self, rows: RowSource) -> None:
        """Keeps nothing."""

    def prepare(self, centroids: Tensor) -> Tensor:
        return centroids

    def assign(self, batch: Batch, prepared: Tensor, before: Tensor) -> Assignment:
        labels = self._all_scores(batch, prepared, lambda scores_BK: scores_BK.argmax(dim=1).to(torch.int32))
        return Assignment(_where_kept(batch, labels, NO_LABEL), len(batch))

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
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

    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> sphere.Outcome:
        return sphere.outcome(sums.direction, sums.count, previous, total, int(changed), int(settled))

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        own = centroids[labels.clamp_min(0).to(torch.int64)]
        scores = sphere.scores(sphere.unit_rows(batch.rows, batch.norms), own)
        return torch.where(labels >= 0, scores, torch.zeros_like(scores))

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        own = centroids[labels.clamp_min(0).to(torch.int64)]
        squared = sphere.squared_chords(sphere.unit_rows(batch.rows, batch.norms), own)
        return self.scores(batch, centroids, labels), torch.where(labels >= 0, squared, torch.zeros_like(squared))

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        return sphere.inertia_limbs(squared, weights)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        cosines = self._all_scores(batch, centroids, lambda scores_BK: scores_BK.to(torch.float32))
        return _where_kept(batch, cosines, 0.0)

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        torch.maximum(best, sphere.scores(sphere.unit_rows(batch.rows, batch.norms), centroid), out=best)

    def _all_scores(self, batch: Batch, centroids: Tensor, then) -> Tensor:  # type: ignore[no-untyped-def]
        """then(scores (b, K)) for a few rows at a time, joined."""
        unit = sphere.unit_rows(batch.rows, batch.norms)
        step = max(1, _PAIRS_AT_ONCE // max(1, centroids.numel()))
        parts = [then(sphere.scores(rows[:, None, :], centroids)) for rows in unit.split(step)]
        return torch.cat(parts)


def _where_kept(batch: Batch, values: Tensor, otherwise: float) -> Tensor:
    if batch.keep is None:
        return values
    keep = batch.keep.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(keep, values, torch.full_like(values, otherwise))

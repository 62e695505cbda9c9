"""Rows before all of them are inspected, for first centroids that are known while the others are still read."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.containers.converted import floating
from cosmeans.contracts import Backend, RowSource
from cosmeans.inspection.weights import checked_scale, masses, prepare_weights


class UnreadRows:
    """What a random start asks of rows (`contracts.RowsByIndex`): only those taken are read.

    A row is usable or not by itself, so a start drawn here is the one drawn from the inspected rows, if all rows that
    it took are `usable`. Otherwise some would have been passed over.
    """

    def __init__(self, source: RowSource, backend: Backend, weights: Tensor | None = None) -> None:
        """backend: what finds lengths, and where rows that are taken are put. weights: (N,), checked."""
        self.n_rows, self.n_features = source.n_rows, source.n_features
        self._weights, _ = prepare_weights(weights, self.n_rows)
        self.scale = checked_scale(self._weights, self.n_rows)
        self.usable = True
        self._source, self._backend = source, backend

    def take(self, indices: Tensor) -> Tensor:
        rows = floating(self._source.gather(indices.to(self._source.device))).to(self._backend.device)
        squared = self._backend.squared_norms(rows)
        found = sphere.lengths(squared)
        unit = sphere.unit_rows(rows, found.divisors)
        if not found.usable:
            self.usable = False
            unit[~sphere.usable(squared)] = 0.0
        return unit

    def kept(self, indices: Tensor) -> Tensor:
        if self._weights is None:
            return torch.ones(len(indices), dtype=torch.bool, device="cpu")
        return self._weights[indices] > 0

    def masses(self) -> Tensor | None:
        return masses(self._weights, self.scale)

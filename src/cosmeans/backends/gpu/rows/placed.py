"""The rows of a session, on the device or on the host: each batch goes the way that its rows need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels import scores as exact
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import current
from cosmeans.backends.gpu.kernels.quantize import dense_batch
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.rows.streamed import StreamedRows
from cosmeans.backends.gpu.rows.upload import Upload
from cosmeans.contracts import InspectedRows
from cosmeans.data import Batch, ClusterSums, CostCounters


class PlacedRows:
    """Passes over rows wherever they are; `backends/reference.py` is the meaning of every function."""

    def __init__(self, state: DeviceState, screens: Screens, integers: bool | None) -> None:
        """integers: whether passes begin in 8 bits; None: where that pays."""
        self.device = state.device
        self.resident, self.upload = ResidentRows(state, screens, integers), Upload(state.device, state.tuning)
        self._streamed = StreamedRows(self.resident, self.upload)

    def begin(self, rows: InspectedRows, k: int) -> None:
        """Many passes over these rows follow."""
        if rows.rows_device == self.device:
            self.resident.begin(rows, k)
        else:
            self._streamed.begin(rows, k, rows.n_bytes // rows.n_rows)

    def assign(
        self, batch: Batch, columns: QuantizedCentroids, labels: Tensor, *, note: bool = False
    ) -> tuple[Tensor, CostCounters | None]:
        """Write the labels (B,) of a batch. Returns how many rows were refined, (1,), and the cost where it is counted.

        note: whether the counts of this pass are noted, by which the precision of later ones is chosen
        """
        if self._is_here(batch):
            return self.resident.assign(batch, columns, labels, note=note), None
        refined = self._streamed.assign(batch, columns, labels)
        return refined, self._streamed.counters(batch, len(columns.centroids))

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        """Move the rows whose label changed, and write their labels into `before`. Returns how many changed, (1,)."""
        rows = self.resident if self._is_here(batch) else self._streamed
        return rows.accumulate(batch, before, after, into)

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        with current(self.device):
            if self._is_here(batch):
                return exact.own_scores(dense_batch(batch), centroids, labels)
            out = self._numbers(batch)
            for which, near in self._streamed.fetch(batch):
                out[which] = exact.own_scores(near, centroids, labels[which])
            return out

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with current(self.device):
            if self._is_here(batch):
                return exact.own_chords(dense_batch(batch), centroids, labels)
            out, squared = self._numbers(batch), self._numbers(batch)
            for which, near in self._streamed.fetch(batch):
                out[which], squared[which] = exact.own_chords(near, centroids, labels[which])
            return out, squared

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        with current(self.device):
            return exact.inertia_limbs(squared, weights)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        with current(self.device):
            if self._is_here(batch):
                return exact.cosines(batch, centroids)
            out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device=self.device)
            for which, near in self._streamed.fetch(batch):
                out[which] = exact.cosines(near, centroids)
            return out

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        with current(self.device):
            for which, near in self._pieces(batch):
                exact.improve(near, centroid, best[which])

    def _pieces(self, batch: Batch) -> Iterator[tuple[Any, Batch]]:
        """The batch on the device, and which of its rows each piece holds."""
        if self._is_here(batch):
            return iter([(slice(None), dense_batch(batch))])
        return self._streamed.fetch(batch)

    def _is_here(self, batch: Batch) -> bool:
        return batch.rows.device == self.device

    def _numbers(self, batch: Batch) -> Tensor:
        return torch.empty(len(batch), dtype=torch.float64, device=self.device)

"""The rows of a session, on the device or on the host: each batch goes the way that its rows need.

The float16 copy of rows that stay on the host is kept on the device: an epoch fetches the rows that it refines and
those that changed cluster. Where even the copy doesn't fit, all rows are sent in every pass. Every row that arrives
goes through `ResidentRows`, so the bits are those of rows that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels import scores
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import current
from cosmeans.backends.gpu.kernels.norms import PendingLengths, inspect_rows, squared_norms
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, dense, dense_batch, quantize_rows
from cosmeans.backends.gpu.rows.plans import plan_streamed, rows_per_fetch
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.rows.upload import GATHERED, Upload
from cosmeans.containers.converted import floating
from cosmeans.contracts import InspectedRows
from cosmeans.data import Batch, ClusterSums, CostCounters
from cosmeans.sphere import Lengths

FETCHED = "rows on the host, float16 copy on the GPU"
SENT = "rows sent from the host in every pass"
_PIECES = 4  # of a batch on the device, of which one may be copied at a time


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

    def inspect(self, batch: Batch) -> tuple[Tensor, Lengths]:
        """Squared lengths of the rows of a batch, (B,) float64, and what they mean. Waits for the device."""
        with current(self.device):
            if not self._is_here(batch):
                return self._streamed.inspect(batch)
            squared = squared_norms(dense(batch.rows))
            return squared, PendingLengths(squared).read()

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
                return scores.own_scores(dense_batch(batch), centroids, labels)
            out = self._numbers(batch)
            for which, near in self._streamed.fetch(batch):
                out[which] = scores.own_scores(near, centroids, labels[which])
            return out

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with current(self.device):
            if self._is_here(batch):
                return scores.own_chords(dense_batch(batch), centroids, labels)
            out, squared = self._numbers(batch), self._numbers(batch)
            for which, near in self._streamed.fetch(batch):
                out[which], squared[which] = scores.own_chords(near, centroids, labels[which])
            return out, squared

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        with current(self.device):
            return scores.inertia_limbs(squared, weights)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        with current(self.device):
            if self._is_here(batch):
                return scores.cosines(batch, centroids)
            out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device=self.device)
            for which, near in self._streamed.fetch(batch):
                out[which] = scores.cosines(near, centroids)
            return out

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        with current(self.device):
            for which, near in self._pieces(batch):
                scores.improve(near, centroid, best[which])

    def _pieces(self, batch: Batch) -> Iterator[tuple[Any, Batch]]:
        """The batch on the device, and which of its rows each piece holds."""
        if self._is_here(batch):
            return iter([(slice(None), dense_batch(batch))])
        return self._streamed.fetch(batch)

    def _is_here(self, batch: Batch) -> bool:
        return batch.rows.device == self.device

    def _numbers(self, batch: Batch) -> Tensor:
        return torch.empty(len(batch), dtype=torch.float64, device=self.device)


class StreamedRows:
    """The passes of `ResidentRows` for batches whose rows are on the host.

    A batch that was sent in one piece stays on the device until the next one is sent: what follows finds it there.
    """

    def __init__(self, resident: ResidentRows, upload: Upload) -> None:
        self._resident, self._upload = resident, upload
        self._sent: tuple[Tensor, Tensor] | None = None  # the rows of the batch sent last, and the same on the device

    def begin(self, rows: InspectedRows, k: int, row_bytes: int) -> None:
        """Many passes over these rows follow: plan, and make the float16 copy if there is room and none was made."""
        resident, n, d = self._resident, rows.n_rows, rows.n_features
        state = resident.state
        if resident.plan is None:
            room = state.free_bytes()
            resident.plan = plan_streamed(n, d, k, row_bytes, room, state.device, state.tuning, limit=state.limit)
        if resident.plan.copied and resident.copy is None:
            tile = resident.screens.row_tile(k, d)
            resident.copy = QuantizedRows.empty(n, d, tile, resident.device)
            for batch in rows.batches():
                for _, near in self.fetch(batch):
                    quantize_rows(near, resident.copy, near.start)

    def inspect(self, batch: Batch) -> tuple[Tensor, Lengths]:
        """Squared lengths of a batch, and what they mean; its rows of the float16 copy are made, if there is one."""
        squared, copy = torch.empty(len(batch), dtype=torch.float64, device=self._resident.device), self._resident.copy
        for which, near in self.fetch(batch):
            if copy is None:
                squared[which] = squared_norms(dense(near.rows))
            else:
                inspect_rows(near.rows, squared[which], copy, near.start)
        return squared, PendingLengths(squared).read()

    def assign(self, batch: Batch, columns: QuantizedCentroids, labels: Tensor) -> Tensor:
        """Write the labels (B,) of a batch. Returns how many rows were refined, (1,)."""
        if self._resident.copy is None:
            return self._assign_sent(batch, columns, labels)
        settled = 0
        for chunk in batch.chunks(self._chunk(batch)):
            found = labels[chunk.start - batch.start :][: len(chunk)]
            self._resident.certify(chunk, columns, found)
            index = self._uncertified(len(chunk))
            settled += len(index)
            for which, near in self.fetch(chunk, index):
                proved = torch.empty(len(near), dtype=torch.int32, device=near.rows.device)
                self._resident.assign(near, columns, proved)
                found[which] = proved
        return torch.full((1,), settled, dtype=torch.int32, device=labels.device)

    def counters(self, batch: Batch, n_clusters: int) -> CostCounters:
        """What labels of a batch cost."""
        copy = self._resident.copy
        n_bytes, how = (0, SENT) if copy is None else (copy.n_bytes, FETCHED)
        return CostCounters(len(batch) * n_clusters, 0, n_bytes, how)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        """Move the rows whose label changed. Returns how many those were, (1,)."""
        there = self._of_sent(batch)
        if there is not None:
            return self._resident.accumulate(there, before, after, into)
        n_changed = 0
        for chunk in batch.chunks(self._chunk(batch)):
            span = slice(chunk.start - batch.start, chunk.start - batch.start + len(chunk))
            old, new = before[span], after[span]
            changed = (old != new).nonzero()[:, 0]  # waits for the device
            n_changed += len(changed)
            for which, near in self.fetch(chunk, None if len(changed) == len(chunk) else changed):
                self._resident.workspace.moves(self._at_once(batch.rows), len(into.count))
                self._resident.accumulate(near, old[which], new[which], into)
        before.copy_(after)  # labels of gathered rows were copies
        return torch.full((1,), n_changed, dtype=torch.int32, device=after.device)

    def fetch(self, batch: Batch, index: Tensor | None = None) -> Iterator[tuple[Any, Batch]]:
        """The batch, or its rows of an index, piece by piece on the device; and which of its rows those are."""
        there = self._of_sent(batch)
        if there is None:
            return self._send(batch, index)
        return iter([(slice(None), there)]) if index is None else _gathered(there, index)

    # ------------------------------------------------------------------- private

    def _of_sent(self, batch: Batch) -> Batch | None:
        """The batch on the device, if its rows are those sent last."""
        if self._sent is None or self._sent[0] is not batch.rows:
            return None
        return replace(batch, rows=self._sent[1])

    def _send(self, batch: Batch, index: Tensor | None) -> Iterator[tuple[Any, Batch]]:
        self._sent = None  # its slot is used again
        for which, near in self._upload.fetch(batch, self._at_once(batch.rows), index):
            there = replace(near, rows=floating(near.rows))
            if index is None and len(near) == len(batch):
                self._sent = batch.rows, there.rows
            yield which, there

    def _assign_sent(self, batch: Batch, columns: QuantizedCentroids, labels: Tensor) -> Tensor:
        """Labels of rows that are all sent."""
        settled = torch.zeros(1, dtype=torch.int32, device=labels.device)
        for which, near in self.fetch(batch):
            settled += self._resident.assign(near, columns, labels[which])
        return settled

    def _uncertified(self, n: int) -> Tensor:
        """Indices of the rows that the screen listed, ascending, as files are read. Waits for the device."""
        listed = self._resident.workspace.refining(n).uncertified
        crowded, pairs = listed.counts[:2].tolist()
        return torch.cat([listed.rows[:crowded], listed.pairs[:pairs]]).sort().values.to(torch.int64)

    def _at_once(self, rows: Tensor) -> int:
        """How many of these rows are fetched at once."""
        plan = self._resident.plan
        if plan is not None and plan.fetched:
            return plan.fetched
        return rows_per_fetch(rows.shape[1] * rows.element_size(), self._resident.state.tuning)

    def _chunk(self, batch: Batch) -> int:
        plan = self._resident.plan
        return len(batch) if plan is None else min(len(batch), plan.chunk)


def _gathered(batch: Batch, index: Tensor) -> Iterator[tuple[Tensor, Batch]]:
    """Some rows of a batch that is on the device, a few at a time: each piece is a copy."""
    step = max(1, len(batch) // _PIECES)
    for start in range(0, len(index), step):
        which = index[start : start + step]
        facts = (None if fact is None else fact[which] for fact in (batch.norms, batch.keep, batch.weights))
        yield which, Batch(GATHERED, batch.rows[which], *facts)

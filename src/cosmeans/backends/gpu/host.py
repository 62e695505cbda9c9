"""The GPU backend for rows that stay on the host, too (docs/gpu.md, section 6).

Their fp16 copy is kept on the device: an epoch fetches the rows that it settles and those that changed cluster. Where
even the copy doesn't fit, all rows are sent in every pass. Every row that arrives goes through the functions of
`GpuBackend`, so the bits are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu.ferry import GATHERED
from cosmeans.backends.gpu.kernels.accumulate import accumulate
from cosmeans.backends.gpu.kernels.columns import CentroidSpace, Quantised
from cosmeans.backends.gpu.kernels.quantize import Copy, copy_rows, parts
from cosmeans.backends.gpu.memory import plan_far, rows_fetched
from cosmeans.backends.gpu.receiving import ReceivingBackend
from cosmeans.contracts import Loan, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums, Work

FETCHED = "rows on the host, float16 copy on the GPU"
SENT = "rows sent from the host in every pass"


class HostRowsBackend(ReceivingBackend):
    """`ReceivingBackend`, for rows on either side."""

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto") -> None:
        super().__init__(device, screen)
        self._sent: tuple[Batch, Batch] | None = None  # the batch labelled last, and the same on the device

    def squared_norms(self, rows: Tensor) -> Tensor:
        if not self._is_far(rows) or self._known(rows) is not None:
            return super().squared_norms(rows)
        found = torch.empty(len(rows), dtype=torch.float64, device=self.device)
        for which, near in self._fetch(Batch(0, rows)):
            found[which] = super().squared_norms(near.rows)
        return found

    # -------------------------------------------------------------- a fit

    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
        """An epoch that fetches rows waits for the device, so it can't be recorded."""
        if rows.rows_device != self.device:
            if self._plan is not None:
                self._give_back()
            return None
        return super().lend(rows, centroids)

    def _ready(self, k: int, d: int) -> CentroidSpace:
        rows = self._rows
        if rows is not None and rows.rows_device != self.device:
            self._take_up(rows)
            if self._memory is None:
                self._plan_far(rows, k, d)
        return super()._ready(k, d)

    def _plan_far(self, rows: RowSource, k: int, d: int) -> None:
        """For rows that nobody received."""
        row_bytes = rows.n_bytes // rows.n_rows
        self._memory = plan_far(rows.n_rows, d, k, row_bytes, self._room(), self.device)
        if self._memory.resident:
            self._resident = Copy.empty(rows.n_rows, d, self._screens.row_tile(k, d), False, self.device)
            for batch in rows.batches():
                for _, near in self._fetch(batch):
                    copy_rows(near, self._resident, near.start)

    def assign(self, batch: Batch, prepared: Quantised, before: Tensor) -> Assignment:
        if not self._is_far(batch.rows):
            return super().assign(batch, prepared, before)
        labels = self._desk.labels(len(batch))
        with self.current():
            kept = self._resident
            if kept is None:
                settled = self._label_sent(batch, prepared, labels)
            else:
                settled = self._label_kept(batch, prepared, labels)
        n_bytes, way = (0, SENT) if kept is None else (kept.n_bytes, FETCHED)
        work = Work(len(batch) * len(prepared.centroids), 0, n_bytes, way)
        return Assignment(labels, settled, work)

    def _label_sent(self, batch: Batch, prepared: Quantised, labels: Tensor) -> Tensor:
        """Labels of rows that are all sent; those of one piece stay there for the sums."""
        settled = torch.zeros(1, dtype=torch.int32, device=self.device)
        for which, near in self._fetch(batch):
            settled += self._assign(near, prepared, labels[which])
            if len(near) == len(batch):
                self._sent = batch, near
        return settled

    def _label_kept(self, batch: Batch, prepared: Quantised, labels: Tensor) -> Tensor:
        """Labels by the fp16 copy; rows that it can't prove are fetched, and labelled as a batch of their own."""
        settled = 0
        for part in parts(batch, self._at_once(*batch.rows.shape)):
            start = part.start - batch.start
            found = labels[start : start + len(part)]
            self.screen(part, prepared, found)
            index = self._doubtful(len(part))
            settled += len(index)
            for which, near in self._fetch(part, index):
                proved = torch.empty(len(near), dtype=torch.int32, device=self.device)
                self._assign(near, prepared, proved)
                found[which] = proved
        return torch.full((1,), settled, dtype=torch.int32, device=self.device)

    def _doubtful(self, n: int) -> Tensor:
        """Indices of the rows that the screen listed, ascending, as files are read. Waits for the device."""
        listed = self._desk.settling(n).doubtful
        crowded, pairs = listed.counts[:2].tolist()
        return torch.cat([listed.rows[:crowded], listed.pairs[:pairs]]).sort().values.to(torch.int64)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        if not self._is_far(batch.rows):
            return super().accumulate(batch, before, after, into)
        if self._sent is not None and self._sent[0] is batch:
            return super().accumulate(self._sent[1], before, after, into)
        n_changed, k = 0, len(into.count)
        with self.current():
            for part in parts(batch, self._at_once(*batch.rows.shape)):
                span = slice(part.start - batch.start, part.start - batch.start + len(part))
                old, new = before[span], after[span]
                changed = (old != new).nonzero()[:, 0]  # waits for the device
                n_changed += len(changed)
                for which, near in self._fetch(part, None if len(changed) == len(part) else changed):
                    space = self._desk.moves(self._at_a_time(batch.rows), k)
                    accumulate(near, old[which], new[which], into, space, self._programs)
            before.copy_(after)  # labels of gathered rows were copies
        return torch.full((1,), n_changed, dtype=torch.int32, device=self.device)

    # ------------------------------------------------------------- scores

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        if not self._is_far(batch.rows):
            return super().scores(batch, centroids, labels)
        out = torch.empty(len(batch), dtype=torch.float64, device=self.device)
        for which, near in self._fetch(batch):
            out[which] = super().scores(near, centroids, labels[which])
        return out

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self._is_far(batch.rows):
            return super().chords(batch, centroids, labels)
        out, squared = (torch.empty(len(batch), dtype=torch.float64, device=self.device) for _ in range(2))
        for which, near in self._fetch(batch):
            out[which], squared[which] = super().chords(near, centroids, labels[which])
        return out, squared

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        if not self._is_far(batch.rows):
            return super().cosines(batch, centroids)
        out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device=self.device)
        for which, near in self._fetch(batch):
            out[which] = super().cosines(near, centroids)
        return out

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        if not self._is_far(batch.rows):
            return super().improve(batch, centroid, best)
        for which, near in self._fetch(batch):
            super().improve(near, centroid, best[which])
        return None

    # ------------------------------------------------------------ private

    def _is_far(self, rows: Tensor) -> bool:
        return rows.device != self.device

    def _at_a_time(self, rows: Tensor) -> int:
        """How many of these rows are fetched at once."""
        planned = 0 if self._memory is None else self._memory.fetched
        return planned or rows_fetched(rows.shape[1] * rows.element_size())

    def _fetch(self, batch: Batch, index: Tensor | None = None) -> Iterator[tuple[Any, Batch]]:
        self._sent = None  # its place is used again
        return self._ferry.fetch(batch, self._at_a_time(batch.rows), index)

    def _copy(self, batch: Batch, tile: int) -> tuple[Copy, int]:
        if batch.start != GATHERED:
            return super()._copy(batch, tile)
        copy = self._desk.part(self._at_a_time(batch.rows), batch.rows.shape[1], tile)
        copy_rows(batch, copy, 0)
        return copy, 0

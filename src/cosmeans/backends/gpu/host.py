"""The GPU backend for rows before their source is made, also for such that lie on the host (docs/gpu.md, section 6).

Rows that fit are sent to the device once; their lengths and their fp16 copy are made of each piece while the next one
travels. Of rows that don't, the fp16 copy is kept: an epoch fetches the rows that it settles and those that changed
cluster. Where even the copy doesn't fit, all rows are sent in every pass. Every row that arrives goes through the
functions of `GpuBackend`, so the bits are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu import record
from cosmeans.backends.gpu.accumulate import accumulate
from cosmeans.backends.gpu.arrival import Arrived
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.centroids import CentroidSpace, Quantised
from cosmeans.backends.gpu.desk import clear_desks
from cosmeans.backends.gpu.ferry import GATHERED, Ferry
from cosmeans.backends.gpu.memory import (
    MOST_IN_TURN,
    OF_RECEIVED,
    MemoryPlan,
    plan_far,
    plan_received,
    rows_fetched,
)
from cosmeans.backends.gpu.record import Plan
from cosmeans.backends.gpu.rows import Copy, copy_rows, inspect_rows, parts
from cosmeans.backends.gpu.warmup import warm_up
from cosmeans.contracts import Loan, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums, Received, Work
from cosmeans.errors import DeviceMemoryError

_SMALL = 64 << 20  # bytes of rows that are sent in one piece: nothing would be gained beside it
_SPAN = 512 << 20  # bytes of rows inspected at once while others arrive: starting kernels delays filling pieces

FETCHED = "rows on the host, float16 copy on the GPU"
SENT = "rows sent from the host in every pass"


class HostRowsBackend(GpuBackend):
    """`GpuBackend`, and `contracts.Receiver`."""

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto") -> None:
        super().__init__(device, screen)
        if self._index is not None:
            self.device = torch.device("cuda", self._index)
        self._ferry = Ferry(self.device)
        self._arrived: Arrived | None = None
        self._sent: tuple[Batch, Batch] | None = None  # the batch labelled last, and the same on the device

    # ------------------------------------------------------------ receiving

    def expect(self, rows: Tensor, n_clusters: int, *, fit: bool, weighted: bool = False) -> None:
        """`contracts.Receiver`. Squared lengths and fp16 copy are made in one pass, if the copy of all rows fits."""
        n, d = rows.shape
        if not n or rows.stride(1) != 1:
            return
        with self.current():
            # a small fit copies its rows to a desk
            plan = None
            if not fit or not record.waits(n, n_clusters, d, rows.element_size(), self.device):
                try:
                    plan = self._planned(n, d, n_clusters, taken=n * OF_RECEIVED)
                except DeviceMemoryError:
                    return  # said when it is needed
            inspects = plan is not None and plan.resident and (fit or n <= MOST_IN_TURN)
            warm_up(rows, n_clusters, self._screens, fit=fit, inspects=inspects, weighted=weighted)
            if plan is not None and inspects:
                self._arrived = arrived = self._empty(rows, plan, n_clusters, keep=True)
                assert arrived.squared is not None
                assert arrived.copy is not None
                inspect_rows(rows, arrived.squared, arrived.copy, 0)
                if fit:
                    self._set_out(n, d, n_clusters)

    def _set_out(self, n: int, d: int, k: int) -> None:
        """Make the memory of a fit while the device inspects its rows: later it would wait for that."""
        desk = self._desk
        desk.centroids(k, d, self._screens.column_tile(k, d))
        desk.settling(n), desk.labels(n), desk.moves(n, k), desk.updates(k)

    def _empty(self, rows: Tensor, plan: MemoryPlan, n_clusters: int, *, keep: bool) -> Arrived:
        """Memory for what will be found of the rows. keep: their copy, too."""
        n, d = rows.shape
        copy, squared = None, torch.empty(n, dtype=torch.float64, device=self.device)
        if keep:
            copy = Copy.empty(n, d, self._screens.row_tile(n_clusters, d), False, self.device)
        return Arrived(rows, plan, squared, copy)

    def receive(
        self,
        rows: Tensor,
        n_clusters: int,
        *,
        fit: bool,
        say: Callable[[str], None],
        progress: Callable[[int, int], None],
        weighted: bool = False,
    ) -> Received:
        """`contracts.Receiver`. One line says so where the rows stay on the host."""
        n, d = rows.shape
        row_bytes = d * rows.element_size()
        plan = self._plan_received(rows, n_clusters, fit)
        small = not plan.fetched and n * row_bytes < _SMALL
        with self.current():
            sent = torch.empty(rows.shape, dtype=rows.dtype, device="meta")
            inspects = fit and plan.resident and not small
            warm_up(sent, n_clusters, self._screens, fit=fit, inspects=inspects, weighted=weighted)
        if small:
            return Received(rows.contiguous().to(self.device))
        if plan.fetched:
            way = "their float16 copy is kept there" if plan.resident else "they are sent there in every pass"
            sizes = [f"{n_bytes / 2**20:,.0f} MiB" for n_bytes in (n * row_bytes, self._room())]
            say(f"the rows take {sizes[0]} and {self.device} has {sizes[1]} free: they stay on the host, {way}")
        with self.current():
            self._arrived = self._inspected(rows, plan, n_clusters, keep=fit and plan.resident, progress=progress)
        if plan.fetched:
            self._memory = plan
        return Received(self._arrived.rows, plan.part if plan.fetched else None)

    def _plan_received(self, rows: Tensor, n_clusters: int, fit: bool) -> MemoryPlan:
        """Desks that wait for other fits give way to rows that don't fit beside them."""
        row_bytes = rows.shape[1] * rows.element_size()
        kind = (rows.shape, row_bytes, n_clusters)
        try:
            plan = plan_received(*kind, self._room(), self.device, keep=fit)
        except DeviceMemoryError:
            plan = None
        if plan is not None and plan.resident and not plan.fetched:
            return plan
        clear_desks()
        return plan_received(*kind, self._room(), self.device, keep=fit)

    def _inspected(
        self, rows: Tensor, plan: MemoryPlan, n_clusters: int, *, keep: bool, progress: Callable[[int, int], None]
    ) -> Arrived:
        """The rows, where the plan wants them; squared lengths and fp16 copy are made while others arrive."""
        n, d = rows.shape
        there = rows if plan.fetched else self._ferry.make(n, d, dtype=rows.dtype)
        arrived = self._empty(there, plan, n_clusters, keep=keep)
        assert arrived.squared is not None
        for near in self._arriving(rows, there, plan):
            if arrived.copy is None:
                arrived.squared[near.span] = super().squared_norms(near.rows)
            else:
                inspect_rows(near.rows, arrived.squared[near.span], arrived.copy, near.start)
            progress(near.start + len(near), n)
        return arrived

    def _arriving(self, rows: Tensor, there: Tensor, plan: MemoryPlan) -> Iterator[Batch]:
        """All rows, a batch at a time on the device: those that stay there, or one place after the other."""
        if plan.fetched:
            yield from (near for _, near in self._ferry.fetch(Batch(0, rows), plan.fetched))
            return
        step = max(1, _SPAN // (rows.shape[1] * rows.element_size()))
        for start in range(0, len(rows), step):
            span = slice(start, start + step)
            self._ferry.send(rows[span], there[span])
            yield Batch(start, there[span])

    def squared_norms(self, rows: Tensor) -> Tensor:
        known = None if self._arrived is None else self._arrived.squared_of(rows)
        if known is not None:
            return known
        if not self._is_far(rows):
            return super().squared_norms(rows)
        found = torch.empty(len(rows), dtype=torch.float64, device=self.device)
        for which, near in self._fetch(Batch(0, rows)):
            found[which] = super().squared_norms(near.rows)
        return found

    # -------------------------------------------------------------- a fit

    def begin(self, rows: RowSource) -> None:
        super().begin(rows)
        if self._arrived is not None:
            self._arrived.squared = None  # the source has them
            self._take_up(rows)

    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
        """An epoch that fetches rows waits for the device, so it can't be recorded."""
        if rows.rows_device != self.device:
            if self._plan is not None:
                self._give_back()
            return None
        if self._arrived is not None:
            plan = Plan.of(rows, centroids, None)
            if plan is not None and plan.waits:
                self._arrived.copy = None  # one is made at the desk
        return super().lend(rows, centroids)

    def _take_up(self, rows: RowSource) -> None:
        """The plan of rows that were received, and the copy made of them then."""
        arrived = self._arrived
        if arrived is None or self._memory is not None or not arrived.are(rows):
            return
        if arrived.copy is not None or not arrived.plan.resident:
            self._memory, self._resident = arrived.plan, arrived.copy

    def _ready(self, k: int, d: int) -> CentroidSpace:
        rows = self._rows
        if rows is not None:
            self._take_up(rows)
        if rows is not None and self._memory is None and rows.rows_device != self.device:
            row_bytes = rows.n_bytes // rows.n_rows
            self._memory = plan_far(rows.n_rows, d, k, row_bytes, self._room(), self.device)
            if self._memory.resident:
                self._resident = Copy.empty(rows.n_rows, d, self._screens.row_tile(k, d), False, self.device)
                for batch in rows.batches():
                    for _, near in self._fetch(batch):
                        copy_rows(near, self._resident, near.start)
        return super()._ready(k, d)

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
        n_bytes = 0 if kept is None else kept.values.nbytes + kept.residuals.nbytes + kept.units.nbytes
        work = Work(len(batch) * len(prepared.centroids), 0, n_bytes, SENT if kept is None else FETCHED)
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
        return torch.full((1,), n_changed, dtype=torch.int32, device=self.device)

    # ------------------------------------------------------------- scores

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        if not self._is_far(batch.rows):
            return super().scores(batch, centroids, labels)
        out = torch.empty(len(batch), dtype=torch.float64, device=self.device)
        for which, near in self._fetch(batch):
            out[which] = super().scores(near, centroids, labels[which])
        return out

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
            # rows to be labelled once: their source didn't begin a fit
            known = self._arrived.copy_of(batch.rows) if self._rows is None and self._arrived is not None else None
            if known is not None and known[0].tile == tile:
                return known
            return super()._copy(batch, tile)
        copy = self._desk.part(self._at_a_time(batch.rows), batch.rows.shape[1], tile)
        copy_rows(batch, copy, 0)
        return copy, 0

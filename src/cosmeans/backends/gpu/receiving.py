"""The GPU backend for rows before their source is made, where they lie or on their way (docs/gpu.md, section 6).

Rows that fit are sent to the device once; of each piece their lengths and their fp16 copy are made, and their labels
where the first centroids are known, while the next one travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from cosmeans.backends.gpu import record
from cosmeans.backends.gpu.ahead import Ahead
from cosmeans.backends.gpu.arrival import Arrived
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.desk import clear_desks
from cosmeans.backends.gpu.ferry import Ferry
from cosmeans.backends.gpu.kernels.columns import CentroidSpace, Quantised
from cosmeans.backends.gpu.kernels.norms import Queued, inspect_rows, start_lengths
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.memory import MOST_IN_TURN, OF_RECEIVED, MemoryPlan, plan_received, rounded
from cosmeans.backends.gpu.record import Plan
from cosmeans.backends.gpu.warmup import warm_up
from cosmeans.contracts import Loan, RowSource
from cosmeans.data import Assignment, Batch, Coming, Received
from cosmeans.errors import DeviceMemoryError
from cosmeans.sphere import Lengths

_SMALL = 64 << 20  # bytes of rows that are sent in one piece: nothing would be gained beside it
_SPAN = 512 << 20  # bytes of rows inspected at once while others arrive: starting kernels delays filling pieces
_BEGUN: dict[object, int] = {}  # of kinds of rows whose kernels are loaded: how many had room for their copy before


class ReceivingBackend(GpuBackend):
    """`GpuBackend`, and `contracts.Receiver`."""

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto") -> None:
        super().__init__(device, screen)
        self._ferry = Ferry(self.device)
        self._arrived: Arrived | None = None
        self._ahead: Ahead | None = None  # for the first pass, and no other
        self._foreseen: tuple[Quantised, Ahead] | None = None  # the pass that it has turned out to be right for

    def expect(self, rows: Tensor, coming: Coming) -> None:
        """`contracts.Receiver`. Squared lengths and fp16 copy are made in one pass, if the copy of all rows fits.

        Labels of the first epoch are queued behind, so that the device has work while the host reads what was found.
        """
        (n, d), k, fit = rows.shape, coming.n_clusters, coming.fit
        if not n or rows.stride(1) != 1:
            return
        # a desk that waits makes a copy of its own, and rows that are labelled once go in turns if they are many
        apart = record.waits(n, k, d, rows.element_size(), self.device) if fit else n > MOST_IN_TURN
        kind = (self._index, d, rows.stride(0), rows.dtype, rows.data_ptr() % 16, k, fit, coming.weighted)
        with self.current():
            # the device begins before the host plans, which takes it as long as an epoch of a small fit
            arrived = None if apart or n > _BEGUN.get(kind, 0) else self._begun(rows, k)
            plan = None if apart else self._plan_beside(rows, k, arrived)
            if arrived is None or plan is None:
                warm_up(rows, k, self._screens, fit=fit, inspects=plan is not None, weighted=coming.weighted)
                arrived = None if plan is None else self._begun(rows, k)
            if arrived is None or plan is None:
                return
            _BEGUN[kind] = max(n, _BEGUN.get(kind, 0))
            arrived.plan, self._arrived = plan, arrived
            if fit:
                self._ahead = self._foresee(rows, coming)
                self._label(Batch(0, rows), arrived)
                self._set_out(n, d, k)

    def receive(
        self, rows: Tensor, coming: Coming, *, say: Callable[[str], None], progress: Callable[[int, int], None]
    ) -> Received:
        """`contracts.Receiver`. One line says so where the rows stay on the host."""
        n, d = rows.shape
        row_bytes = d * rows.element_size()
        plan, k, fit = self._plan_received(rows, coming), coming.n_clusters, coming.fit
        small = not plan.fetched and n * row_bytes < _SMALL
        with self.current():
            sent = torch.empty(rows.shape, dtype=rows.dtype, device="meta")
            # a desk that waits makes a copy of its own
            apart = not plan.fetched and record.waits(n, k, d, rows.element_size(), self.device)
            inspects = fit and plan.resident and not small and not apart
            warm_up(sent, k, self._screens, fit=fit, inspects=inspects, weighted=coming.weighted)
        if small:
            return Received(rows.contiguous().to(self.device))
        if plan.fetched:
            way = "their float16 copy is kept there" if plan.resident else "they are sent there in every pass"
            sizes = [f"{n_bytes / 2**20:,.0f} MiB" for n_bytes in (n * row_bytes, self._room())]
            say(f"the rows take {sizes[0]} and {self.device} has {sizes[1]} free: they stay on the host, {way}")
        with self.current():
            self._ahead = self._foresee(rows, coming) if inspects and not plan.fetched else None
            self._arrived = self._inspected(rows, plan, k, keep=inspects, progress=progress)
        if plan.fetched:
            self._memory = plan
        return Received(self._arrived.rows, plan.part if plan.fetched else None)

    # ------------------------------------------------------------ private

    def _begun(self, rows: Tensor, n_clusters: int) -> Arrived | None:
        """Rows that lie there, their inspection queued; None if there is no memory for what it finds."""
        try:
            arrived = self._empty(rows, MemoryPlan(True, len(rows), 0), n_clusters, keep=True)
            self._inspect(Batch(0, rows), arrived)
        except torch.cuda.OutOfMemoryError:
            return None
        return arrived

    def _plan_beside(self, rows: Tensor, n_clusters: int, begun: Arrived | None) -> MemoryPlan | None:
        """The plan for rows that lie there, if their copy has room beside them. begun: what has its memory already."""
        (n, d), taken = rows.shape, len(rows) * OF_RECEIVED - (0 if begun is None else begun.n_bytes)
        try:
            plan = self._planned(n, d, n_clusters, taken)
        except DeviceMemoryError:
            return None  # said when it is needed
        return plan if plan.resident else None

    def _set_out(self, n: int, d: int, k: int) -> None:
        """Make the memory of a fit while the device inspects and labels its rows: later it would wait for that."""
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

    def _plan_received(self, rows: Tensor, coming: Coming) -> MemoryPlan:
        """Desks that wait for other fits give way to rows that don't fit beside them."""
        row_bytes = rows.shape[1] * rows.element_size()
        kind = (rows.shape, row_bytes, coming.n_clusters)
        try:
            plan = plan_received(*kind, self._room(), self.device, keep=coming.fit)
        except DeviceMemoryError:
            plan = None
        if plan is not None and plan.resident and not plan.fetched:
            return plan
        clear_desks()
        return plan_received(*kind, self._room(), self.device, keep=coming.fit)

    def _foresee(self, rows: Tensor, coming: Coming) -> Ahead | None:
        """What labels rows ahead of the first epoch, if its centroids are known."""
        n, d = rows.shape
        # no first epoch is started before one is recorded
        centroids = None if record.at_once(n, coming.n_clusters, d, self.device) else coming.first()
        return None if centroids is None else Ahead(centroids, n, self._desk, self._screens)

    def _inspected(
        self, rows: Tensor, plan: MemoryPlan, n_clusters: int, *, keep: bool, progress: Callable[[int, int], None]
    ) -> Arrived:
        """The rows, where the plan wants them; what is found of them is found while others arrive."""
        n, d = rows.shape
        there = rows if plan.fetched else self._ferry.make(n, d, dtype=rows.dtype)
        arrived = self._empty(there, plan, n_clusters, keep=keep)
        for near in self._arriving(rows, there, plan):
            self._inspect(near, arrived)
            self._label(near, arrived)
            progress(near.start + len(near), n)
        return arrived

    def _inspect(self, near: Batch, arrived: Arrived) -> None:
        """Queue what is found of rows that are there; with the last ones, what it means for all."""
        assert arrived.squared is not None
        squared = arrived.squared[near.span]
        if arrived.copy is None:
            squared.copy_(super().squared_norms(near.rows))
        else:
            inspect_rows(near.rows, squared, arrived.copy, near.start)
        if near.start + len(near) == len(arrived.squared):
            arrived.lengths = Queued(arrived.squared)

    def _label(self, near: Batch, arrived: Arrived) -> None:
        """Queue the labels of rows that were inspected, where the first centroids are known."""
        if self._ahead is None:
            return
        assert arrived.squared is not None
        assert arrived.copy is not None
        if arrived.lengths is not None and len(near) == len(arrived.squared):
            norms, scaled = arrived.lengths.divisors, arrived.lengths.scaled  # found already
        else:
            norms, scaled = start_lengths(arrived.squared[near.span])
        self._ahead.label(replace(near, norms=norms), arrived.copy, scaled)

    def _arriving(self, rows: Tensor, there: Tensor, plan: MemoryPlan) -> Iterator[Batch]:
        """All rows, a batch at a time on the device: those that stay there, or one place after the other."""
        if plan.fetched:
            yield from (near for _, near in self._ferry.fetch(Batch(0, rows), plan.fetched))
            return
        step = max(1, rounded(_SPAN // (rows.shape[1] * rows.element_size())))
        for start in range(0, len(rows), step):
            span = slice(start, start + step)
            self._ferry.send(rows[span], there[span])
            yield Batch(start, there[span])

    # -------------------------------------------------------------- a fit

    def squared_norms(self, rows: Tensor) -> Tensor:
        known = self._known(rows)
        return super().squared_norms(rows) if known is None else known

    def lengths(self, squared: Tensor) -> Lengths:
        queued = None if self._arrived is None else self._arrived.lengths
        return queued.read() if queued is not None and queued.is_of(squared) else super().lengths(squared)

    def _known(self, rows: Tensor) -> Tensor | None:
        """Squared lengths of rows that were inspected."""
        return None if self._arrived is None else self._arrived.squared_of(rows)

    def begin(self, rows: RowSource) -> None:
        super().begin(rows)
        if self._arrived is not None:
            self._arrived.squared = self._arrived.lengths = None  # the source has them
            self._take_up(rows)

    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
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
        if self._rows is not None:
            self._take_up(self._rows)
        return super()._ready(k, d)

    def prepare(self, centroids: Tensor) -> Quantised:
        prepared = super().prepare(centroids)
        ahead, self._ahead = self._ahead, None
        right = ahead is not None and self._in_first_place() and ahead.is_under(centroids)
        self._foreseen = (prepared, ahead) if right and ahead is not None else None
        return prepared

    def _in_first_place(self) -> bool:
        """Whether the fit is over the rows received, and the source is the one that took them up."""
        return self._rows is not None and self._arrived is not None and self._arrived.are(self._rows)

    def assign(self, batch: Batch, prepared: Quantised, before: Tensor) -> Assignment:
        if self._foreseen is None or self._foreseen[0] is not prepared:
            return super().assign(batch, prepared, before)
        ahead = self._foreseen[1]
        if batch.start == 0:
            self._note(ahead.counts, False)
        return ahead.assignment(batch)

    def _copy(self, batch: Batch, tile: int) -> tuple[Copy, int]:
        # rows to be labelled once: their source didn't begin a fit
        known = self._arrived.copy_of(batch.rows) if self._rows is None and self._arrived is not None else None
        return known if known is not None and known[0].tile == tile else super()._copy(batch, tile)

"""Rows before their first pass: planned for, sent if they are on the host, inspected; labelled meanwhile if possible.

Rows that fit are sent to the device once, piece by piece as the source reads them. Of each piece the lengths and the
float16 copy are made, and the labels where the first centroids are known, while the next one is read and on its way.
Rows that don't fit are planned for here, and sent by the passes (`placed.StreamedRows`), the first of which inspects
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosmeans.backends.gpu.kernels.assign import Narrow, Screens, assign
from cosmeans.backends.gpu.kernels.columns import compare_bits
from cosmeans.backends.gpu.kernels.launch import read_async
from cosmeans.backends.gpu.kernels.norms import PendingLengths, inspect_rows, queue_lengths, squared_norms
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, dense
from cosmeans.backends.gpu.rows.memory import Workspace
from cosmeans.backends.gpu.rows.plans import OF_INSPECTED, aligned, plan_incoming
from cosmeans.backends.gpu.rows.precompile import precompile
from cosmeans.backends.gpu.rows.resident import ResidentRows, plan_on_device
from cosmeans.backends.gpu.rows.upload import Upload, spans
from cosmeans.backends.gpu.tuning import COSTS, ResidencyPlan
from cosmeans.containers.converted import floating, floating_type
from cosmeans.contracts import RowSource
from cosmeans.data import Batch, Task
from cosmeans.errors import DeviceMemoryError
from cosmeans.memory_rows import whole
from cosmeans.observer import Log
from cosmeans.sphere import Lengths

_READ = 2  # pinned pieces of rows that are read at once, while files may be decoded ahead for as many


class PrefetchedLabels:
    """Labels of N rows under these centroids, as far as the rows have arrived. Nothing waits for the device.

    They are only ever a cache. A label is a function of its row and of the centroids, whatever is done when; what was
    found under centroids of other bits is dropped.
    All memory is that of the fit's workspace: labels are where its first pass leaves them.

    counts   (4,) int32: `Uncertified.counts`, added up over the rows
    settled  (1,) int32: rows that were refined
    """

    def __init__(self, centroids: Tensor, n_rows: int, workspace: Workspace, screens: Screens) -> None:
        k, d = centroids.shape
        # a copy: what the fit begins with is compared with what rows were labelled under
        own = centroids.clone(memory_format=torch.contiguous_format)
        self._columns = workspace.centroids(k, d, screens.column_tile(k, d)).quantize(own)
        self._space, self._screens = workspace.refining(n_rows), screens
        self.labels = workspace.labels(n_rows)
        # each at a multiple of 16 bytes, for which kernels are compiled
        numbers = torch.zeros(9, dtype=torch.int32, device=own.device)
        self.counts, self.settled, self._differ = numbers[:4], numbers[4:5], numbers[8:]

    def label(self, near: Batch, copy: QuantizedRows, scaled: Tensor) -> None:
        """Queue the labels of rows that are there, with their norms. `copy` is of all rows.

        scaled: int32, not 0 if one of the norms is not 1
        """
        space, labels, there = self._space, self.labels[near.span], Narrow(copy, near.start)
        self.settled += assign(
            self._screens, space, near, there, self._columns, labels, close=COSTS.close, scaled=scaled
        )
        self.counts += space.uncertified.counts

    def are_under(self, centroids: Tensor) -> Callable[[], bool]:
        """Queue the question whether rows were labelled under centroids of these bits; the function waits for that.

        Asked once.
        """
        own = self._columns.centroids
        if centroids.shape != own.shape:
            return lambda: False
        compare_bits(centroids.contiguous(), own, self._differ)
        read = read_async(self._differ)
        return lambda: not read()[0]


@dataclass(slots=True)
class Ingested:
    """What was found of rows, or is about to be.

    rows        (N, D) on the device; without memory (torch's meta device) until they are sent there, or for good
    plan        of the memory of what follows; None: not planned
    squared     (N,) float64, squared lengths; None: not found
    copy        the float16 copy; None: not made
    lengths     what the squared lengths mean, on its way to the host; None: not found yet
    prefetched  labels under the centroids that the first epoch is expected to have; None: there are none
    """

    rows: Tensor
    plan: ResidencyPlan | None = None
    squared: Tensor | None = None
    copy: QuantizedRows | None = None
    lengths: PendingLengths | None = None
    prefetched: PrefetchedLabels | None = None

    @property
    def n_bytes(self) -> int:
        """Of what was found, or will be."""
        found = 0 if self.squared is None else self.squared.nbytes
        return found if self.copy is None else found + self.copy.n_bytes

    def inspect(self, batch: Batch) -> tuple[Tensor, Lengths]:
        """Squared lengths of a batch, and what they mean."""
        if self.squared is None:
            squared = squared_norms(dense(batch.rows))
            return squared, PendingLengths(squared).read()
        squared = self.squared[batch.span]
        known = self.lengths if len(batch) == len(self.squared) else None
        return squared, (known or PendingLengths(squared)).read()


class Ingest:
    """How the rows of one session are read. Made when it is entered: what needs no centroids begins then."""

    def __init__(self, source: RowSource, task: Task, resident: ResidentRows, upload: Upload, log: Log) -> None:
        self._resident, self._upload, self._task = resident, upload, task
        self._device, self._screens, self._state = resident.device, resident.screens, resident.state
        self._source, self._small, self._keeps = source, False, False
        self._far = source.device != self._device and source.device.type == "cpu"
        if self._far:
            self._plan_upload(log)
            return
        rows = floating(source.view())
        if rows.device != self._device:  # on another GPU
            rows = rows.to(self._device)
        # kernels read adjacent entries: copied once, not in every pass
        self._found = Ingested(rows if rows.stride(1) == 1 else rows.contiguous())
        self._begin_inspection()

    @property
    def labels_while_reading(self) -> bool:
        """Whether rows can be labelled while they are read, if the first centroids are known by then."""
        n, d = self._found.rows.shape
        plan = self._found.plan
        if plan is not None and plan.fetched:
            return self._task.fit
        inspects = self._found.copy is not None or (self._far and self._keeps)
        return self._task.fit and inspects and not self._state.captures_at_once(n, self._task.n_clusters, d)

    def read(self, first: Tensor | None, progress: Callable[[int, int], None]) -> Ingested:
        """The rows on the device, with what was found. progress: called with (rows read, N).

        Of rows that stay on the host nothing is read, and their float16 copy, if there is one, is yet to be filled.
        """
        found, (n, d) = self._found, self._found.rows.shape
        plan = found.plan
        if plan is not None and plan.fetched:
            found.copy = self._empty_copy(n, d) if self._keeps else None
            return found
        if first is not None and self.labels_while_reading:
            found.prefetched = PrefetchedLabels(first, n, self._resident.workspace, self._screens)
        if not self._far:
            if found.copy is not None and self._task.fit:
                self._label(Batch(0, found.rows), found)
                # while the device inspects and labels the rows: later this would wait for that
                self._resident.make_workspace(n, d, self._task.n_clusters)
            return found
        if self._small:
            return Ingested(floating(whole(self._source)).contiguous().to(self._device))
        found.rows = self._upload.make(n, d, dtype=found.rows.dtype)
        found.squared = torch.empty(n, dtype=torch.float64, device=self._device)
        if self._keeps:
            found.copy = self._empty_copy(n, d)
        for near in self._arriving(found.rows):
            self._inspect(near, found)
            self._label(near, found)
            progress(near.start + len(near), n)
        return found

    # ------------------------------------------------------- rows on the device

    def _begin_inspection(self) -> None:
        """Queue the inspection of rows that are there, lengths and float16 copy in one pass, if there is room.

        The device begins before the host plans, which takes it as long as an epoch of a small fit.
        """
        rows, task = self._found.rows, self._task
        (n, d), k, fit, state = rows.shape, task.n_clusters, task.fit, self._state
        if not n:
            return
        # a pooled workspace makes a copy of its own, and rows that are labelled once go in chunks if they are many
        apart = state.pools(n, k, d, rows.element_size()) if fit else n > state.tuning.most_per_chunk
        kind = ("inspected", d, rows.stride(0), rows.dtype, rows.data_ptr() % 16, k, fit, task.weights is None)
        if state.limit is not None:  # nothing is begun that may have no room, nor read in vain
            plan_on_device(n, d, k, state, n * OF_INSPECTED)
        early = not apart and state.limit is None and n <= state.largest(kind)
        found = self._begun(rows) if early else None
        plan = None if apart else self._plan_on_device(rows, found)
        if found is None or plan is None:
            precompile(rows, task, self._screens, state, inspects=plan is not None)
            found = None if plan is None else self._begun(rows)
        if found is not None and plan is not None:
            state.note(kind, n)
            found.plan, self._found = plan, found

    def _begun(self, rows: Tensor) -> Ingested | None:
        """Rows that are there, their inspection queued; None if there is no memory for what it finds."""
        n, d = rows.shape
        try:
            squared = torch.empty(n, dtype=torch.float64, device=self._device)
            found = Ingested(rows, None, squared, self._empty_copy(n, d))
            self._inspect(Batch(0, rows), found)
        except torch.cuda.OutOfMemoryError:
            return None
        return found

    def _plan_on_device(self, rows: Tensor, begun: Ingested | None) -> ResidencyPlan | None:
        """The plan for rows that are there, if their copy has room, too. begun: what has its memory already."""
        (n, d), taken = rows.shape, len(rows) * OF_INSPECTED - (0 if begun is None else begun.n_bytes)
        try:
            plan = plan_on_device(n, d, self._task.n_clusters, self._state, taken)
        except DeviceMemoryError:
            return None  # said when it is needed
        return plan if plan.copied else None

    # --------------------------------------------------------- rows of the host

    def _plan_upload(self, log: Log) -> None:
        source, task = self._source, self._task
        n, d, k, fit = source.n_rows, source.n_features, task.n_clusters, task.fit
        sent = torch.empty((n, d), dtype=floating_type(source.dtype), device="meta")
        row_bytes = d * sent.element_size()
        plan = self._planned_upload(sent.shape, row_bytes)
        self._found = Ingested(sent, plan)
        if not plan.fetched:
            source.hold_none()
        self._small = not plan.fetched and n * row_bytes < self._state.tuning.small_upload
        # a pooled workspace makes a copy of its own
        apart = not plan.fetched and self._state.pools(n, k, d, sent.element_size())
        self._keeps = fit and plan.copied and not self._small and not apart
        precompile(sent, task, self._screens, self._state, inspects=self._keeps)
        if plan.fetched:
            how = "their float16 copy is kept there" if plan.copied else "they are sent there in every pass"
            sizes = [f"{n_bytes / 2**20:,.0f} MiB" for n_bytes in (n * row_bytes, self._state.free_bytes())]
            where = "free" if self._state.limit is None else "free within device_memory_limit"
            log(f"the rows take {sizes[0]} and {self._device} has {sizes[1]} {where}: they stay on the host, {how}")

    def _planned_upload(self, shape: torch.Size, row_bytes: int) -> ResidencyPlan:
        """Pooled workspaces give way to rows that don't fit otherwise."""
        try:
            plan = self._planned(shape, row_bytes)
        except DeviceMemoryError:
            plan = None
        if plan is not None and plan.copied and not plan.fetched:
            return plan
        self._state.clear()
        return self._planned(shape, row_bytes)

    def _planned(self, shape: torch.Size, row_bytes: int) -> ResidencyPlan:
        state, task = self._state, self._task
        where = state.free_bytes(), state.device, state.tuning
        return plan_incoming(shape, row_bytes, task.n_clusters, *where, keep=task.fit, limit=state.limit)

    def _arriving(self, rows: Tensor) -> Iterator[Batch]:
        """All rows, a batch at a time, sent to this memory."""
        row_bytes, tuning = rows.shape[1] * rows.element_size(), self._state.tuning
        step = max(1, aligned(tuning.upload_span // row_bytes))
        for start in range(0, len(rows), step):
            there = rows[start : start + step]
            for span in spans(len(there), row_bytes, _READ * tuning.upload_piece):
                read = self._source.read(slice(start + span.start, start + span.stop))
                self._upload.send(floating(read), there[span])
            yield Batch(start, there)

    # ---------------------------------------------------------------------- both

    def _empty_copy(self, n: int, d: int) -> QuantizedRows:
        return QuantizedRows.empty(n, d, self._screens.row_tile(self._task.n_clusters, d), self._device)

    def _inspect(self, near: Batch, found: Ingested) -> None:
        """Queue what is found of rows that are there; with the last ones, what it means for all."""
        assert found.squared is not None
        squared = found.squared[near.span]
        if found.copy is None:
            squared.copy_(squared_norms(dense(near.rows)))
        else:
            inspect_rows(near.rows, squared, found.copy, near.start)
        if near.start + len(near) == len(found.squared):
            found.lengths = PendingLengths(found.squared)

    def _label(self, near: Batch, found: Ingested) -> None:
        """Queue the labels of rows that were inspected, where the first centroids are known."""
        if found.prefetched is None:
            return
        assert found.squared is not None
        assert found.copy is not None
        if found.lengths is not None and len(near) == len(found.squared):
            norms, scaled = found.lengths.divisors, found.lengths.scaled  # found already
        else:
            norms, scaled = queue_lengths(found.squared[near.span])
        found.prefetched.label(replace(near, norms=norms), found.copy, scaled)

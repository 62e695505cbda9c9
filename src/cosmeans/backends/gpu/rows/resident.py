"""Passes over rows that are on the device: screened, proved or refined, added up.

`backends/reference.py` is the meaning of assign, accumulate and update. Nothing here waits for the device: lists have
their lengths in device memory, and the numbers of an epoch are copied out behind it.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.accumulate import accumulate
from cosmeans.backends.gpu.kernels.assign import FirstStage, Narrow, Screens, assign, certify
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace, QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import fork, read_async
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, dense_batch, quantize_rows
from cosmeans.backends.gpu.kernels.update import OutputRing
from cosmeans.backends.gpu.rows.memory import NO_EPOCH, Workspace
from cosmeans.backends.gpu.rows.plans import plan_resident, rows_per_chunk
from cosmeans.backends.gpu.rows.precompile import precompile_cascade
from cosmeans.backends.gpu.rows.upload import GATHERED
from cosmeans.backends.gpu.tuning import ANY, COSTS, PrecisionPolicy, ResidencyPlan
from cosmeans.contracts import InspectedRows
from cosmeans.data import Batch, ClusterSums
from cosmeans.epoch import EpochStats, Outcome
from cosmeans.errors import DeviceMemoryError
from cosmeans.sphere import Update


class ResidentRows:
    """What passes need of the rows, besides the rows: the plan, the narrow copies that stay, the working memory.

    plan   None: not known yet
    copy   of all rows in float16; None: of a chunk at a time
    codes  of all rows in 8 bits, where passes begin with these
    """

    def __init__(self, state: DeviceState, screens: Screens, integers: bool | None) -> None:
        """integers: whether passes begin in 8 bits; None: where earlier passes show that it pays."""
        self.device, self.state, self.screens = state.device, state, screens
        self.workspace = Workspace(self.device, state.tuning)
        self.plan: ResidencyPlan | None = None
        self.copy: QuantizedRows | None = None
        self.codes: QuantizedRows | None = None
        self.integers = integers
        self._precision: PrecisionPolicy | None = None

    def begin(self, rows: InspectedRows, k: int) -> None:
        """Many passes over these rows follow: plan, and make the float16 copy of all of them if there is room."""
        n, d = rows.n_rows, rows.n_features
        if self.plan is None:
            self.plan = plan_on_device(n, d, k, self.state)
        if self.plan.copied and self.copy is None:
            self.copy = self.workspace.resident(n, d, self.screens.row_tile(k, d))
            for batch in rows.batches():
                quantize_rows(batch, self.copy, batch.start)
        if self.integers is None and self._precision is None and self._may_choose(d, k):
            self._precision = (self.state.tuning.precision or PrecisionPolicy)(n, d, k)

    # ---------------------------------------------------------------- centroids

    def begins_in_8_bits(self) -> bool:
        """Whether the next pass does."""
        if self.integers is not None:
            return self.integers
        return self._precision is not None and self._precision.next()

    def columns(self, centroids: Tensor, integers: bool, made: bool = False) -> QuantizedCentroids:
        """What a pass needs of its centroids. made: the epoch before has left their columns in the workspace."""
        (k, d), space = centroids.shape, self.columns_space(*centroids.shape)
        if not made:
            self.workspace.columns_for = NO_EPOCH
        columns = space.columns(centroids) if made else space.quantize(centroids)
        if not integers:
            return columns
        codes = self.workspace.integers(k, d, self.screens.column_tile(k, d, integers=True)).quantize(columns)
        return replace(columns, codes=codes)

    def columns_space(self, k: int, d: int) -> CentroidWorkspace:
        return self.workspace.centroids(k, d, self.screens.column_tile(k, d))

    def make_workspace(self, n: int, d: int, k: int) -> None:
        """Make the memory that every epoch over n rows works in."""
        workspace = self.workspace
        self.columns_space(k, d)
        workspace.refining(n), workspace.labels(n), workspace.moves(n, k), workspace.updates(k)

    def make_codes(self, rows: InspectedRows, k: int) -> None:
        """Make the 8-bit copy of all rows, if their float16 copy stays and it is not done yet."""
        if self.codes is None and self.copy is not None:
            d = rows.n_features
            precompile_cascade(next(iter(rows.batches())), k, self.screens, self.state)
            self.codes = self.workspace.resident(len(self.copy.scales), d, self.screens.row_tile(k, d), integers=True)
            for batch in rows.batches():
                quantize_rows(batch, self.codes, batch.start)

    # -------------------------------------------------------------------- passes

    def assign(self, batch: Batch, columns: QuantizedCentroids, labels: Tensor, *, note: bool = False) -> Tensor:
        """Write the labels (B,) of a batch. Returns how many rows were refined, (1,): the next call overwrites it.

        note: whether the counts of this pass are noted, by which the precision of later ones is chosen
        """
        size = self._chunk(*batch.rows.shape)
        if size >= len(batch):  # mostly, and to cut nothing takes less time
            return self._assign(dense_batch(batch), columns, labels, note=note)
        settled = torch.zeros(1, dtype=torch.int32, device=self.device)
        for chunk in dense_batch(batch).chunks(size):
            start = chunk.start - batch.start
            settled += self._assign(chunk, columns, labels[start : start + len(chunk)], note=False)
        return settled

    def _assign(self, batch: Batch, columns: QuantizedCentroids, labels: Tensor, *, note: bool) -> Tensor:
        space, (k, d) = self.workspace.refining(len(batch)), columns.centroids.shape
        copy = self._located(batch, self.screens.row_tile(k, d))
        first = None if columns.codes is None else self._first_stage(batch, k, copy.rows.tile)
        refined = assign(self.screens, space, batch, copy, columns, labels, first=first, close=self._close)
        if note:
            self.note(len(batch), d, first is not None)
        return refined

    def certify(self, batch: Batch, columns: QuantizedCentroids, labels: Tensor) -> None:
        """Write preliminary labels and list the rows that lack proof, in the workspace for refining."""
        space, (k, d) = self.workspace.refining(len(batch)), columns.centroids.shape
        copy = self._located(batch, self.screens.row_tile(k, d))
        first = None if columns.codes is None else self._first_stage(batch, k, copy.rows.tile)
        certify(self.screens, space, copy, columns, labels, first=first, close=self._close)

    def note(self, n: int, d: int, integers: bool) -> None:
        """Have the counts of the pass queued last read behind it, if the policy asks for them."""
        if self._precision is not None and self._precision.asks:
            assert self.copy is not None  # there is no cascade without it
            space = self.workspace.cascade(n, d, self.copy.tile) if integers else self.workspace.refining(n)
            self._precision.note(read_async(space.uncertified.counts), integers)

    def note_counts(self, counts: Tensor) -> None:
        """The same for a pass in float16 that was counted elsewhere."""
        if self._precision is not None and self._precision.asks:
            self._precision.note(read_async(counts), integers=False)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        """Move the rows whose label changed. Returns how many those were, (1,): the next call overwrites it."""
        space = self.workspace.moves(len(batch), len(into.count))
        accumulate(dense_batch(batch), before, after, into, space, self.screens.programs)
        return space.n_changed

    def update(
        self,
        sums: ClusterSums,
        previous: Tensor,
        total: int,
        changed: int | Tensor,
        settled: int | Tensor,
        ring: OutputRing | None = None,
    ) -> Outcome:
        """The centroids that follow these sums. ring: where a captured epoch leaves its outcome."""
        slots = ring or OutputRing.single(previous)
        space, number = self.workspace.updates(len(previous)), self.workspace.number
        numbers = (number(float(total), torch.float64), number(changed, torch.int32), number(settled, torch.int32))
        statistics = functools.partial(space.metrics, sums.count, *numbers, slots)
        space.update(sums, previous, slots)
        update = Update(slots.centroids[0], slots.degenerate[0])
        if ring is not None:  # there are no numbers yet; the next epoch finds the columns of its centroids
            join = fork(self.device, statistics)
            self.columns_space(*previous.shape).quantize(ring.start)
            join()
            return Outcome(update, lambda: EpochStats.of(ring.metrics[0].tolist()))
        statistics()
        read = read_async(slots.metrics[0])
        return Outcome(update, lambda: EpochStats.of(read()))

    # ------------------------------------------------------------------- private

    def _may_choose(self, d: int, k: int) -> bool:
        """Whether passes may begin in 8 bits where that pays."""
        if self.state.tuning.precision is not None:
            return True
        assert self.plan is not None
        return self.plan.cascade and d >= COSTS.least_features and self.screens.shape(k, d) is not None

    @property
    def _close(self) -> float:
        """Scores that a pass in float16 counts as close, where 8 bits may be chosen by that."""
        return 0.0 if self._precision is None else COSTS.close

    def _located(self, batch: Batch, tile: int) -> Narrow:
        """The batch in float16."""
        if self.copy is not None and batch.start != GATHERED:
            return Narrow(self.copy, batch.start)
        copy = self.workspace.chunk(len(batch), batch.rows.shape[1], tile)
        quantize_rows(batch, copy, 0)
        return Narrow(copy, 0)

    def _first_stage(self, batch: Batch, k: int, tile: int) -> FirstStage:
        """The same in 8 bits, and memory for the rows that these leave open. tile: of the float16 copy."""
        d = batch.rows.shape[1]
        space = self.workspace.cascade(len(batch), d, tile)
        if self.codes is not None and batch.start != GATHERED:
            return FirstStage(Narrow(self.codes, batch.start), space)
        codes = self.workspace.chunk(len(batch), d, self.screens.row_tile(k, d), integers=True)
        quantize_rows(batch, codes, 0)
        return FirstStage(Narrow(codes, 0), space)

    def _chunk(self, n: int, d: int) -> int:
        """How many of n rows are labelled at once."""
        if self.plan is not None:
            return min(n, self.plan.chunk)
        return min(n, rows_per_chunk(d, self.state.free_bytes(), self.state.tuning))


def plan_on_device(n: int, d: int, k: int, state: DeviceState, taken: int = 0) -> ResidencyPlan:
    """The plan for rows on the device; pooled workspaces give way to rows that don't fit otherwise.

    taken: bytes of the free memory that are spoken for. Raises DeviceMemoryError if there is no plan.
    """
    device, tuning = state.device, state.tuning
    best = plan_resident(n, d, k, ANY, device, tuning)
    room = state.free_bytes(best.n_bytes + taken) - taken
    if room >= best.n_bytes:
        return best
    try:
        plan = plan_resident(n, d, k, room, device, tuning)  # said below
    except DeviceMemoryError:
        plan = None
    if plan is not None and plan.copied:
        return plan
    state.clear()
    return plan_resident(n, d, k, state.free_bytes() - taken, device, tuning, limit=state.limit)

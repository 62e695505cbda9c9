"""Assign, accumulate and update on a GPU; `backends/reference.py` is the meaning of every function here.

Nothing here waits for the device: lists have their lengths in device memory, and the figures of an epoch are
copied out behind it and read one epoch later.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from cosmeans.backends.gpu import hopper, scores
from cosmeans.backends.gpu.accumulate import MoveSpace, accumulate
from cosmeans.backends.gpu.assign import accumulation_error, screen
from cosmeans.backends.gpu.centroids import CentroidSpace, Quantised, UpdateSpace
from cosmeans.backends.gpu.memory import MemoryPlan, free_bytes, plan_memory, rows_in_turn
from cosmeans.backends.gpu.record import Desk, Places, Plan, Recording, Work, leave_desk, take_desk
from cosmeans.backends.gpu.rows import Copy, copy_rows, dense, dense_batch, parts, squared_norms
from cosmeans.backends.gpu.settle import SettleSpace, settle
from cosmeans.backends.gpu.tiles import Tile, describe, tile_for
from cosmeans.contracts import Observer, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums
from cosmeans.errors import BackendUnavailableError
from cosmeans.sphere import Outcome

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _index(device: torch.device) -> int | None:
    """Which GPU it is, None if it is none."""
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def _there(
    method: Callable[Concatenate[GpuBackend, _P], _T],
) -> Callable[Concatenate[GpuBackend, _P], _T]:
    """The method on the backend's device: Triton starts its kernels on the current one."""

    @functools.wraps(method)
    def run(self: GpuBackend, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.current():
            return method(self, *args, **kwargs)

    return run


class GpuBackend:
    """Screens in fp16, proves most labels, settles the rest; sums in int64."""

    name = "gpu"
    lookahead = 1

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto") -> None:
        """screen: "portable", "hopper", or "auto": the fastest that runs here."""
        self.device = torch.device(device)
        self._index = _index(self.device)
        self._wanted = screen
        self._hopper: bool | None = None  # known with the number of clusters
        self._chip, shared, self._programs = describe(self.device)
        self._tile: Tile = tile_for(self._chip, shared)
        self._rows: RowSource | None = None
        self._memory: MemoryPlan | None = None  # of the rows of the fit
        self._resident: Copy | None = None
        self._desk = Desk()
        self._plan: Plan | None = None
        self._places: Places | None = None  # where an epoch that is being recorded leaves its outcome

    def current(self) -> AbstractContextManager[object]:
        """While this is open, the backend's device is torch's current one."""
        return nullcontext() if self._index is None else torch.cuda.device(self._index)

    @_there
    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(dense(rows))

    def begin(self, rows: RowSource) -> None:
        """The fp16 copy of all rows is made with the next centroids, once per source."""
        if rows is self._rows:
            return
        self._rows = rows
        self._memory, self._resident = None, None

    @_there
    def prepare(self, centroids: Tensor) -> Quantised:
        return self._ready(*centroids.shape).quantise(centroids)

    def _ready(self, k: int, d: int) -> CentroidSpace:
        """Choose the screen, make the fp16 copy of the rows and the memory for centroids, if not done yet."""
        if self._hopper is None:
            self._hopper = self._choose_screen(k, d)
        if self._rows is not None and self._memory is None:
            n = self._rows.n_rows
            self._memory = plan_memory(n, d, k, self._room(), self.device)
            if self._memory.resident:
                self._resident = self._desk.get("resident", (n, d), lambda: self._empty(n, d, k))
                for batch in self._rows.batches():
                    copy_rows(batch, self._resident, batch.start)
        tile = hopper.shape_for(k, d).columns if self._hopper else 0
        make = lambda: CentroidSpace(k, d, tile, self.device)  # noqa: E731
        space: CentroidSpace = self._desk.get("centroids", (k, d), make)
        return space

    @_there
    def repeat(self, work: Work, centroids: Tensor, observer: Observer, memory: tuple[Tensor, ...]) -> Outcome | None:
        """`contracts.Recorder`: fits of one batch a pass are recorded once their kernels are loaded."""
        if self._plan is None or not self._plan.is_for(self._rows, memory):
            self._plan = self._planned(centroids, memory)
        plan = self._plan
        recording = self._desk.recordings.get(plan.key)
        if recording is not None:
            observer.batch(len(plan.labels))
        elif plan.may_record:
            recording = self._recorded(work, centroids)
            if not recording.whole:
                return None
            self._desk.recordings = {plan.key: recording}
        if recording is not None:
            return recording.play(centroids)
        outcome = work(centroids)
        if plan.kind is not None and outcome is not None:
            plan.ran()
        return outcome

    def _planned(self, centroids: Tensor, memory: tuple[Tensor, ...]) -> Plan:
        """The plan of a fit that begins, at a desk where all memory of its epochs is made."""
        if self._rows is None:
            return Plan(None, memory[0])
        (k, d), n = centroids.shape, self._rows.n_rows
        if self._hopper is None:
            self._hopper = self._choose_screen(k, d)
        plan = Plan.of(self._rows, memory, centroids, self._hopper)
        if plan.kind is not None:
            if plan.small and self._memory is None:
                self._desk = take_desk(plan.kind)
                weakref.finalize(self, leave_desk, plan.kind, self._desk).atexit = False
            self._ready(k, d)
            self._number(float(self._rows.total), torch.float64)
            part = self._at_once(n, d)
            self._settle_space(part), self._labels(n), self._moves(n, k), self._update_space(k)
            if self._resident is None:
                self._copy_of(part, d, k)
        return plan

    def _recorded(self, work: Work, centroids: Tensor) -> Recording:
        self._places = Places.empty(centroids)
        try:
            return Recording(work, centroids, self._places)
        finally:
            self._places = None

    def _choose_screen(self, n_clusters: int, n_features: int) -> bool:
        """Whether the Hopper screen runs; without it on a Hopper GPU one line says why."""
        if self._wanted == "portable":
            return False
        reason = hopper.why_not(self.device)
        if reason is None:
            try:
                hopper.build(hopper.shape_for(n_clusters, n_features), self.device)
            except BackendUnavailableError as error:
                reason = str(error)
        if reason is not None and self._wanted == "hopper":
            raise BackendUnavailableError(f"The Hopper screen can't run on {self.device}: {reason}.")
        if reason is not None and self._chip == "sm_90":
            sys.stderr.write(f"cosmeans: the portable screen runs in place of the Hopper one: {reason}\n")
        return reason is None

    @_there
    def assign(self, batch: Batch, prepared: Quantised, before: Tensor) -> Assignment:
        labels, settled = self._labels(len(batch)), None
        for part in parts(dense_batch(batch), self._at_once(*batch.rows.shape)):
            number = self._assign(part, prepared, labels[part.start - batch.start :][: len(part)])
            number = self._own(number, len(part))
            settled = number if settled is None else settled + number
        return Assignment(labels, 0 if settled is None else settled)

    def _assign(self, batch: Batch, prepared: Quantised, labels: Tensor) -> Tensor:
        """Write the labels of one part; returns how many rows were settled."""
        copy, start, acc = self.screen(batch, prepared, labels)
        space = self._settle_space(len(batch))
        settle(
            *(space, copy, start, batch, prepared, labels),
            accumulation=acc,
            rounding=hopper.ROUNDING if self._hopper else 0.0,
            programs=self._programs,
        )
        return space.n_settled

    def screen(self, batch: Batch, prepared: Quantised, labels: Tensor) -> tuple[Copy, int, float]:
        """Write preliminary labels and list the rows that lack proof; returns what settling needs to know."""
        doubtful = self._settle_space(len(batch)).doubtful
        (k, d), acc = prepared.centroids.shape, accumulation_error(batch.rows.shape[1], self.device)
        copy, start = self._copy(batch, k)
        doubtful.counts.zero_()
        task = (copy, start, prepared, labels, doubtful, acc)
        if self._hopper:
            hopper.screen(hopper.shape_for(k, d), *task, self._programs)
        else:
            screen(*task, self._tile)
        return copy, start, acc

    @_there
    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        space = self._moves(len(batch), len(into.count))
        accumulate(dense_batch(batch), before, after, into, space, self._programs)
        return self._own(space.n_changed, len(batch))

    def _own(self, number: Tensor, n: int) -> Tensor:
        """A number that the next n rows do not overwrite; there are none if these were all."""
        return number if self._rows is not None and n == self._rows.n_rows else number.clone()

    @_there
    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> Outcome:
        space = self._update_space(len(previous))
        places = self._places or Places.empty(previous)
        space.update(
            *(sums.direction, sums.count, previous, self._number(float(total), torch.float64)),
            *(self._number(changed, torch.int32), self._number(settled, torch.int32)),
            *(places.centroids, places.lost, places.figures),
        )
        return places.unread() if self._places else places.outcome()

    @_there
    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.own_scores(dense_batch(batch), centroids, labels)

    @_there
    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    @_there
    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        scores.improve(dense_batch(batch), centroid, best)

    def _copy(self, batch: Batch, k: int) -> tuple[Copy, int]:
        """The copy that holds the batch, and where in it the batch starts."""
        if self._resident is not None:
            return self._resident, batch.start
        copy = self._copy_of(len(batch), batch.rows.shape[1], k)
        copy_rows(batch, copy, 0)
        return copy, 0

    def _copy_of(self, n: int, d: int, k: int) -> Copy:
        copy: Copy = self._desk.room("copy", n, (d,), lambda: self._empty(n, d, k))
        return copy

    def _empty(self, n: int, d: int, k: int) -> Copy:
        tile = hopper.shape_for(k, d).rows if self._hopper else 0
        return Copy.empty(n, d, tile, integers=False, device=self.device)

    def _at_once(self, n: int, d: int) -> int:
        """How many of n rows are labelled at once."""
        return min(n, rows_in_turn(d, self._room()) if self._memory is None else self._memory.part)

    def _room(self) -> int:
        return free_bytes(self.device)

    def _settle_space(self, n: int) -> SettleSpace:
        space: SettleSpace = self._desk.room("settle", n, (), lambda: SettleSpace(n, self.device))
        return space

    def _labels(self, n: int) -> Tensor:
        make = lambda: torch.empty(n, dtype=torch.int32, device=self.device)  # noqa: E731
        labels: Tensor = self._desk.room("labels", n, (), make)
        return labels[:n]

    def _moves(self, n: int, k: int) -> MoveSpace:
        space: MoveSpace = self._desk.room("moves", n, (k,), lambda: MoveSpace(n, k, self.device))
        return space

    def _update_space(self, k: int) -> UpdateSpace:
        space: UpdateSpace = self._desk.get("update", (k,), lambda: UpdateSpace(k, self.device))
        return space

    def _number(self, value: float | Tensor, dtype: torch.dtype) -> Tensor:
        """A number as device memory, made once."""
        if isinstance(value, Tensor):
            return value
        number: Tensor = self._desk.get(
            f"number {value} {dtype}", (), lambda: torch.full((1,), value, dtype=dtype, device=self.device)
        )
        return number

"""Assign, accumulate and update on a GPU; `backends/reference.py` is the meaning of every function here.

Nothing here waits for the device: lists have their lengths in device memory, and the figures of an epoch are
copied out behind it and read one epoch later.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from cosmeans.backends.gpu import record, scores
from cosmeans.backends.gpu.accumulate import accumulate
from cosmeans.backends.gpu.assign import Errors
from cosmeans.backends.gpu.behind import read_behind
from cosmeans.backends.gpu.centroids import CentroidSpace, Quantised
from cosmeans.backends.gpu.choice import CLOSE, LEAST_FEATURES, Choice
from cosmeans.backends.gpu.desk import Desk, clear_desks, leave_desk, take_desk
from cosmeans.backends.gpu.ladder import compare, gather
from cosmeans.backends.gpu.lengths import lengths
from cosmeans.backends.gpu.memory import MemoryPlan, free_bytes, plan_memory, rows_in_turn
from cosmeans.backends.gpu.record import Plan, Recording, Standing, Work
from cosmeans.backends.gpu.rows import Copy, copy_rows, dense, dense_batch, parts, squared_norms
from cosmeans.backends.gpu.screens import Screens
from cosmeans.backends.gpu.settle import settle
from cosmeans.backends.gpu.update import Places
from cosmeans.backends.gpu.warmup import warm_up_ladder
from cosmeans.contracts import Loan, Observer, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums
from cosmeans.errors import DeviceMemoryError
from cosmeans.sphere import Figures, Lengths, Outcome, Update

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
    """Screens in fp16 or in 8 bits first, proves most labels, settles the rest; sums in int64."""

    name = "gpu"

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto", integers: bool | None = None) -> None:
        """screen: "portable", "hopper", or "auto": the fastest that runs here.

        integers: whether 8 bits come first; None: where earlier passes show that it pays.
        """
        self.device = torch.device(device)
        self._index = _index(self.device)
        if self._index is not None:
            self.device = torch.device("cuda", self._index)
        self._integers, self._screens = integers, Screens(self.device, screen)
        self._programs = self._screens.programs
        self._rows: RowSource | None = None
        self._memory: MemoryPlan | None = None  # of the rows of the fit
        self._resident: Copy | None = None
        self._codes: Copy | None = None
        self._choice: Choice | None = None
        self.lookahead = 1
        self._desk = Desk(self.device)
        self._leave: weakref.finalize[..., GpuBackend] | None = None  # leaves the desk, as the backend's end does
        self._plan: Plan | None = None  # of the fit that works at the desk
        self._standing: Standing | None = None
        self._places: Places | None = None  # where an epoch that is being recorded leaves its outcome
        self._kind: bool | None = None  # whether the epoch that is being started begins in 8 bits
        self._began = False  # the first epoch of the fit at the desk

    def current(self) -> AbstractContextManager[object]:
        """While this is open, the backend's device is torch's current one."""
        return nullcontext() if self._index is None else torch.cuda.device(self._index)

    @_there
    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(dense(rows))

    @_there
    def lengths(self, squared: Tensor) -> Lengths:
        return lengths(squared)

    def begin(self, rows: RowSource) -> None:
        """The fp16 copy of all rows is made with the next centroids, once per source."""
        if rows is self._rows:
            return
        self._rows = rows
        self._memory, self._resident, self._codes, self._choice = None, None, None, None

    @_there
    def prepare(self, centroids: Tensor) -> Quantised:
        k, d = centroids.shape
        columns = self._ready(k, d).quantise(centroids)
        if not self._climbs(k, d):
            return columns
        self._make_codes(k, d)
        codes = self._desk.integers(k, d, self._screens.column_tile(k, d, True)).quantise(columns)
        return replace(columns, codes=codes)

    def _make_codes(self, k: int, d: int) -> None:
        """Make the 8-bit copy of all rows, if they stay and it is not done yet."""
        if self._codes is None and self._resident is not None and self._rows is not None:
            warm_up_ladder(next(iter(self._rows.batches())), k, self._screens)
            self._codes = self._desk.resident(len(self._resident.units), d, self._screens.row_tile(k, d), True)
            for batch in self._rows.batches():
                copy_rows(batch, self._codes, batch.start)

    def _climbs(self, k: int, d: int) -> bool:
        """Whether the next pass begins in 8 bits."""
        if self._kind is not None:
            return self._kind
        if self._integers is not None:
            return self._integers
        if self._choice is None:
            there = self._memory is not None and self._memory.ladder and not (self._plan and self._plan.waits)
            if not there or d < LEAST_FEATURES or self._rows is None or self._screens.shape(k, d) is None:
                return False
            self._choice = Choice(self._rows.n_rows, d, k)
        return self._choice.next()

    def _ready(self, k: int, d: int) -> CentroidSpace:
        """Make the fp16 copy of the rows and the memory for centroids, if not done yet."""
        if self._rows is not None and self._memory is None:
            n = self._rows.n_rows
            self._memory = self._planned(n, d, k)
            if self._memory.resident:
                self._resident = self._desk.resident(n, d, self._screens.row_tile(k, d))
                for batch in self._rows.batches():
                    copy_rows(batch, self._resident, batch.start)
        return self._desk.centroids(k, d, self._screens.column_tile(k, d))

    def _planned(self, n: int, d: int, k: int, taken: int = 0) -> MemoryPlan:
        """Desks that wait for other fits give way to rows that don't fit beside them. taken: bytes of the room."""
        try:
            plan = plan_memory(n, d, k, self._room() - taken, self.device)
        except DeviceMemoryError:
            plan = None
        if plan is not None and plan.resident:
            return plan
        clear_desks()
        return plan_memory(n, d, k, self._room() - taken, self.device)

    @_there
    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
        """`contracts.Recorder`: a small fit works at a desk where all memory of its epochs is made."""
        (k, d), n = centroids.shape, rows.n_rows
        tile = self._screens.row_tile(k, d)
        plan = Plan.of(rows, centroids, (tile, self._integers))
        if self._plan is not None or (plan is not None and plan.waits):
            self._give_back()
        if plan is None:
            return None
        if not plan.waits:
            self._ready(k, d)  # rows stay where they lie, and so does a copy that they have
        else:
            self._desk = take_desk(plan.kind, self.device)
            self._leave = weakref.finalize(self, leave_desk, plan.kind, self._desk)
            self._leave.atexit = False
            plan = replace(plan, batch=record.copied(plan.batch, self._desk))
            # a desk with a recording has all its memory
            self._memory = self._planned(n, d, k) if self._desk.recording is None else MemoryPlan(True, n, 0)
        desk = self._desk
        assert self._memory is not None
        if not self._memory.resident:
            return None
        if plan.waits:
            self._resident = desk.resident(n, d, tile)
        if self._integers:
            self._codes = desk.resident(n, d, tile, True)
        self._plan, self.lookahead, self._began = plan, plan.lookahead, False
        stand = lambda: Standing.empty(n, k, d, rows.scale, self.device)  # noqa: E731
        self._standing = standing = desk.get("standing", (), stand)
        if desk.recording is None:
            self._ready(k, d), desk.settling(n), desk.labels(n), desk.moves(n, k), desk.updates(k)
            desk.number(float(rows.total), torch.float64)
            self._lay_out()
        else:
            desk.recording.begin()
        return Loan(record.lying_at(rows, plan.batch), standing.labels, standing.sums)

    def _give_back(self) -> None:
        """The desk goes to others, and what this backend knows of it is forgotten."""
        if self._leave is not None:
            self._leave()
        self._leave, self._plan, self._standing = None, None, None
        self._desk, self._memory, self._resident, self._codes = Desk(self.device), None, None, None
        self.lookahead = 1

    def _lay_out(self) -> None:
        """What a fit at the desk begins with."""
        assert self._plan is not None
        assert self._standing is not None
        assert self._resident is not None
        self._standing.clear()
        if self._plan.waits:
            copy_rows(self._plan.batch, self._resident, 0)
        if self._codes is not None:
            copy_rows(self._plan.batch, self._codes, 0)

    @_there
    def repeat(self, work: Work, centroids: Tensor, observer: Observer) -> Outcome | None:
        """`contracts.Recorder`: epochs are recorded once their kernels are loaded, and played from then on.

        A long first epoch is started kernel by kernel in any case: the device is busy while the others are recorded.
        """
        assert self._plan is not None  # a fit at a desk
        self._kind = kind = self._climbs(*centroids.shape)
        try:
            recording = self._desk.recording
            if recording is None or not recording.has(kind):
                known = (self._plan.kind, kind) in record.STARTED
                if not known or (recording is None and not self._plan.short and not self._began):
                    self._began = True
                    outcome = work(centroids)
                    if outcome is not None:
                        record.STARTED.add((self._plan.kind, kind))
                    return outcome
                recording = self._recorded(kind, work)
                if recording is None:
                    return None
        finally:
            self._kind = None
        n, d = self._plan.batch.rows.shape
        observer.batch(n)
        outcome = recording.play(kind, centroids)
        if self._resident is not None:
            space = self._desk.ladder(n, d, self._resident.tile) if kind else self._desk.settling(n)
            self._note(space.doubtful.counts, kind)
        return outcome

    def _recorded(self, kind: bool, work: Work) -> Recording | None:
        """With an epoch of this kind; None if a stop was requested meanwhile."""
        assert self._standing is not None
        assert self._plan is not None
        if kind and self._resident is not None:  # memory that recorded work uses is made before
            k, d = self._standing.places.start.shape
            self._make_codes(k, d)
            self._desk.integers(k, d, self._screens.column_tile(k, d, True))
            self._desk.ladder(len(self._plan.batch), d, self._resident.tile)
        self._places = self._standing.places
        try:
            recording = self._desk.recording
            if recording is None:
                recording = Recording(self._standing, self._lay_out if self._plan.waits else None)
            if not recording.record(kind, work):
                return None
            self._desk.recording = recording
            return recording
        finally:
            self._places = None

    @_there
    def assign(self, batch: Batch, prepared: Quantised, before: Tensor) -> Assignment:
        labels, size = self._desk.labels(len(batch)), self._at_once(*batch.rows.shape)
        if size >= len(batch):  # mostly, and to cut nothing takes less time
            number = self._assign(dense_batch(batch), prepared, labels)
            return Assignment(labels, self._own(number, len(batch)))
        settled = torch.zeros(1, dtype=torch.int32, device=self.device)
        for part in parts(dense_batch(batch), size):
            start = part.start - batch.start
            settled += self._assign(part, prepared, labels[start : start + len(part)])
        return Assignment(labels, settled)

    def _assign(self, batch: Batch, prepared: Quantised, labels: Tensor) -> Tensor:
        """Write the labels of one part; returns how many rows were settled."""
        copy, start, errors = self.screen(batch, prepared, labels)
        space = self._desk.settling(len(batch))
        settle(space, copy, start, batch, prepared, labels, errors, self._programs)
        return space.n_settled

    def screen(self, batch: Batch, prepared: Quantised, labels: Tensor) -> tuple[Copy, int, Errors]:
        """Write preliminary labels and list the rows that lack proof; returns what settling needs to know."""
        (k, d), n, doubtful = prepared.centroids.shape, len(batch), self._desk.settling(len(batch)).doubtful
        copy, start = self._copy(batch, self._screens.row_tile(k, d))
        doubtful.counts.zero_()
        close = 0.0 if self._choice is None else CLOSE
        if prepared.codes is None:
            errors = self._screens.screen(copy, start, prepared, labels, doubtful, close=close)
            counted = doubtful.counts
        else:
            ladder = self._desk.ladder(n, d, copy.tile)
            counted = ladder.doubtful.counts.zero_()
            codes, at = self._coded(batch, k)
            first = self._screens.screen(codes, at, prepared.codes, labels, ladder.doubtful)
            compare(copy, start, prepared.centroids, ladder.doubtful, labels, doubtful, self._programs)
            errors_of_first = (prepared.codes.bounds, first.rounding)
            gather(copy, start, codes, at, *errors_of_first, ladder, doubtful, self._programs)
            errors = self._screens.screen(ladder.gathered, 0, prepared, labels, doubtful, ladder.listed)
        if self._places is None and self._rows is not None and n == self._rows.n_rows:
            self._note(counted, prepared.codes is not None)
        return copy, start, errors

    def _note(self, counts: Tensor, integers: bool) -> None:
        """Have the counts of a pass read behind it, if the choice asks for them."""
        if self._choice is not None and self._choice.asks:
            self._choice.note(counts, integers)

    def _coded(self, batch: Batch, k: int) -> tuple[Copy, int]:
        """The 8-bit copy that holds the batch, and where in it the batch starts."""
        if self._codes is not None:
            return self._codes, batch.start
        d = batch.rows.shape[1]
        copy = self._desk.part(len(batch), d, self._screens.row_tile(k, d), True)
        copy_rows(batch, copy, 0)
        return copy, 0

    @_there
    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        space = self._desk.moves(len(batch), len(into.count))
        accumulate(dense_batch(batch), before, after, into, space, self._programs)
        return self._own(space.n_changed, len(batch))

    def _own(self, number: Tensor, n: int) -> Tensor:
        """A number that the next n rows do not overwrite; there are none if these were all."""
        return number if self._rows is not None and n == self._rows.n_rows else number.clone()

    @_there
    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> Outcome:
        places = self._places or Places.one(previous)
        self._desk.updates(len(previous)).update(
            *(sums, previous, self._desk.number(float(total), torch.float64)),
            *(self._desk.number(changed, torch.int32), self._desk.number(settled, torch.int32), places),
        )
        update = Update(places.centroids[0], places.lost[0])
        if self._places is not None:  # there are no figures yet
            return Outcome(update, lambda: Figures.of(places.figures[0].tolist()))
        read = read_behind(places.figures[0])
        return Outcome(update, lambda: Figures.of(read()))

    @_there
    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.own_scores(dense_batch(batch), centroids, labels)

    @_there
    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    @_there
    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        scores.improve(dense_batch(batch), centroid, best)

    def _copy(self, batch: Batch, tile: int) -> tuple[Copy, int]:
        """The copy that holds the batch, and where in it the batch starts."""
        if self._resident is not None:
            return self._resident, batch.start
        copy = self._desk.part(len(batch), batch.rows.shape[1], tile)
        copy_rows(batch, copy, 0)
        return copy, 0

    def _at_once(self, n: int, d: int) -> int:
        """How many of n rows are labelled at once."""
        return min(n, rows_in_turn(d, self._room()) if self._memory is None else self._memory.part)

    def _room(self) -> int:
        return free_bytes(self.device)

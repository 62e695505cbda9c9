"""Assign, accumulate and update on a GPU; `backends/reference.py` is the meaning of every function here.

Nothing here waits for the device: lists have their lengths in device memory, and the figures of an epoch are
copied out behind it and read one epoch later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from cosmeans.backends.gpu.choice import CLOSE, LEAST_FEATURES, Choice
from cosmeans.backends.gpu.desk import Desk, clear_desks
from cosmeans.backends.gpu.kernels import scores
from cosmeans.backends.gpu.kernels.accumulate import accumulate
from cosmeans.backends.gpu.kernels.cascade import compare, gather
from cosmeans.backends.gpu.kernels.columns import CentroidSpace, Quantised
from cosmeans.backends.gpu.kernels.launch import beside, keep_compiled_kernels, read_behind
from cosmeans.backends.gpu.kernels.norms import lengths, squared_norms
from cosmeans.backends.gpu.kernels.quantize import Copy, copy_rows, dense, dense_batch, parts
from cosmeans.backends.gpu.kernels.refine import settle
from cosmeans.backends.gpu.kernels.screen import Errors
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.backends.gpu.kernels.update import Places
from cosmeans.backends.gpu.memory import ANY, MemoryPlan, free_bytes, plan_memory, rows_in_turn
from cosmeans.backends.gpu.warmup import warm_up_ladder
from cosmeans.contracts import RowSource
from cosmeans.data import Assignment, Batch, ClusterSums
from cosmeans.errors import DeviceMemoryError
from cosmeans.sphere import Figures, Lengths, Outcome, Update

_B = TypeVar("_B", bound="Passes")
_P = ParamSpec("_P")
_T = TypeVar("_T")


def _index(device: torch.device) -> int | None:
    """Which GPU it is, None if it is none."""
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def there(method: Callable[Concatenate[_B, _P], _T]) -> Callable[Concatenate[_B, _P], _T]:
    """The method on the backend's device: Triton starts its kernels on the current one."""

    @functools.wraps(method)
    def run(self: _B, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.current():
            return method(self, *args, **kwargs)

    return run


class Passes:
    """Screens in fp16 or in 8 bits first, proves most labels, settles the rest; sums in int64."""

    name = "gpu"

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto", integers: bool | None = None) -> None:
        """screen: "portable", "hopper", or "auto": the fastest that runs here.

        integers: whether 8 bits come first; None: where earlier passes show that it pays.
        """
        keep_compiled_kernels()
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
        self._places: Places | None = None  # where an epoch that is being recorded leaves its outcome

    def current(self) -> AbstractContextManager[object]:
        """While this is open, the backend's device is torch's current one."""
        return nullcontext() if self._index is None else torch.cuda.device(self._index)

    @there
    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(dense(rows))

    @there
    def lengths(self, squared: Tensor) -> Lengths:
        return lengths(squared)

    def begin(self, rows: RowSource) -> None:
        """The fp16 copy of all rows is made with the next centroids, once per source."""
        if rows is self._rows:
            return
        self._rows = rows
        self._memory, self._resident, self._codes, self._choice = None, None, None, None

    @there
    def prepare(self, centroids: Tensor) -> Quantised:
        k, d = centroids.shape
        columns = self._columns(centroids)
        if not self._climbs(k, d):
            return columns
        self._make_codes(k, d)
        codes = self._desk.integers(k, d, self._screens.column_tile(k, d, True)).quantise(columns)
        return replace(columns, codes=codes)

    def _columns(self, centroids: Tensor) -> Quantised:
        """The columns of these centroids. An epoch that is recorded finds them: the one before left them behind."""
        space = self._ready(*centroids.shape)
        if self._places is not None and centroids is self._places.start:
            return space.columns(centroids)
        if self._desk.recording is not None:
            self._desk.recording.disturb()
        return space.quantise(centroids)

    def _make_codes(self, k: int, d: int) -> None:
        """Make the 8-bit copy of all rows, if they stay and it is not done yet."""
        if self._codes is None and self._resident is not None and self._rows is not None:
            warm_up_ladder(next(iter(self._rows.batches())), k, self._screens)
            self._codes = self._desk.resident(len(self._resident.units), d, self._screens.row_tile(k, d), True)
            for batch in self._rows.batches():
                copy_rows(batch, self._codes, batch.start)

    def _climbs(self, k: int, d: int) -> bool:
        """Whether the next pass begins in 8 bits."""
        if self._integers is not None:
            return self._integers
        if self._choice is None:
            room = self._memory is not None and self._memory.ladder
            if not room or d < LEAST_FEATURES or self._rows is None or self._screens.shape(k, d) is None:
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
        best = plan_memory(n, d, k, ANY, self.device)
        room = self._room(best.n_bytes + taken) - taken
        if room >= best.n_bytes:
            return best
        try:
            plan = plan_memory(n, d, k, room, self.device)
        except DeviceMemoryError:
            plan = None
        if plan is not None and plan.resident:
            return plan
        clear_desks()
        return plan_memory(n, d, k, self._room() - taken, self.device)

    @there
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

    @there
    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        space = self._desk.moves(len(batch), len(into.count))
        accumulate(dense_batch(batch), before, after, into, space, self._programs)
        return self._own(space.n_changed, len(batch))

    def _own(self, number: Tensor, n: int) -> Tensor:
        """A number that the next n rows do not overwrite; there are none if these were all."""
        return number if self._rows is not None and n == self._rows.n_rows else number.clone()

    @there
    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> Outcome:
        places = self._places or Places.one(previous)
        space, number = self._desk.updates(len(previous)), self._desk.number
        numbers = (number(float(total), torch.float64), number(changed, torch.int32), number(settled, torch.int32))
        figures = functools.partial(space.figures, sums.count, *numbers, places)
        space.update(sums, previous, places)
        update = Update(places.centroids[0], places.lost[0])
        if self._places is not None:  # there are no figures yet
            join = beside(self.device, figures)
            self._ready(*previous.shape).quantise(places.start)
            join()
            return Outcome(update, lambda: Figures.of(places.figures[0].tolist()))
        figures()
        read = read_behind(places.figures[0])
        return Outcome(update, lambda: Figures.of(read()))

    @there
    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.own_scores(dense_batch(batch), centroids, labels)

    @there
    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return scores.own_chords(dense_batch(batch), centroids, labels)

    @there
    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        return scores.inertia_limbs(squared, weights)

    @there
    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    @there
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

    def _room(self, enough: int = ANY) -> int:
        return free_bytes(self.device, enough)

"""Assign, accumulate and update on a GPU; `backends/reference.py` is the meaning of every function here.

Nothing here waits for the device: lists have their lengths in device memory, and the figures of an epoch are
copied out behind it and read one epoch later.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmeans.backends.gpu import hopper, scores
from cosmeans.backends.gpu.accumulate import MoveSpace, accumulate
from cosmeans.backends.gpu.assign import accumulation_error, screen
from cosmeans.backends.gpu.centroids import CentroidSpace, Quantised, UpdateSpace
from cosmeans.backends.gpu.memory import MemoryPlan, free_bytes, plan_memory
from cosmeans.backends.gpu.record import Desk, Places, Plan, Recording, Work, leave_desk, take_desk
from cosmeans.backends.gpu.rows import quantise_rows, squared_norms, width_of
from cosmeans.backends.gpu.settle import SettleSpace, settle
from cosmeans.backends.gpu.tiles import Tile, tile_for
from cosmeans.contracts import Observer, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums
from cosmeans.errors import BackendUnavailableError
from cosmeans.sphere import Outcome

_IN_TURN = 1 << 20  # rows labelled at once where no plan was made: their copy does not stay


@dataclass(frozen=True, slots=True)
class Halves:
    """The fp16 copy of consecutive rows: flat values, and ||x - xq|| of each row (-1: not kept)."""

    values: Tensor
    residuals: Tensor

    @classmethod
    def empty(cls, n_rows: int, n_features: int, device: torch.device) -> Halves:
        places = -(-n_rows // 128) * 128 * width_of(n_features)
        return cls(
            torch.empty(places, dtype=torch.float16, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
        )


class GpuBackend:
    """Screens in fp16, proves most labels, settles the rest; sums in int64."""

    name = "gpu"
    lookahead = 1

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto") -> None:
        """screen: "portable", "hopper", or "auto": the fastest that runs here."""
        self.device = torch.device(device)
        self._wanted = screen
        self._hopper: bool | None = None  # known with the number of clusters
        self._chip, shared, self._programs = describe(self.device)
        self._tile: Tile = tile_for(self._chip, shared)
        self._rows: RowSource | None = None
        self._memory: MemoryPlan | None = None  # of the rows of the fit
        self._resident: Halves | None = None
        self._desk = Desk()
        self._plan: Plan | None = None
        self._places: Places | None = None  # where an epoch that is being recorded leaves its outcome

    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(_dense(rows))

    def begin(self, rows: RowSource) -> None:
        """The fp16 copy of all rows is made with the next centroids, once per source."""
        if rows is self._rows:
            return
        self._rows = rows
        self._memory, self._resident = None, None

    def prepare(self, centroids: Tensor) -> Quantised:
        return self._ready(*centroids.shape).quantise(centroids)

    def _ready(self, k: int, d: int) -> CentroidSpace:
        """Choose the screen, make the fp16 copy of the rows and the memory for centroids, if not done yet."""
        if self._hopper is None:
            self._hopper = self._choose_screen(k)
        if self._rows is not None and self._memory is None:
            n = self._rows.n_rows
            self._memory = plan_memory(n, d, k, self._room(), self.device)
            if self._memory.resident:
                self._resident = self._desk.get("resident", (n, d), lambda: Halves.empty(n, d, self.device))
                for batch in self._rows.batches():
                    self._quantise(batch, self._resident, batch.start)
        tile = hopper.column_tile(k) if self._hopper else 0
        make = lambda: CentroidSpace(k, d, tile, self.device)  # noqa: E731
        space: CentroidSpace = self._desk.get("centroids", (k, d), make)
        return space

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
            self._hopper = self._choose_screen(k)
        plan = Plan.of(self._rows, memory, centroids, self._hopper)
        if plan.kind is not None:
            if plan.small and self._memory is None:
                self._desk = take_desk(plan.kind)
                weakref.finalize(self, leave_desk, plan.kind, self._desk).atexit = False
            self._ready(k, d)
            self._number(float(self._rows.total), torch.float64)
            self._settle_space(self._at_once(n)), self._labels(n), self._moves(n, k), self._update_space(k)
        return plan

    def _recorded(self, work: Work, centroids: Tensor) -> Recording:
        self._places = Places.empty(centroids)
        try:
            return Recording(work, centroids, self._places)
        finally:
            self._places = None

    def _choose_screen(self, n_clusters: int) -> bool:
        """Whether the Hopper screen runs; without it on a Hopper GPU one line says why."""
        if self._wanted == "portable":
            return False
        reason = hopper.why_not(self.device)
        if reason is None and n_clusters > hopper.MOST_CLUSTERS:
            reason = f"it takes at most {hopper.MOST_CLUSTERS} clusters"
        if reason is None:
            try:
                hopper.build(n_clusters, self.device)
            except BackendUnavailableError as error:
                reason = str(error)
        if reason is not None and self._wanted == "hopper":
            raise BackendUnavailableError(f"The Hopper screen can't run on {self.device}: {reason}.")
        if reason is not None and self._chip == "sm_90":
            sys.stderr.write(f"cosmeans: the portable screen runs in place of the Hopper one: {reason}\n")
        return reason is None

    def assign(self, batch: Batch, prepared: Quantised, before: Tensor) -> Assignment:
        labels, settled = self._labels(len(batch)), None
        for part in _parts(_dense_batch(batch), self._at_once(len(batch))):
            number = self._assign(part, prepared, labels[part.start - batch.start :][: len(part)])
            settled = number if settled is None else settled + number
        return Assignment(labels, 0 if settled is None else settled)

    def _assign(self, batch: Batch, prepared: Quantised, labels: Tensor) -> Tensor:
        """Write the labels of one part; returns how many rows were settled."""
        halves, start, acc = self.screen(batch, prepared, labels)
        space = self._settle_space(len(batch))
        settle(
            space,
            *(halves.values, halves.residuals, start, batch, prepared, labels),
            accumulation=acc,
            grid=hopper.GRID if self._hopper else 0.0,
            programs=self._programs,
        )
        return space.n_settled

    def screen(self, batch: Batch, prepared: Quantised, labels: Tensor) -> tuple[Halves, int, float]:
        """Write preliminary labels and list the rows that lack proof; returns what settling needs to know."""
        doubtful = self._settle_space(len(batch)).doubtful
        halves, start = self._halves(batch)
        acc = accumulation_error(batch.rows.shape[1], self.device)
        doubtful.counts.zero_()
        task = (halves.values, halves.residuals, start, prepared, labels, doubtful, acc)
        if self._hopper:
            hopper.screen(*task, self._programs)
        else:
            screen(*task, self._tile)
        return halves, start, acc

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> Tensor:
        space = self._moves(len(batch), len(into.count))
        accumulate(_dense_batch(batch), before, after, into, space, self._programs)
        return space.n_changed

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

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.own_scores(_dense_batch(batch), centroids, labels)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        scores.improve(_dense_batch(batch), centroid, best)

    def _halves(self, batch: Batch) -> tuple[Halves, int]:
        """The fp16 copy that holds the batch, and where in it the batch starts."""
        if self._resident is not None:
            return self._resident, batch.start
        n, d = batch.rows.shape
        halves = self._desk.get("halves", (n, d), lambda: Halves.empty(n, d, self.device))
        self._quantise(batch, halves, 0)
        return halves, 0

    def _quantise(self, batch: Batch, into: Halves, start: int) -> None:
        rows = _dense(batch.rows)
        quantise_rows(rows, batch.norms, batch.keep, start, into.values, into.residuals, bool(self._hopper))

    def _at_once(self, n: int) -> int:
        """How many of n rows are labelled at once."""
        return min(n, _IN_TURN if self._memory is None else self._memory.part)

    def _room(self) -> int:
        return free_bytes(self.device)

    def _settle_space(self, n: int) -> SettleSpace:
        space: SettleSpace = self._desk.get("settle", (n,), lambda: SettleSpace(n, self.device))
        return space

    def _labels(self, n: int) -> Tensor:
        labels: Tensor = self._desk.get("labels", (n,), lambda: torch.empty(n, dtype=torch.int32, device=self.device))
        return labels

    def _moves(self, n: int, k: int) -> MoveSpace:
        space: MoveSpace = self._desk.get("moves", (n, k), lambda: MoveSpace(n, k, self.device))
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


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of `size` rows."""
    if size >= len(batch):
        yield batch
        return
    for first in range(0, len(batch), size):
        span = slice(first, first + size)
        norms, keep, weights = (None if t is None else t[span] for t in (batch.norms, batch.keep, batch.weights))
        yield Batch(batch.start + first, batch.rows[span], norms, keep, weights)


def describe(device: torch.device) -> tuple[str, int, int]:
    """The chip's name in the table of tiles, its shared memory per block in bytes, and its multiprocessors."""
    if device.type != "cuda":
        return "interpreter", 0, 4
    found = torch.cuda.get_device_properties(device)
    shared = getattr(found, "shared_memory_per_block_optin", 49152)
    return f"sm_{found.major}{found.minor}", shared, found.multi_processor_count


def _dense(rows: Tensor) -> Tensor:
    """Rows whose entries lie side by side, as kernels read them."""
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _dense_batch(batch: Batch) -> Batch:
    if batch.rows.stride(1) == 1:
        return batch
    return Batch(batch.start, batch.rows.contiguous(), batch.norms, batch.keep, batch.weights)

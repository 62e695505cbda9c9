"""Epochs recorded as a CUDA graph and played back: a small fit is otherwise bound by starting its kernels.

A recording is a list of kernels and addresses. So a small fit works at a *desk*, memory that waits for the next fit of
its kind together with what was recorded in it: the rows are copied there, labels and sums lie there, and what shall
last is copied out. Each epoch played takes its centroids from where the one before left them, and leaves its outcome
in the next of a few places: the host starts it with one call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.cuda import Event

from cosmeans.backends.gpu.desk import Desk
from cosmeans.backends.gpu.update import Places
from cosmeans.contracts import RowSource
from cosmeans.data import Batch, ClusterSums
from cosmeans.sphere import Figures, Outcome, Update

Work = Callable[[Tensor], Outcome | None]

# kinds of epochs that this process has run: a kernel is compiled and loaded when first started, which must not
# happen in a recording
STARTED: set[object] = set()

LOOKAHEAD = 3  # epochs queued beyond the one that is read: enough that the device never waits for the host
_PLACES = 8  # for outcomes: those ahead, the one that is read, the one before it, and some to spare
# seconds: of a pass, for a product and for whatever else a row takes, on an H100 at D = 128; and for the host to start
# its kernels one by one (docs/gpu.md, section 5)
_PRODUCT, _ROW, _HOST = 4e-15, 2e-10, 1e-3
_DESK_BYTES = 128 << 20  # at a desk that waits for the next fit
_OUTCOMES = 128 << 20  # bytes of all places for outcomes: half of the margin of the plan (memory.py)


@dataclass(frozen=True, slots=True)
class Plan:
    """A fit whose epochs can be recorded.

    kind   what decides which kernels they start with which numbers
    batch  all rows of the source
    waits  whether the desk is small enough to wait for the next fit; rows are copied to such a desk only
    """

    kind: tuple[object, ...]
    batch: Batch
    waits: bool

    @classmethod
    def of(cls, rows: RowSource, centroids: Tensor, screen: object) -> Plan | None:
        """None if recording can't be done or would not pay. screen: which kernel."""
        n, (k, d) = rows.n_rows, centroids.shape
        if not pays(n, k, d, centroids.device):
            return None
        batch = _only_batch(rows)
        if batch is None:
            return None
        parts = (batch.rows, batch.norms, batch.keep, batch.weights)
        kinds = tuple(None if part is None else part.dtype for part in parts)
        kind = (centroids.device, _stream(centroids.device), n, k, d, screen, rows.scale, rows.total, *kinds)
        return cls(kind, batch, waits(n, k, d, batch.rows.element_size(), centroids.device))


def waits(n: int, k: int, d: int, entry_bytes: int, device: torch.device) -> bool:
    """Whether n rows are few enough for a desk that waits for the next fit, if they come as one batch."""
    n_bytes = n * (d * (entry_bytes + 2) + 256) + k * (d * (32 + 5 * _PLACES) + 64)
    return n_bytes <= _DESK_BYTES and pays(n, k, d, device)


def pays(n: int, k: int, d: int, device: torch.device) -> bool:
    """Whether the device takes less time for a pass than the host for starting its kernels, and outcomes fit."""
    small = 4 * _PLACES * k * d <= _OUTCOMES
    return small and can_record(device) and n * (d * k * _PRODUCT + _ROW) < _HOST


def can_record(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.version.hip


def _current(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _stream(device: torch.device) -> int:
    """Work on one stream is in order, so a desk serves the fits of one stream."""
    stream = _current(device)
    return 0 if stream is None else stream.cuda_stream


def _only_batch(rows: RowSource) -> Batch | None:
    """The batch that holds all rows, if there is such a one and it lies at the same place in every pass."""
    batch = next(iter(rows.batches()))
    if len(batch) < rows.n_rows or batch.rows.stride(1) != 1:
        return None
    return batch if batch.rows.data_ptr() == next(iter(rows.batches())).rows.data_ptr() else None


def copied(batch: Batch, desk: Desk) -> Batch:
    """The batch at the desk."""
    rows = desk.copy("rows", batch.rows)
    assert rows is not None
    others = (desk.copy(name, getattr(batch, name)) for name in ("norms", "keep", "weights"))
    return Batch(batch.start, rows, *others)


def lying_at(rows: RowSource, batch: Batch) -> RowSource:
    """The same source, read from this batch."""
    moved = copy.copy(rows)

    def batches() -> Iterator[Batch]:
        yield batch

    moved.batches = batches  # type: ignore[method-assign]
    return moved


@dataclass(frozen=True, slots=True)
class Standing:
    """What a fit at a desk begins with, and what its epochs work on: labels (N,), sums, and the places of outcomes."""

    labels: Tensor
    sums: ClusterSums
    places: Places
    numbers: Tensor  # all of the sums and the turn of the places, to be zeroed at once

    @classmethod
    def empty(cls, n_rows: int, k: int, d: int, scale: int, device: torch.device) -> Standing:
        numbers = torch.empty(k * d + k + 1, dtype=torch.int64, device=device)
        sums = ClusterSums(numbers[: k * d].view(k, d), numbers[k * d : -1], scale)
        labels = torch.empty(n_rows, dtype=torch.int32, device=device)
        return cls(labels, sums, Places.in_turn(_PLACES, k, d, numbers[-1:]), numbers)

    def clear(self) -> None:
        """No row has a label, and no epoch has been played."""
        self.labels.fill_(-1)
        self.numbers.zero_()


class Graph:
    """Work recorded now, which runs when it is played. `outcome`: what the work returned."""

    def __init__(self, work: Callable[[], Outcome | None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # other threads may allocate meanwhile
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.outcome = work()
            finally:
                self._graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)

    def play(self) -> None:
        self._graph.replay()


class Recording:
    """What a fit begins with and one epoch of it, recorded now; both run when they are played."""

    def __init__(self, lay_out: Callable[[], None] | None, work: Work, standing: Standing) -> None:
        """lay_out: None where no other fit will begin at this desk."""
        places, device = standing.places, standing.labels.device
        self._beginning = None if lay_out is None else Graph(lay_out, device)
        self._epoch = Graph(lambda: work(places.start), device)
        self.whole = self._epoch.outcome is not None  # else a stop was requested meanwhile
        self._start = places.start
        self._updates = [Update(*pair) for pair in zip(places.centroids, places.lost, strict=True)]
        self._figures = list(places.figures)
        self._arrived = [Event() for _ in self._updates]
        self._played, self._last = 0, self._start
        self._stream = _current(device)
        places.turn.zero_()

    def begin(self) -> None:
        """A fit begins: no row has a label, sums are zero, and the rows that lie there are copied to float16."""
        assert self._beginning is not None  # a desk that waits
        self._stream = _current(self._start.device)  # to ask for it in each epoch takes the host longer
        self._beginning.play()
        self._played, self._last = 0, self._start

    def play(self, centroids: Tensor) -> Outcome:
        """One epoch from these centroids. Its outcome stays until `_PLACES` more have been played."""
        if centroids is not self._last:  # an epoch leaves its centroids where the next one starts
            self._start.copy_(centroids)
        self._epoch.play()
        place = self._played % len(self._updates)
        self._played += 1
        update, figures, arrived = self._updates[place], self._figures[place], self._arrived[place]
        arrived.record(self._stream)
        self._last = update.centroids

        def read() -> Figures:
            arrived.synchronize()
            return Figures.of(figures.tolist())

        counted = self._epoch.outcome
        return Outcome(update, read, None if counted is None else counted.work)


def read_behind(figures: Tensor) -> Callable[[], Figures]:
    """Copy the figures out behind the work already queued; the function waits for that copy alone."""
    if figures.device.type != "cuda":
        numbers = figures.tolist()
        return lambda: Figures.of(numbers)
    host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
    host.copy_(figures, non_blocking=True)
    arrived = Event()
    arrived.record()

    def read() -> Figures:
        arrived.synchronize()
        return Figures.of(host.tolist())

    return read

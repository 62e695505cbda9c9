"""Epochs recorded as a CUDA graph and played back: small fits are otherwise bound by starting their kernels.

A recording is a list of kernels and addresses. So a fit whose passes are short works at a *desk*, memory that waits for
the next fit of its kind together with what was recorded in it: the rows are copied there, labels and sums lie there,
and what shall last is copied out. Each epoch played takes its centroids from where the one before left them, and leaves
its outcome in the next of a few places: the host starts it with one call.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.cuda import Event

from cosmeans.backends.gpu.desk import Desk, clear_desks, most_waiting
from cosmeans.backends.gpu.kernels.launch import side
from cosmeans.backends.gpu.kernels.update import Places
from cosmeans.calls import Lock
from cosmeans.contracts import RowSource
from cosmeans.data import Batch, ClusterSums
from cosmeans.sphere import Figures, Outcome, Update

Work = Callable[[Tensor], Outcome | None]

# kinds of epochs that this process has run: a kernel is compiled and loaded when first started, which must not
# happen in a recording
STARTED: set[object] = set()

LOOKAHEAD = 3
_PLACES = 8  # for outcomes: those ahead, the one that is read, the one before it, and some to spare
# seconds: of a pass, for a product and for whatever else a row takes, on an H100 at D = 128; of a pass below which its
# epochs are recorded before the first one runs, since the host takes longer to start that; below which they are
# recorded during the first one, and not the second; and above which what recording saves counts for nothing
# (docs/gpu.md, section 5)
_PRODUCT, _ROW, _SHORT, _MIDDLE, _LONG = 4e-15, 2e-10, 1e-3, 2e-3, 50e-3
_OUTCOMES = 128 << 20  # bytes of all places for outcomes: half of the margin of the plan (memory.py)


@dataclass(frozen=True, slots=True)
class Plan:
    """A fit whose epochs can be recorded.

    kind     what decides which kernels they start with which numbers
    batch    all rows of the source
    waits    whether the desk is small enough to wait for the next fit; rows are copied to such a desk only
    started  epochs that are started kernel by kernel, for the device to have work while the next one is recorded; 0: a
             pass takes the device less time than the host
    """

    kind: tuple[object, ...]
    batch: Batch
    waits: bool
    started: int

    @property
    def lookahead(self) -> int:
        """Epochs queued beyond the one that is read: enough that the device never waits for the host."""
        return 1 if self.started else LOOKAHEAD

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
        waiting = waits(n, k, d, batch.rows.element_size(), centroids.device)
        started = 0 if at_once(n, k, d, centroids.device) else 1 + (_seconds(n, k, d) >= _MIDDLE)
        return cls(kind, batch, waiting, started)


def waits(n: int, k: int, d: int, entry_bytes: int, device: torch.device) -> bool:
    """Whether n rows are few enough for a desk that waits for the next fit, if they come as one batch."""
    return at_once(n, k, d, device) and desk_bytes(n, k, d, entry_bytes) <= most_waiting(device)


def desk_bytes(n: int, k: int, d: int, entry_bytes: int) -> int:
    """What a desk takes, about, the copy of the rows included."""
    return n * (d * (entry_bytes + 2) + 256) + k * (d * (32 + 5 * _PLACES) + 64)


def at_once(n: int, k: int, d: int, device: torch.device) -> bool:
    """Whether epochs are recorded before the first one runs."""
    return pays(n, k, d, device) and _seconds(n, k, d) < _SHORT


def pays(n: int, k: int, d: int, device: torch.device) -> bool:
    """Whether epochs are recorded: there is room for outcomes, and what is saved counts."""
    small = 4 * _PLACES * k * d <= _OUTCOMES
    return small and can_record(device) and _seconds(n, k, d) < _LONG


def _seconds(n: int, k: int, d: int) -> float:
    """Of a pass, about."""
    return n * (d * k * _PRODUCT + _ROW)


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


# graphs that nobody plays any more: to destroy one takes the host a fifth of a millisecond, while a caller waits for
# the end of its fit; it is done when the device is busy with the next one
_spent: list[torch.cuda.CUDAGraph] = []

_recording = Lock()


def clear() -> None:
    """Give back what waits for other fits, and what was recorded for fits that have ended."""
    clear_desks()
    _spent.clear()


class Graph:
    """Work recorded now, which runs when it is played. `outcome`: what the work returned."""

    def __init__(self, work: Callable[[], Outcome | None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        weakref.finalize(self, _spent.append, self._graph).atexit = False
        stream = side(device, "record")
        with _recording:  # one thread at a time
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
    """Epochs of each kind that a fit at this desk has (in 8 bits first, or not), and what it begins with."""

    def __init__(self, standing: Standing, lay_out: Callable[[], None] | None) -> None:
        """lay_out: None where no other fit will begin at this desk."""
        places, self._device = standing.places, standing.labels.device
        self._beginning = None if lay_out is None else Graph(lay_out, self._device)
        self._epochs: dict[bool, Graph] = {}
        self._start = places.start
        self._updates = [Update(*pair) for pair in zip(places.centroids, places.lost, strict=True)]
        self._figures = list(places.figures)
        self._arrived = [Event() for _ in self._updates]
        self._played = 0
        self._last: Tensor | None = None  # what the next epoch starts from, if its columns are there
        self._stream = _current(self._device)

    def has(self, kind: bool) -> bool:
        return kind in self._epochs

    def record(self, kind: bool, work: Work) -> bool:
        """One epoch, now. False: a stop was requested meanwhile, and nothing is recorded."""
        epoch = Graph(lambda: work(self._start), self._device)
        if epoch.outcome is not None:
            self._epochs[kind] = epoch
        return epoch.outcome is not None

    def begin(self) -> None:
        """A fit begins: no row has a label, sums are zero, and the rows that lie there are copied to float16."""
        assert self._beginning is not None  # a desk that waits
        self._stream = _current(self._device)  # to ask for it in each epoch takes the host longer
        self._beginning.play()
        self._played, self._last = 0, None

    def goes_on(self, centroids: Tensor) -> bool:
        """Whether the next epoch starts from these: one leaves its centroids, and their columns, to the next."""
        return centroids is self._last

    def disturb(self) -> None:
        """The columns at this desk are those of other centroids now."""
        self._last = None

    def start_from(self, centroids: Tensor) -> Tensor:
        """Where centroids lie now, from which the next epoch starts once their columns are made."""
        self._last = centroids
        return self._start.copy_(centroids)

    def play(self, kind: bool) -> Outcome:
        """One epoch. Its outcome stays until `_PLACES` more have been played."""
        epoch = self._epochs[kind]
        epoch.play()
        if self._played == 1:
            _spent.clear()
        place = self._played % len(self._updates)
        self._played += 1
        update, figures, arrived = self._updates[place], self._figures[place], self._arrived[place]
        arrived.record(self._stream)
        self._last = update.centroids

        def read() -> Figures:
            arrived.synchronize()
            return Figures.of(figures.tolist())

        counted = epoch.outcome
        return Outcome(update, read, None if counted is None else counted.work)

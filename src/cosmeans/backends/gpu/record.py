"""An epoch recorded as a CUDA graph and played back: a small fit is otherwise bound by starting its kernels.

What is recorded reads its centroids from one place and leaves centroids and figures in another, so each playing is
between small copies. Recording allocates nothing: all memory is made before. So a recording is a list of kernels
and addresses, and serves any fit of its kind whose rows, labels and sums lie at these addresses: `Desk` keeps the
working memory of small fits, with what was recorded in it, for the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import RowSource
from cosmeans.data import Batch
from cosmeans.sphere import Outcome, Update

Work = Callable[[Tensor], Outcome | None]

# kinds of epochs that this process has run: a kernel is compiled and loaded when first started, which must not
# happen in a recording
STARTED: set[object] = set()

_LARGE = 2e11  # products in a pass: recording takes the host as long as a GPU takes for these, so it goes beside them
_DESKS = 4  # kinds of fits whose working memory waits for the next one
_DESK_BYTES = 64 << 20  # and at most so much for each

_waiting: dict[object, Desk] = {}


class Desk:
    """Working memory by name, and the epochs recorded in it."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[Any, ...], Any]] = {}
        self.recordings: dict[object, Recording] = {}

    def get(self, name: str, shape: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What was made under this name, made anew if its shape is another one."""
        if name in self._made and self._made[name][0] != shape:
            self.recordings.clear()  # they use the memory that goes
            del self._made[name]
        if name not in self._made:
            self._made[name] = (shape, make())
        return self._made[name][1]

    def room(self, name: str, n: int, kind: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """The same for n rows, or for more: the last rows of a pass are often fewer."""
        shape, made = self._made.get(name, ((0,), None))
        if made is not None and shape[1:] == kind and shape[0] >= n:
            return made
        return self.get(name, (n, *kind), make)


def take_desk(kind: object) -> Desk:
    """A desk that a fit of this kind has left, or an empty one. Nobody else gets it until it is left again."""
    return _waiting.pop(kind, None) or Desk()


def leave_desk(kind: object, desk: Desk) -> None:
    """For the next fit of this kind; the longest unused gives way."""
    _waiting[kind] = desk
    while len(_waiting) > _DESKS:
        _waiting.pop(next(iter(_waiting)), None)


@dataclass(slots=True)
class Plan:
    """How the epochs of one fit are started.

    kind  what decides which kernels they start; None: they can't be recorded
    key   kind, and where everything lies that is not on the desk
    """

    rows: RowSource | None
    labels: Tensor
    kind: tuple[object, ...] | None = None
    key: tuple[object, ...] = ()
    passes: int = 0
    small: bool = False
    large: bool = False

    @classmethod
    def of(cls, rows: RowSource, memory: tuple[Tensor, ...], centroids: Tensor, screen: object) -> Plan:
        """memory: labels (N,), and the sums that the fit adds to. screen: which kernel and adder."""
        batch = _only_batch(rows)
        if batch is None or centroids.device.type != "cuda" or torch.version.hip:
            return cls(rows, memory[0])
        (k, d), n = centroids.shape, len(batch)
        parts = (batch.rows, batch.norms, batch.keep, batch.weights)
        kinds = tuple(None if part is None else part.dtype for part in parts)
        align = batch.rows.data_ptr() % 16
        stream = torch.cuda.current_stream(centroids.device).cuda_stream
        kind = (centroids.device, stream, n, k, d, screen, rows.scale, rows.total, batch.rows.stride(0), align, *kinds)
        places = tuple(part.data_ptr() for part in (*parts, *memory) if part is not None)
        small = n * (2 * d + 256) + k * (32 * d + 64) <= _DESK_BYTES
        return cls(rows, memory[0], kind, (*kind, *places), small=small, large=n * d * k > _LARGE)

    def is_for(self, rows: RowSource | None, memory: tuple[Tensor, ...]) -> bool:
        return self.rows is rows and self.labels is memory[0]

    @property
    def may_record(self) -> bool:
        return self.kind in STARTED and (self.passes > 0 or not self.large)

    def ran(self) -> None:
        STARTED.add(self.kind)
        self.passes += 1


def _only_batch(rows: RowSource) -> Batch | None:
    """The batch that holds all rows, if there is such a one and it lies at the same place in every pass."""
    batch = next(iter(rows.batches()))
    again = next(iter(rows.batches()))
    same = len(batch) == rows.n_rows and batch.rows.data_ptr() == again.rows.data_ptr()
    return batch if same and batch.rows.stride(1) == 1 else None


@dataclass(slots=True)
class Places:
    """Where a recorded epoch leaves its outcome: centroids (K, D), lost (K,), figures, all on the device."""

    centroids: Tensor
    lost: Tensor
    figures: Tensor

    @classmethod
    def empty(cls, like: Tensor) -> Places:
        lost = torch.empty(len(like), dtype=torch.bool, device=like.device)
        figures = torch.empty(len(sphere.Figures.names()), dtype=torch.float64, device=like.device)
        return cls(torch.empty_like(like), lost, figures)

    def outcome(self) -> Outcome:
        """What lies here; the figures are copied out behind the work already queued."""
        return Outcome(Update(self.centroids, self.lost), read_behind(self.figures))

    def unread(self) -> Outcome:
        """The outcome while it is being recorded: there are no figures yet."""
        return Outcome(Update(self.centroids, self.lost), lambda: sphere.Figures.of(self.figures.tolist()))

    def copy(self) -> Places:
        return Places(self.centroids.clone(), self.lost.clone(), self.figures)


class Recording:
    """One epoch, recorded now; the work itself runs when it is played."""

    def __init__(self, work: Work, centroids: Tensor, places: Places) -> None:
        self._start, self._places = centroids.clone(), places
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(centroids.device)
        stream.wait_stream(torch.cuda.current_stream(centroids.device))
        with torch.cuda.stream(stream):
            # other threads may allocate meanwhile
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                outcome = work(self._start)
            finally:
                self._graph.capture_end()
        torch.cuda.current_stream(centroids.device).wait_stream(stream)
        self.whole = outcome is not None  # else a stop was requested meanwhile
        self._counted = None if outcome is None else outcome.work

    def play(self, centroids: Tensor) -> Outcome:
        self._start.copy_(centroids)
        self._graph.replay()
        return replace(self._places.copy().outcome(), work=self._counted)  # the next epoch overwrites these places


def read_behind(figures: Tensor) -> Callable[[], sphere.Figures]:
    """Copy the figures out behind the work already queued; the function waits for that copy alone."""
    if figures.device.type != "cuda":
        numbers = figures.tolist()
        return lambda: sphere.Figures.of(numbers)
    host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
    host.copy_(figures, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> sphere.Figures:
        arrived.synchronize()
        return sphere.Figures.of(host.tolist())

    return read

"""An epoch recorded as a CUDA graph and played back: a small fit is otherwise bound by starting its kernels.

What is recorded reads its centroids from one place and leaves centroids and figures in another, so each playing is
between two small copies. Recording allocates nothing: all memory is made before (`GpuBackend.ready`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakMethod

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.sphere import Outcome, Update

Work = Callable[[Tensor], Outcome | None]

# kinds of epochs that this process has run: a kernel is compiled and loaded when first started, which must not
# happen in a recording
STARTED: set[object] = set()


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
    """One epoch of one fit, recorded now; the work itself runs when it is played."""

    def __init__(self, work: Work, centroids: Tensor, places: Places) -> None:
        self._work = WeakMethod(work)  # the fit holds its backend
        self._start, self._places = centroids.clone(), places
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(centroids.device)
        stream.wait_stream(torch.cuda.current_stream(centroids.device))
        with torch.cuda.stream(stream):
            # other threads may allocate meanwhile
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                work(self._start)
            finally:
                self._graph.capture_end()
        torch.cuda.current_stream(centroids.device).wait_stream(stream)

    def is_of(self, work: Work) -> bool:
        return self._work() == work

    def play(self, centroids: Tensor) -> Outcome:
        self._start.copy_(centroids)
        self._graph.replay()
        return self._places.copy().outcome()  # the next epoch overwrites these places


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

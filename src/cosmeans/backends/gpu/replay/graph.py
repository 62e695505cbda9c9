"""Epochs captured as a CUDA graph and replayed: small fits are otherwise bound by starting their kernels.

A graph is a list of kernels and addresses. So a fit whose passes are short works in a *pooled workspace*, memory that
is kept for the next fit of its kind together with the graphs captured there: the rows are copied into it, labels and
sums are there, and results are copied out. Each epoch replayed takes its centroids from where the one before left them,
and leaves its outcome in the next slot of a ring: the host starts it with one call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.launch import side_stream
from cosmeans.backends.gpu.kernels.update import OutputRing
from cosmeans.calls import Lock
from cosmeans.epoch import EpochStats, Outcome
from cosmeans.sphere import Update

_capturing = Lock()


def _current(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


class Graph:
    """Work captured now, which runs when it is replayed."""

    def __init__(self, work: Callable[[], object], device: torch.device, state: DeviceState) -> None:
        self._graph = torch.cuda.CUDAGraph()
        weakref.finalize(self, state.retire, self._graph).atexit = False
        stream = side_stream(device, "capture")
        with _capturing:  # one thread at a time
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                # other threads may allocate meanwhile
                self._graph.capture_begin(capture_error_mode="thread_local")
                try:
                    work()
                finally:
                    self._graph.capture_end()
            torch.cuda.current_stream(device).wait_stream(stream)

    def replay(self) -> None:
        self._graph.replay()


class CapturedEpochs:
    """The epochs of each kind that the fits of a workspace have (in 8 bits first, or not), and what they begin with."""

    def __init__(self, ring: OutputRing, state: DeviceState, reset: Callable[[], None] | None) -> None:
        """reset: what a fit begins with; None where no other fit will begin in this workspace."""
        self._device, self._state = state.device, state
        self._graph = state.tuning.graph or Graph
        self._reset = None if reset is None else self._graph(reset, self._device, state)
        self._epochs: dict[bool, Graph] = {}
        self._start = ring.start
        self._updates = [Update(*pair) for pair in zip(ring.centroids, ring.degenerate, strict=True)]
        self._stats = list(ring.metrics)
        self._finished = [state.tuning.event() for _ in self._updates]
        self._replayed = 0
        self._stream = _current(self._device)

    def has(self, kind: bool) -> bool:
        return kind in self._epochs

    def capture(self, kind: bool, work: Callable[[], object]) -> None:
        """One epoch, now."""
        self._epochs[kind] = self._graph(work, self._device, self._state)

    def begin(self) -> None:
        """A fit begins. In a pooled workspace no row has a label then, sums are zero, and the rows there are copied."""
        self._stream = _current(self._device)  # to ask for it in each epoch takes the host longer
        if self._reset is not None:
            self._reset.replay()
        self._replayed = 0

    def start_from(self, centroids: Tensor) -> Tensor:
        """The next epoch starts from these; returned is where they are now. It needs their columns, too."""
        return self._start.copy_(centroids)

    def replay(self, kind: bool) -> Outcome:
        """One epoch. Its outcome stays until `SLOTS` more have been replayed."""
        self._epochs[kind].replay()
        if self._replayed == 1:
            self._state.destroy_retired()
        slot = self._replayed % len(self._updates)
        self._replayed += 1
        numbers, finished = self._stats[slot], self._finished[slot]
        finished.record(self._stream)

        def stats() -> EpochStats:
            finished.synchronize()
            return EpochStats.of(numbers.tolist())

        return Outcome(self._updates[slot], stats)

"""The GPU backend: a float16 screen, a rigorous certificate, exact scores for the rest, exact integer sums.

Importing `backend` needs Triton, which nothing outside this folder does. Here is what this process keeps for a device
from fit to fit.
"""

from __future__ import annotations

import copy
import functools
import weakref
from typing import Any, Protocol, Self

import torch

from cosmeans.backends.gpu.tuning import ANY, DEFAULT, SLOTS, Tuning, pooled_bytes
from cosmeans.calls import Lock

_ELSEWHERE = 128 << 20  # bytes that pooled workspaces may take where there is no GPU to ask


class Pooled(Protocol):
    """What is kept for the next fit of its kind. n_bytes: about what it takes."""

    n_bytes: int


class DeviceState:
    """What outlives a fit on one device, and by which numbers its fits run.

    limit   bytes that one session may take there, in a view of the state that is its own; None: as many as are free
    before  bytes that were in use there when that session began
    """

    limit: int | None = None
    before = 0

    def __init__(self, device: torch.device, tuning: Tuning) -> None:
        self.device, self.tuning = device, tuning
        self._lock = Lock()
        self._pool: dict[object, Pooled] = {}
        self._spent: list[object] = []
        self._known: dict[object, int] = {}
        _devices.add(self)

    def free_bytes(self, enough: int = ANY) -> int:
        """What can still be allocated. enough: bytes from which on it does not matter how many more."""
        free = self.tuning.room(self.device, enough)
        if self.limit is None:
            return free
        return max(0, min(free, self.limit + self.before - self.tuning.allocated(self.device)))

    def limited(self, limit: int | None) -> Self:
        """The same state for one session that begins now and takes at most so many bytes; None: as many as are free.

        What anyone else in this process allocates there meanwhile counts as its own.
        """
        if limit is None:
            return self
        view = copy.copy(self)  # shares all that is kept
        view.limit, view.before = limit, self.tuning.allocated(self.device)
        return view

    def acquire(self, kind: object) -> Any:
        """What a fit of this kind has released, or None. Nobody else gets it until it is released again."""
        with self._lock:
            return self._pool.pop(kind, None)

    def release(self, kind: object, pooled: Pooled) -> None:
        """Keep it for the next fit of this kind; what has been unused for longest gives way."""
        with self._lock:
            self._pool[kind] = pooled
            kept, n_bytes = 0, 0
            for other, waiting in reversed(list(self._pool.items())):
                kept, n_bytes = kept + 1, n_bytes + waiting.n_bytes
                if kept > self.tuning.most_workspaces or n_bytes > self.most_pooled:
                    del self._pool[other]

    @functools.cached_property
    def most_pooled(self) -> int:
        """Bytes that all that is kept may take; asked for in every fit, and of the device once."""
        if self.tuning.most_pooled is not None:
            return self.tuning.most_pooled
        if self.device.type != "cuda":
            return _ELSEWHERE
        return int(torch.cuda.get_device_properties(self.device).total_memory * self.tuning.pool_share)

    # ------------------------------------------------ what pays, by the costs of the table

    @property
    def can_capture(self) -> bool:
        return self.tuning.graph is not None or (self.device.type == "cuda" and not torch.version.hip)

    def captures(self, n: int, k: int, d: int) -> bool:
        """Whether epochs are captured: there is room for outcomes, and what is saved counts."""
        small = 4 * SLOTS * k * d <= self.tuning.most_of_outcomes
        return small and self.can_capture and self.tuning.seconds(n, k, d) < self.tuning.long

    def captures_at_once(self, n: int, k: int, d: int) -> bool:
        """Whether epochs are captured before the first one runs: a pass takes the device less time than the host."""
        return self.captures(n, k, d) and self.tuning.seconds(n, k, d) < self.tuning.short

    def plain_epochs(self, n: int, k: int, d: int) -> int:
        """Epochs that are started kernel by kernel, for the device to have work while the next one is captured."""
        if self.captures_at_once(n, k, d):
            return 0
        return 1 + (self.tuning.seconds(n, k, d) >= self.tuning.middle)

    def pools(self, n: int, k: int, d: int, entry_bytes: int) -> bool:
        """Whether n rows are few enough for a workspace that is kept for the next fit, if they come as one batch.

        A session with a limit takes no memory that was there before it, nor leaves any.
        """
        if self.limit is not None or not self.captures_at_once(n, k, d):
            return False
        return pooled_bytes(n, k, d, entry_bytes) <= self.most_pooled

    # ------------------------------------------------------------- what is kept

    def retire(self, graph: object) -> None:
        """Keep a graph that nobody replays any more: to destroy one takes the host a fifth of a millisecond.

        Called by finalizers, so it takes no lock.
        """
        self._spent.append(graph)

    def destroy_retired(self) -> None:
        """For when the device is busy and the host is not."""
        self._spent.clear()

    def largest(self, kind: object) -> int:
        """The largest number that was noted of work of this kind; 0: none was."""
        return self._known.get(kind, 0)

    def note(self, kind: object, number: int = 1) -> bool:
        """Note that work of this kind was done. Returns whether it is the first."""
        with self._lock:
            new = kind not in self._known
            self._known[kind] = max(number, self._known.get(kind, 0))
            return new

    def clear(self) -> None:
        """Give the memory back that is kept for other fits."""
        with self._lock:
            self._pool.clear()
        self.destroy_retired()


class _Devices:
    """The states of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shared: dict[torch.device, DeviceState] = {}
        self._all: weakref.WeakSet[DeviceState] = weakref.WeakSet()  # those of backends that are tuned, too

    def add(self, state: DeviceState) -> None:
        with self._lock:
            self._all.add(state)

    def shared(self, device: torch.device) -> DeviceState:
        state = self._shared.get(device)
        return state if state is not None else self._shared.setdefault(device, DeviceState(device, DEFAULT))

    def all(self) -> list[DeviceState]:
        with self._lock:
            return list(self._all)


_devices = _Devices()


def state_of(device: torch.device) -> DeviceState:
    """The one state of a device, for all backends that nobody has tuned."""
    return _devices.shared(device)


def empty_cache() -> None:
    """Give back the memory of every device that is kept for other fits."""
    for state in _devices.all():
        state.clear()

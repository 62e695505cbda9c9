"""The time that compiling takes: no epoch counts it, and people are told before it passes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CompileClock:
    """How long this process has waited for compiled code so far.

    Several threads may wait at once: the clock runs while at least one does. Who compiles, announces it: every listener
    hears one line.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed, self._since, self._waiting = 0.0, 0.0, 0
        self._listeners: list[Callable[[str], None]] = []
        if hasattr(os, "register_at_fork"):  # the threads that wait don't exist in a child
            os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The block compiles, or waits for another thread that does."""
        with self._lock:
            if not self._waiting:
                self._since = time.perf_counter()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._passed += time.perf_counter() - self._since

    def seconds(self) -> float:
        """Seconds that have passed on this clock since the process began."""
        with self._lock:
            return self._passed + (time.perf_counter() - self._since if self._waiting else 0.0)

    @contextmanager
    def heard(self, log: Callable[[str], None]) -> Iterator[None]:
        """Within the block, log gets the line of the first announcement."""
        with self._lock:
            self._listeners.append(log)
        try:
            yield
        finally:
            with self._lock:
                if log in self._listeners:
                    self._listeners.remove(log)

    def announce(self, line: str) -> None:
        """Tell everyone who listens, and has not been told yet."""
        with self._lock:
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(line)

    def _forget(self) -> None:
        self._lock, self._waiting, self._listeners = threading.Lock(), 0, []


CLOCK = CompileClock()
"""That of this process."""


class Stopwatch:
    """Laps of work, without the time that compiling takes."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> float:
        """Seconds since the last call, or since the beginning."""
        before, self._last = self._last, self._now()
        return max(0.0, self._last - before)

    @staticmethod
    def _now() -> float:
        return time.perf_counter() - CLOCK.seconds()

"""The time that compiling takes: no epoch counts it, and people are told before it passes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class CompileClock:
    """How long this process has waited for compiled code so far.

    Several threads may wait at once: the clock runs while at least one does. Who compiles, announces it: every listener
    hears one line. There is no lock, which an interrupt between two lines could leave closed for good: every step is
    one operation of a set, a dictionary or a list.
    """

    _waiting: set[int]  # threads
    _since: dict[str, float]  # "began": when the first of them did
    _listeners: list[Callable[[str], None]]

    def __init__(self) -> None:
        self._forget()
        self._passed = 0.0
        if hasattr(os, "register_at_fork"):  # the threads that wait don't exist in a child
            os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The block compiles, or waits for another thread that does."""
        me = threading.get_ident()
        outermost = me not in self._waiting
        try:
            if outermost:
                self._waiting.add(me)
                self._since.setdefault("began", time.perf_counter())
            yield
        finally:
            if outermost:
                self._leave(me)

    def seconds(self) -> float:
        """Seconds that have passed on this clock since the process began."""
        now = time.perf_counter()
        return self._passed + now - self._since.get("began", now)

    @contextmanager
    def heard(self, log: Callable[[str], None]) -> Iterator[None]:
        """Within the block, which nothing that compiles contains, log gets the line of the first announcement."""
        self._leave(threading.get_ident())  # an interrupt may have left this thread waiting
        try:
            self._listeners.append(log)
            yield
        finally:
            with suppress(ValueError):
                self._listeners.remove(log)

    def announce(self, line: str) -> None:
        """Tell everyone who listens, and has not been told yet."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(line)

    def _leave(self, thread: int) -> None:
        self._waiting.discard(thread)
        if not self._waiting:
            now = time.perf_counter()
            self._passed += now - self._since.pop("began", now)

    def _forget(self) -> None:
        self._waiting, self._since, self._listeners = set(), {}, []


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

"""No silence without a word: a command that has shown nothing for two seconds says what it is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cosmeans import console

PATIENCE = 2.0  # seconds
_LOADING, _OTHERWISE = "loading libraries", "working on the rows"


class _Watch:
    """Looks now and then whether there is something to say, in a thread of its own."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._doing = _LOADING
        self._told = ""
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="cosmeans-silence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def now(self, what: str) -> None:
        self._doing = what

    def _look(self) -> None:
        while not self._ended.wait(self._patience / 8):
            doing = self._doing
            silent = time.monotonic() - max(self._started, console.SHOWN.at)
            # a bar on the screen says what is done
            shown = doing == _OTHERWISE and console.DRAWN
            if silent >= self._patience and doing != self._told and not shown:
                console.say(f"cosmeans: {doing}")
                self._told = doing


_watching: list[_Watch] = []


@contextmanager
def watched(patience: float = PATIENCE) -> Iterator[None]:
    """Within the block, silence of so many seconds is broken."""
    watch = _Watch(patience)
    _watching.append(watch)
    watch.start()
    try:
        yield
    finally:
        _watching.remove(watch)
        watch.stop()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """What the block does, for people who wait for it."""
    _now(what)
    try:
        yield
    finally:
        _now(_OTHERWISE)


def _now(what: str) -> None:
    for watch in _watching:
        watch.now(what)

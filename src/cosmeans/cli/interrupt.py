"""Ctrl-C: the first ends the fit and keeps what was reached, the second leaves at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from cosmeans.console import say_in_handler
from cosmeans.progress import Silent

_WORD = "\nStopping; what was reached will be saved. Ctrl-C again leaves at once.\n"


@contextmanager
def stop_on_interrupt(observer: Silent) -> Iterator[None]:
    """Within the block, the first SIGINT sets `observer.stop_requested`."""

    def first(*_: object) -> None:
        observer.stop_requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        say_in_handler(_WORD)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

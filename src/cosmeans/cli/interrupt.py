"""Ctrl-C: the first ends the fit and keeps what was reached, the second leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from cosmeans.progress import Silent

_WORD = b"\nStopping; what was reached will be saved. Ctrl-C again leaves at once.\n"


@contextmanager
def stop_on_interrupt(observer: Silent) -> Iterator[None]:
    """Within the block, the first SIGINT sets `observer.stop_requested`."""

    def first(*_: object) -> None:
        observer.stop_requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.write(2, _WORD)  # sys.stderr may be in the middle of a write, which a handler must not enter again

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

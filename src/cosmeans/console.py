"""Lines for people, if there is anyone to read them: a terminal, a notebook, a log, a pipe, or nobody.

What is shown is not part of the work. A stream may be None or closed, know nothing but `write`, take ASCII alone, or be
a pipe that nobody reads: then less is shown, and the answer is the same. Results are another matter (`cli.results`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cosmeans import printable

LOGGER = logging.getLogger("cosmeans")
PATIENCE = 1.0  # seconds that a line waits for a pipe which is full
_PIECE = 1024  # characters written at once: in UTF-8 no more than a pipe that is not full takes without waiting
# a warning points at the code that called; scikit-learn wraps methods and calls them from pipelines, torch's compiler
# what it does not compile; sessions are opened inside context managers
_NOT_CALLERS = ("cosmeans", "sklearn", "torch")
DRAWN: list[Callable[[], object]] = []
"""What erases the lines of progress that are being drawn, so that a sentence gets a line of its own."""
_unwanted: ContextVar[tuple[type[Warning], ...]] = ContextVar("unwanted warnings", default=())


class _Shown:
    """When people were shown something last, in seconds of `time.monotonic`."""

    at = 0.0


SHOWN = _Shown()


class Screen:
    """A text stream of which nothing is asked that it may not know, and whose failures are nobody's.

    file  default: sys.stderr, whatever it is at the time of a write
    wait  seconds to wait for a pipe or terminal that is full; what it does not take then is dropped
    """

    def __init__(self, file: Any = None, wait: float = 0.0) -> None:
        self._file, self._wait = file, wait

    @property
    def encoding(self) -> str:
        """What tqdm chooses its characters by."""
        found = getattr(self._stream, "encoding", None)
        return found if isinstance(found, str) else "ascii"

    def isatty(self) -> bool:
        """Whether the stream says that it is a terminal."""
        try:
            return bool(self._stream.isatty())
        except Exception:  # noqa: BLE001  a stream may raise anything, or have no such method
            return False

    def fileno(self) -> int:
        """The descriptor, by which tqdm finds the width of a terminal. Raises what the stream raises."""
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        """Show the text as far as that is possible."""
        SHOWN.at = time.monotonic()
        with suppress(Exception):  # nobody reads there: that is not a reason to stop
            self._write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        with suppress(Exception):
            self._stream.flush()

    def _write(self, stream: Any, text: str) -> None:
        for start in range(0, len(text), _PIECE):
            if not _takes_more(stream, self._wait):
                return
            piece = text[start : start + _PIECE]
            try:
                stream.write(piece)
            except UnicodeError:
                stream.write(piece.encode("ascii", "backslashreplace").decode("ascii"))
            self.flush()

    @property
    def _stream(self) -> Any:
        return sys.stderr if self._file is None else self._file


def say(text: str, file: Any = None) -> None:
    """Write one line for people, by default on stderr; characters that act are shown as their escapes."""
    if file is None:
        for erase in tuple(DRAWN):
            erase()
    Screen(file, PATIENCE).write(printable.escaped(text) + "\n")


class _Stderr(logging.Handler):
    """Shows what is logged where the user has not said where it goes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.name}: {record.getMessage()}")


_STDERR = _Stderr()


def log(text: str) -> None:
    """Log a sentence on what the library does, as `logging.getLogger("cosmeans")` is configured, at level INFO.

    Where neither that logger nor the root has a handler, the sentence appears on stderr, unless the logger's own level
    says that it is not wanted: the level of a root that nobody configured says nothing.
    """
    text = printable.escaped(text)
    if LOGGER.hasHandlers():
        LOGGER.info("%s", text)
    elif LOGGER.level <= logging.INFO and LOGGER.manager.disable < logging.INFO and not LOGGER.disabled:
        _STDERR.handle(LOGGER.makeRecord(LOGGER.name, logging.INFO, "", 0, "%s", (text,), None))


def silent(text: str) -> None:
    """A log in which nothing is written."""


def say_in_handler(text: str) -> None:
    """`say` for signal handlers, which may not enter a stream in the middle of its own write."""
    if sys.stderr is not None and _takes_more(2, 0.0):
        with suppress(OSError):
            os.write(2, text.encode("ascii", "backslashreplace"))


@contextmanager
def without(category: type[Warning]) -> Iterator[None]:
    """Within, in this thread, nothing warns of this, because the caller knows it.

    Filters of `warnings` would not do: they apply to all threads.
    """
    token = _unwanted.set((*_unwanted.get(), category))
    try:
        yield
    finally:
        _unwanted.reset(token)


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something, at the line of the caller's own code. Raises the warning where a filter makes it an error."""
    if issubclass(category, _unwanted.get()):
        return
    level, frame, passed = 1, sys._getframe(), _folders_of_others()  # noqa: SLF001  documented for this
    while frame.f_back is not None and frame.f_code.co_filename.startswith(passed):
        level, frame = level + 1, frame.f_back
    blocked = warnings.showwarning.__module__ == "warnings" and not _takes_more(sys.stderr, PATIENCE)
    try:
        with _unseen() if blocked else nullcontext():
            warnings.warn(message, category, stacklevel=level)
    except Warning:
        raise
    except Exception:  # noqa: BLE001  stderr is closed, or can't hold a letter of the message
        return


def _folders_of_others() -> tuple[str, ...]:
    """Where the code is that no warning points at: of packages that are loaded, since no other can have called."""
    loaded = [sys.modules[name].__file__ for name in _NOT_CALLERS if name in sys.modules]
    return (*(str(Path(file).parent) + os.sep for file in loaded if file), contextlib.__file__)


@contextmanager
def _unseen() -> Iterator[None]:
    """Warnings are counted, and errors where filters say so, but Python writes none to a stream that takes nothing."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda *_, **__: None
        yield


def _takes_more(stream: Any, wait: float) -> bool:
    """Whether a write would not wait for a reader; True where that can't be known."""
    try:
        descriptor = stream if isinstance(stream, int) else stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
        waiting = select.poll()
        waiting.register(descriptor, select.POLLOUT)
        return bool(waiting.poll(1000 * wait))
    except Exception:  # noqa: BLE001  no descriptor, or a system without `poll`
        return True

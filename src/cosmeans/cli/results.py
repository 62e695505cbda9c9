"""Standard output, where results go. Unlike lines for people, a result that can't be written is an error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cosmeans.console import Screen
from cosmeans.errors import WriteError


def is_open() -> bool:
    """Whether there is a standard output at all: services have none, and `>&-` closes it."""
    return sys.stdout is not None and not getattr(sys.stdout, "closed", False)


def put(text: str) -> None:
    """Write a result. Raises WriteError if that is impossible, BrokenPipeError if its reader has gone."""
    with _told():
        try:
            sys.stdout.write(text)
        except UnicodeError:  # a terminal that knows ASCII only
            sys.stdout.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        sys.stdout.flush()


def show(drawing: Any) -> None:
    """Draw a table or a line for people, as wide as the screen; nothing if nobody is there to see it."""
    if not is_open():
        return
    from rich.console import Console

    # https://no-color.org; rich itself knows FORCE_COLOR
    colors: Any = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(file=Screen(sys.stdout), color_system=colors, markup=False, emoji=False, highlight=False)  # type: ignore[arg-type]
    with console.capture() as drawn:
        console.print(drawing)
    with suppress(BrokenPipeError):  # `| head`: the reader has seen enough
        put(drawn.get())


class Bytes:
    """Standard output as a sink of bytes, for streams of answers. Raises as `put` does."""

    closed = False

    def write(self, data: bytes) -> int:
        """Write all of it."""
        with _told():
            return int(sys.stdout.buffer.write(data))

    def flush(self) -> None:
        """Hand on what was written."""
        with _told():
            sys.stdout.buffer.flush()


@contextmanager
def _told() -> Iterator[None]:
    if not is_open():
        raise WriteError("The standard output is closed, and the result goes there. Send it somewhere: > FILE.")
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(
                "No space left to write the standard output. Free some space, or send it elsewhere."
            ) from error
        reason = error.strerror or type(error).__name__
        raise WriteError(f"Can't write the standard output: {reason}. Send it elsewhere.") from error

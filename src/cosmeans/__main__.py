"""The command `cosmeans`, also as `python -m cosmeans`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.util import find_spec

from cosmeans.console import say

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line, or say what to install for it. Ends the process with 0, 1 or 2."""
    _prepare_streams()
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing and sys.argv[1:] == ["--version"]:
        from cosmeans.version import __version__

        say(f"cosmeans {__version__}", sys.stdout)
        return
    if missing:
        say(f'The command line needs {", ".join(missing)}. Install what is missing with: pip install "cosmeans[cli]"')
        sys.exit(2)
    from cosmeans.cli import run

    code = run()
    _forget_unwritten()
    sys.exit(code)


def _prepare_streams() -> None:
    """Occupy what `<&-`, `>&-` and `2>&-` have closed, and let letters pass that an encoding does not have."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the next file that is opened would get this number, and with it what libraries write there
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _forget_unwritten() -> None:
    """Drop what a broken pipe or a full disk did not take: Python tries again at its end, and tells a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()

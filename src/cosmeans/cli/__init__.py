"""The command line. Exit codes: 0 done; 1 failed, or interrupted and saved; 2 wrong usage or bad input."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any

import typer

from cosmeans.cli import report, row_tasks, tasks
from cosmeans.cli.commands import app
from cosmeans.errors import (
    CosmeansError,
    CosmeansWarning,
    FileError,
    InputError,
    InputTypeError,
    OptionError,
    WriteError,
)

__all__ = ["app", "run"]

app.add_typer(tasks.app)
app.add_typer(row_tasks.app)
app.add_typer(report.app)

_WRONG_INPUT = (OptionError, InputError, InputTypeError, FileError)


def run(arguments: list[str] | None = None) -> int:
    """Run one command (default: of this process) and return its exit code. Errors of ours show no traceback."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, CosmeansWarning):
                sys.stderr.write(f"Warning: {message}\n")
            else:
                plain(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            typer.main.get_command(app).main(arguments, prog_name="cosmeans", standalone_mode=True)
        except SystemExit as end:
            # 130: interrupted where nothing could be saved, as some versions of typer tell it
            return end.code if end.code in (0, 2) else 1
        except CosmeansError as error:
            sys.stderr.write(f"Error: {error}\n")
            return 2 if isinstance(error, _WRONG_INPUT) and not isinstance(error, WriteError) else 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            sys.stderr.write(
                "Error: No space left to write the standard output. Free some space, or send it elsewhere.\n"
            )
            return 1
        return 0

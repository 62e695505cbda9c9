"""The command line. Exit codes: 0 done; 1 failed, or interrupted and saved; 2 wrong usage or bad input.

Whatever goes wrong outside this library is reported in one line on stderr: what was given, what is needed, what to do.
"""

from __future__ import annotations

import errno
import re
import sys
import warnings
from contextlib import suppress
from typing import Any

import typer

from cosmeans.cli import commands, export, inspect, report, row_tasks, tasks
from cosmeans.cli.app import app
from cosmeans.cli.flag_names import with_flags
from cosmeans.console import say
from cosmeans.errors import (
    CosmeansError,
    CosmeansWarning,
    FileError,
    InputError,
    InputTypeError,
    OptionError,
    WriteError,
)

__all__ = ["app", "commands", "export", "inspect", "report", "row_tasks", "run", "tasks"]

_NAMES_NOTHING = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
_PLAIN = {  # what versions of typer say of a number that is none, in words of ours
    r"(Input should be a valid integer|'[^']*' is not a valid int(eger)?\b).*": "an integer is expected",
    r"(Input should be a valid number|'[^']*' is not a valid float\b).*": "a number is expected",
}
_WRONG_INPUT = (OptionError, InputError, InputTypeError, FileError)
# typer carries its own click or imports one, so the base of what is wrong with a command line is found by a child
_WrongUsage: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def run(arguments: list[str] | None = None) -> int:
    """Run one command (default: of this process) and return its exit code. Errors of ours show no traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, CosmeansWarning):
                say(f"Warning: {message}")
            else:
                with suppress(OSError, ValueError):
                    plain(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            return _exit_code(
                typer.main.get_command(app).main(arguments or ["--help"], "cosmeans", standalone_mode=False)
            )
        except SystemExit as end:
            return _exit_code(end.code)
        except _WrongUsage as error:
            say(f"Error: {_usage(error)}")
            return 2
        except typer.Abort as error:
            if isinstance(error.__cause__, EOFError):  # typer takes it for Ctrl-D, but nothing is asked here
                raise error.__cause__ from None
            return 1
        except CosmeansError as error:
            say(f"Error: {_as_typed(str(error), arguments)}")
            return 2 if isinstance(error, _WRONG_INPUT) and not isinstance(error, WriteError) else 1
        except BrokenPipeError:  # `| head`: the reader has seen enough
            return 1
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            say(f"Error: {name}{error.strerror or error}. Check the files and the disk, and run the command again.")
            return 2 if error.errno in _NAMES_NOTHING else 1
        except MemoryError as error:
            say(f"Error: Not enough memory ({error or 'size unknown'}). Free some, or use fewer rows or clusters.")
            return 1


def _exit_code(code: Any) -> int:
    # 130: interrupted where nothing could be saved, as some versions of typer tell it
    return int(code or 0) if code in (None, 0, 2) else 1


def _usage(error: Any) -> str:
    """What typer says of a command line, in one line, with the way to what is needed."""
    told = " ".join(error.format_message().split())
    told = re.sub(r"^Invalid value for '?(-[\w-]+|\w+)[^:]*: ", r"\1: ", told)
    for pattern, words in _PLAIN.items():
        told = re.sub(pattern, words, told)
    command = getattr(getattr(error, "ctx", None), "command_path", "cosmeans")
    return f"{told}{'' if told.endswith(('.', '?')) else '.'} See: {command} --help"


def _as_typed(message: str, arguments: list[str]) -> str:
    """A message with the flags of the command in place of the names of options in Python."""
    commands: Any = typer.main.get_command(app)
    command = commands.commands.get(arguments[0]) if arguments else None
    return with_flags(message, command.params if command else ())

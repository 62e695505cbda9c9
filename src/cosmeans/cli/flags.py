"""The flags, each declared once. Those of a fit come from `options.OPTIONS`, with their help and their defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmeans.cli import results
from cosmeans.cli.texts import TABLES
from cosmeans.errors import OptionError
from cosmeans.options import OPTIONS
from cosmeans.rows.files import SUFFIXES


@dataclass(frozen=True, slots=True)
class _Flag:
    """How the command line writes an option, where that is not `--name` with the option's own default."""

    names: tuple[str, ...] = ()
    metavar: str | None = None
    default: Any = ...


_NOT_FLAGS = ("max_iter", "verbose", "warm_start")  # --epochs, --quiet and --from say these
_FLAGS = {
    "n_clusters": _Flag(("--n-clusters", "-k"), "K", None),  # --from has one
    "batch_size": _Flag(metavar="ROWS"),
    "random_state": _Flag(("--random-state", "--seed"), "SEED", 0),  # the same command gives the same answer
    "memory_limit": _Flag(metavar="BYTES"),
}
FIT_FLAGS = tuple(name for name in OPTIONS if name not in _NOT_FLAGS)


def _flag(name: str) -> Any:
    """The flag of an option. Its value is checked by FitOptions, like one from Python."""
    option, flag = OPTIONS[name], _FLAGS.get(name, _Flag())
    names = flag.names or ("--" + name.replace("_", "-"),)
    return typer.Option(*names, help=option.help, metavar="|".join(option.choices) or flag.metavar)


def _type(name: str) -> Any:
    """What typer makes of the flag's value."""
    kind: Any = {"random_state": int, "init": str}.get(name, OPTIONS[name].kind)
    return kind | None if _default(name) is None else kind


def _default(name: str) -> Any:
    flag = _FLAGS.get(name, _Flag())
    return OPTIONS[name].default if flag.default is ... else flag.default


def takes_fit_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for every option of a fit; their values come by name, as its parameter `options`."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    place = next(index for index, parameter in enumerate(own) if parameter.name == "options")
    kind = Parameter.POSITIONAL_OR_KEYWORD
    flags = [
        Parameter(name, kind, default=_default(name), annotation=Annotated[_type(name), _flag(name)])
        for name in FIT_FLAGS
    ]
    shown = own[:place] + flags + own[place + 1 :]

    @functools.wraps(command)
    def flagged(**given: Any) -> None:
        options = {name: given.pop(name) for name in FIT_FLAGS}
        command(options=options, **given)

    flagged.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    flagged.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return flagged


def _if_there_is_a_stdout(wanted: bool) -> bool:
    """Before the work, not after it."""
    if wanted and not results.is_open():
        raise OptionError("--json writes to the standard output, which is closed. Send it somewhere (> FILE).")
    return wanted


Init = Annotated[str, _flag("init")]
RandomState = Annotated[int, _flag("random_state")]
BatchSize = Annotated[int | None, _flag("batch_size")]

Embeddings = Annotated[Path, typer.Argument(help=f"rows: {SUFFIXES}", show_default=False)]
Model = Annotated[Path, typer.Argument(help="a model folder, or the folder that fit wrote", show_default=False)]
Key = Annotated[str | None, typer.Option("--key", help="which array, if the file has several", metavar="NAME")]
Weights = Annotated[Path | None, typer.Option("--weights", help="a file with one weight per row", metavar="FILE")]
Texts = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        help=f"one text per row, shown with the results: .txt, {', '.join(TABLES)}",
        metavar="FILE",
    ),
]
Column = Annotated[
    str | None, typer.Option("--column", help="the column with the texts, if the file has several", metavar="NAME")
]
Order = Annotated[
    str | None,
    typer.Option("--order", help="number the clusters by size, largest first", metavar="size"),
]
Report = Annotated[bool, typer.Option("--report", help="also write report.html, a page about the clusters")]
Force = Annotated[bool, typer.Option("--force", help="replace outputs that exist")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress and no summary")]
Json = Annotated[
    bool,
    typer.Option("--json", help="one JSON object on stdout, and nothing else there", callback=_if_there_is_a_stdout),
]

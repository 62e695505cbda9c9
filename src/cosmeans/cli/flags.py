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

from cosmeans.choices import DEVICES, ProjectionName, did_you_mean, names_of
from cosmeans.cli import results
from cosmeans.cli.row_files import row_files
from cosmeans.errors import OptionError
from cosmeans.options import OPTIONS
from cosmeans.rows.suffixes import TABLE_SUFFIXES


@dataclass(frozen=True, slots=True)
class _Flag:
    """How the command line writes an option, where that is not `--name` with the option's own default."""

    names: tuple[str, ...] = ()
    metavar: str | None = None
    default: Any = ...


_NOT_FLAGS = ("max_iter", "verbose", "warm_start", "resume")  # --epochs, --quiet, --from and --no-resume say these
_FLAGS = {
    "n_clusters": _Flag(("--clusters", "--n-clusters", "-k"), "K", None),  # --from has one
    "batch_size": _Flag(metavar="ROWS"),
    "random_state": _Flag(("--random-state", "--seed"), "SEED", 0),  # the same command gives the same answer
    "device": _Flag(metavar="auto|cpu|cuda|cuda:1"),
    "tol": _Flag(metavar="X"),
    "memory_limit": _Flag(metavar="SIZE"),
    "device_memory_limit": _Flag(metavar="SIZE"),
    "cache": _Flag(metavar="DIR|off"),
    "checkpoint": _Flag(("--checkpoint-dir",), "DIR"),
    "checkpoint_seconds": _Flag(metavar="SECONDS"),
}
FIT_FLAGS = tuple(name for name in OPTIONS if name not in _NOT_FLAGS)


def _flag(name: str) -> Any:
    """The flag of an option. Its value is checked by FitOptions, like one from Python."""
    option, flag = OPTIONS[name], _FLAGS.get(name, _Flag())
    names = flag.names or ("--" + name.replace("_", "-"),)
    choices = DEVICES if name == "device" else option.choices
    metavar = "|".join(option.choices) or flag.metavar
    return typer.Option(
        *names, help=option.help, metavar=metavar, callback=_checked(name, choices), autocompletion=_completed(choices)
    )


def _checked(name: str, choices: tuple[str, ...]) -> Callable[[Any], Any]:
    """A check of the value before anything is loaded, by the option's own declaration."""

    def check(value: Any) -> Any:
        if name == "device":  # what else is a device is known to torch
            if hint := did_you_mean(value, () if value.partition(":")[0] in choices else choices):
                raise OptionError(f'--device must be "auto", "cpu", "cuda" or "cuda:1"; got {value!r}.{hint}')
        elif name == "init":
            _require(value, choices, "--init")
        elif value is not None:
            OPTIONS[name].plain(value)
        return value

    return check


def _completed(choices: tuple[str, ...]) -> Callable[[str], list[str]] | None:
    """What a shell completes; None: nothing but what it does by itself."""
    return (lambda incomplete: [name for name in choices if name.startswith(incomplete)]) if choices else None


def _require(value: str, choices: tuple[str, ...], flag: str) -> None:
    if value not in choices:
        allowed = ", ".join(choices)
        raise OptionError(f"{flag} must be one of {allowed}; got {value!r}.{did_you_mean(value, choices)}")


def choice(flag: str, choices: tuple[str, ...], help: str) -> Any:
    """A flag that takes one of these names."""

    def check(value: str | None) -> str | None:
        if value is not None:
            _require(value, choices, flag)
        return value

    return typer.Option(flag, help=help, metavar="|".join(choices), callback=check, autocompletion=_completed(choices))


def _type(name: str) -> Any:
    """What typer makes of the flag's value."""
    option = OPTIONS[name]
    kind: Any = (
        str
        if option.size
        else {"random_state": int, "init": str, "cache": str, "checkpoint": str}.get(name, option.kind)
    )
    return kind | None if _default(name) is None else kind


def _default(name: str) -> Any:
    flag = _FLAGS.get(name, _Flag())
    return OPTIONS[name].default if flag.default is ... else flag.default


def takes_fit_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for every option of a fit; their values come by name, as its parameter `options`."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    flags = [
        Parameter(name, kind, default=_default(name), annotation=Annotated[_type(name), _flag(name)])
        for name in FIT_FLAGS
    ]
    return _expanded(command, "options", flags, lambda given: {name: given.pop(name) for name in FIT_FLAGS})


def takes_rows_and_columns(command: Callable[..., None]) -> Callable[..., None]:
    """`takes_rows` for a command whose tables have columns of the rows, too."""
    return takes_rows(command, carried=True)


def takes_rows(command: Callable[..., None], carried: bool = False) -> Callable[..., None]:
    """The command with paths of rows, and the flags that say how they are read, as its parameter `embeddings`.

    carried  whether there are flags that name columns to carry to tables
    """
    own = inspect.signature(command, eval_str=True).parameters
    kind = Parameter.POSITIONAL_OR_KEYWORD
    hidden = [] if "weights" in own else ["weight_column"]  # weights are for fits
    hidden += [] if carried else ["id_column", "carried"]
    flags = [Parameter("embeddings", kind, **_PATHS if own["embeddings"].default is Parameter.empty else _PATHS_OPTION)]
    flags += [
        Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in _ROW_FLAGS.items()
        if name not in hidden
    ]
    return _expanded(command, "embeddings", flags, row_files)


def _expanded(
    command: Callable[..., None], name: str, flags: list[Parameter], value: Callable[[dict[str, Any]], Any]
) -> Callable[..., None]:
    """The command with flags in place of one parameter. value: takes theirs out of a dict and makes that of them."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    place = next(index for index, parameter in enumerate(own) if parameter.name == name)
    # what has no default goes first
    flags = sorted(flags, key=lambda parameter: parameter.default is not Parameter.empty)
    shown = sorted(
        own[:place] + flags + own[place + 1 :], key=lambda parameter: parameter.default is not Parameter.empty
    )

    @functools.wraps(command)
    def flagged(**given: Any) -> None:
        made = value(given)
        command(**given, **{name: made})

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

_PATHS: dict[str, Any] = {
    "annotation": Annotated[
        list[str],
        typer.Argument(
            help="rows: .parquet, .npy, .csv and more; files, folders, or patterns in quotes",
            show_default=False,
            metavar="EMBEDDINGS",
        ),
    ]
}
_PATHS_OPTION: dict[str, Any] = {
    "annotation": Annotated[
        list[str] | None, typer.Option("--embeddings", help="rows: files, folders or patterns", metavar="FILE")
    ],
    "default": None,
}


def _named(help: str, *names: str, metavar: str = "NAME") -> Any:
    return Annotated[str | None, typer.Option(*names, help=help, metavar=metavar)]


# how rows are read: what `open_rows` takes, and the columns that go along
_ROW_FLAGS: dict[str, tuple[Any, Any]] = {
    "embedding": (_named("the column with the vectors, if there are several", "--embedding", "--field"), None),
    "key": (_named("which array, if a file has several", "--key"), None),
    "file_order": (
        Annotated[str, choice("--file-order", ("path", "natural"), "order of the files of a folder or pattern")],
        "path",
    ),
    "dtype": (_named("numbers of raw files; float16 also for its bits in uint16", "--dtype", metavar="TYPE"), None),
    "shape": (_named("rows and features of a raw file", "--shape", metavar="N,D"), None),
    "id_column": (_named("a column that names the rows; it is carried to tables", "--id-column"), None),
    "weight_column": (_named("a column with one weight per row", "--weight-column"), None),
    "carried": (_named("more columns to carry to tables", "--with", metavar="NAME,NAME"), None),
}

Model = Annotated[Path, typer.Argument(help="a model folder, or the folder that fit wrote", show_default=False)]
Weights = Annotated[str | None, typer.Option("--weights", help="a file with one weight per row", metavar="FILE")]
Texts = Annotated[
    str | None,
    typer.Option(
        "--texts",
        help=f"one text per row, shown with the results: .txt, {', '.join(TABLE_SUFFIXES)}",
        metavar="FILE",
    ),
]
Column = Annotated[
    str | None,
    typer.Option("--column", help="the column with the texts: of --texts, or of the rows", metavar="NAME"),
]
Order = Annotated[str | None, choice("--order", ("size",), "number the clusters by size, largest first")]
Report = Annotated[bool, typer.Option("--report", help="also write report.html, a page about the clusters")]
Names = Annotated[
    Path | None, typer.Option("--names", help="names of clusters: the names.json that a page saves", metavar="FILE")
]
Projection = Annotated[str, choice("--projection", names_of(ProjectionName), "how the map is made")]
LabelKind = Annotated[
    str | None,
    choice(
        "--labels",
        ("parquet", "npy"),
        "what a folder of labels holds; default: .csv for .csv, .jsonl for .jsonl, else .parquet",
    ),
]
Partition = Annotated[
    bool, typer.Option("--partition-by-cluster", help="one folder for each cluster, so that one can be read alone")
]
MemoryLimit = Annotated[str | None, _flag("memory_limit")]
Checkpoint = Annotated[bool, typer.Option("--checkpoint", help="keep a checkpoint in the folder OUT.checkpoint")]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="demand a checkpoint, or begin again; default: go on where there is one",
    ),
]
KeepCache = Annotated[
    bool, typer.Option("--keep-cache", help="keep the copy of the rows that --cache, or OUT.cache, holds")
]
Force = Annotated[bool, typer.Option("--force", help="replace outputs that exist")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="suppress progress and summary")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="progress with rates")]
Json = Annotated[
    bool,
    typer.Option("--json", help="one JSON object on stdout, and nothing else there", callback=_if_there_is_a_stdout),
]

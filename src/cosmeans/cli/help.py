"""Help as a terminal of any width can show it: commands in groups, flags in sections, examples at the end.

typer's own tables cut names where a terminal is narrow, and know no order but that of parameters.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cosmeans.cli.examples import EXAMPLES
from cosmeans.cli.flag_names import with_flags
from cosmeans.console import Screen

GROUPS = {
    "Start here": ("demo", "look", "fit"),
    "Use and judge clusters": ("predict", "report", "export", "info", "evaluate", "plot"),
    "Find rows": ("exemplars", "outliers", "top", "dedup"),
    "Compare": ("choose-k", "match"),
}
OWN, LAST = "Options", "Help"
SECTIONS = {  # names of parameters, what is needed first before the others; a parameter of no section is in OWN
    "Clusters": (
        "n_clusters", "epochs", "init", "random_state", "go_on_from", "order", "n_init", "tol", "empty_clusters",
    ),
    OWN: (),
    "Input": (
        "embeddings", "texts", "column", "images", "classes", "embedding", "id_column", "carried", "weights",
        "weight_column", "link", "names", "key", "file_order", "dtype", "shape", "zero_rows", "nonfinite",
    ),
    "Output": (
        "out", "parquet", "report", "removed", "plot", "title", "labels", "partition", "arrow", "force", "quiet",
        "rates", "as_json", "beside", "checkpoint", "checkpoint_seconds", "go_on",
    ),
    "Speed": (
        "device", "batch_size", "memory_limit", "device_memory_limit", "cache", "keep_cache", "backend", "strategy",
    ),
    LAST: ("version", "install_completion", "show_completion", "help"),
}  # fmt: skip
_WIDEST, _NARROW, _NAMES = 100, 80, 30  # columns: of the text, where names get a line of their own, of names


def of_command(command: Any, ctx: Any) -> str:
    """The help of one command."""
    return _drawn(_command(command, ctx))


def of_group(group: Any, ctx: Any) -> str:
    """The help of all commands."""
    return _drawn(_group(group, ctx))


def section_of(name: str) -> str:
    """The section of the help in which a parameter is listed."""
    return next((section for section, names in SECTIONS.items() if name in names), OWN)


def _drawn(parts: Iterable[Any]) -> str:
    """The parts as text, with colours if the standard output shows them."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    console = Console(file=Screen(sys.stdout), width=width, markup=False, emoji=False, highlight=False)  # type: ignore[arg-type]
    with console.capture() as drawn:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in drawn.get().splitlines()) + "\n"


def _command(command: Any, ctx: Any) -> Iterator[Any]:
    parameters = command.get_params(ctx)
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    yield from _beginning(ctx, " ".join([*map(_argument, arguments), "[OPTIONS]"]), command.help)
    yield from _section("Arguments", [(_argument(argument), _told(argument, command)) for argument in arguments])
    for section, order in SECTIONS.items():
        options = [p for p in parameters if p.param_type_name == "option" and section_of(p.name) == section]
        options.sort(key=lambda option: order.index(option.name) if option.name in order else -1)
        yield from _section(section, [(_names(option), _told(option, command)) for option in options])
    if command.name in EXAMPLES:
        yield from _heading("Examples")
        for words, line in EXAMPLES[command.name]:
            yield Padding(Text(f"# {words}", "dim"), (0, 0, 0, 2))
            yield Padding(Text(f"cosmeans {line}"), (0, 0, 0, 2))


def _group(group: Any, ctx: Any) -> Iterator[Any]:
    yield from _beginning(ctx, "COMMAND [OPTIONS]", group.help)
    for title, names in GROUPS.items():
        yield from _section(title, [(name, group.get_command(ctx, name).help) for name in names])
    yield from _section(LAST, [(_names(option), _told(option, group)) for option in group.get_params(ctx)])
    yield Text("\nFlags of a command: cosmeans COMMAND --help")


def _beginning(ctx: Any, usage: str, words: str | None) -> Iterator[Any]:
    yield Text.assemble(("Usage: ", "bold"), f"{ctx.command_path} {usage}")
    yield Text(f"\n{words or ''}")


def _heading(title: str) -> Iterator[Any]:
    yield Text(f"\n{title}", "bold")


def _section(title: str, entries: list[tuple[str, str]]) -> Iterator[Any]:
    """Names and what they mean, in two columns; in a narrow terminal, one below the other."""
    if not entries:
        return
    yield from _heading(title)
    if shutil.get_terminal_size().columns < _NARROW:
        for name, words in entries:
            yield Padding(Text(name, "cyan"), (0, 0, 0, 2))
            yield Padding(Text(words), (0, 0, 0, 6))
        return
    names = min(max(len(name) for name, _ in entries), _NAMES)
    for name, words in entries:
        if len(name) > names:
            yield Padding(Text(name, "cyan"), (0, 0, 0, 2))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=names)
        grid.add_column()
        grid.add_row(Text("" if len(name) > names else name, "cyan"), Text(words))
        yield Padding(grid, (0, 0, 0, 2))


def _argument(argument: Any) -> str:
    return f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs == -1 else ''}"


def _names(option: Any) -> str:
    """The names of a flag, short ones first, and what it takes."""
    names = sorted(option.opts, key=lambda name: name.startswith("--"))
    return ", ".join(names) + ("" if option.is_flag else f" {option.metavar or 'N'}")


def _told(parameter: Any, command: Any) -> str:
    """The help of a parameter, with the default where that says more than its absence."""
    told = with_flags(parameter.help or "", command.params)
    told = told[:1].lower() + told[1:].removesuffix(".")
    default = parameter.default
    if default is None or isinstance(default, bool | tuple) or callable(default) or "default:" in told:
        return told
    return f"{told} (default: {default:,})" if isinstance(default, int | float) else f"{told} (default: {default})"

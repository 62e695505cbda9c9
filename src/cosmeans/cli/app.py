"""The application that commands are added to, with help of its own (`cli.help`), which is loaded when it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cosmeans.cli.silence import watched
from cosmeans.console import Screen


class _Command(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        # rows from stdin come when they come, and a log, which nobody waits for, holds the same lines each time
        waits = Screen().isatty() and "-" not in (ctx.params.get("embeddings") or ())
        if ctx.params.get("quiet") or not waits:
            return super().invoke(ctx)
        with watched():
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from cosmeans.cli import help

        formatter.write(help.of_command(self, ctx))


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        from cosmeans.cli import help

        formatter.write(help.of_group(self, ctx))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Spherical k-means for embeddings: one exact answer on every machine, fast.",
)


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function as a command of this name, by default its own."""
    return app.command(name, cls=_Command)

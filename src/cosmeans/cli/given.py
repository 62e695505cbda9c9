"""What was typed: nothing that is asked for is ignored."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from cosmeans.cli.flag_names import flag_of
from cosmeans.errors import OptionError

OF_FILES = ("embedding", "key", "file_order", "dtype", "shape", "id_column", "carried")  # how files of rows are read


def was_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was typed, even if with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def without_effect(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raise OptionError for the first of these options that was given. why: follows "has no effect"."""
    for parameter in context.command.params:
        if parameter.name in names and was_given(context, parameter.name):
            raise OptionError(f"{flag_of(parameter)} has no effect {why}. Remove it.")

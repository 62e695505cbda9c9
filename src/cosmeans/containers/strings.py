"""Texts that belong to rows: a list of strings, or a column of a frame or table."""

from __future__ import annotations

import os
from typing import Any

from cosmeans.containers.frames import library
from cosmeans.containers.nouns import is_null
from cosmeans.errors import InputError, InputTypeError
from cosmeans.printable import brief


def read_strings(values: Any, n_rows: int, name: str) -> list[str]:
    """One string for each row, from a list, an array, a Series of pandas or polars, or a column of Arrow.

    What is missing (None, NaN, NA) is "". Raises InputTypeError for anything but a list, InputError for another length
    and for values other than strings and paths. name: for messages.
    """
    wrong = InputTypeError(f"{name} must be a list of strings, one per row; got {brief(values)}. Pass a list.")
    if isinstance(values, str | bytes):
        raise wrong
    if library(values) is not None and hasattr(values, "columns"):
        raise InputTypeError(
            f"{name} must be one column; got a {type(values).__name__} of {len(values.columns)}. Pass one of them: "
            f'{name}=frame["text"].'
        )
    try:
        # a column of Arrow holds scalars of its own; lists of pandas and polars hold Python's
        listed = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    except TypeError as error:  # a single number, or what can't be gone through
        raise wrong from error
    if len(listed) != n_rows:
        raise InputError(f"{name} has {len(listed):,} entries, the rows are {n_rows:,}; one per row is needed.")
    return [_string(value, index, name) for index, value in enumerate(listed)]


def _string(value: Any, index: int, name: str) -> str:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if is_null(value) or (isinstance(value, float) and value != value):
        return ""
    raise InputError(f"{name}[{index}] is {brief(value)}; it must be a string. Pass '' where there is none.")

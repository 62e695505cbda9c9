"""What names a file or a folder: the one check of every path that a caller gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cosmeans.errors import FileError, InputTypeError
from cosmeans.printable import brief


def as_path(value: Any, name: str = "path") -> Path:
    """The path that a caller gave. name: the argument, as the caller knows it.

    Raises InputTypeError for what is not a string or a path, FileError for a name that no file can have.
    """
    path = value.__fspath__() if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise InputTypeError(f"{name} must be a string or a pathlib.Path, got {brief(value)}. Pass a path.")
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise FileError(
            f"{name} is {brief(path)}, which can't be a file's name: it holds a null character, or half of a "
            "character. Choose another name."
        )
    return Path(path)

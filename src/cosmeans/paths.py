"""What names a file or a folder: the one check of every path that a caller gives."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from cosmeans.errors import FileError, InputTypeError
from cosmeans.printable import brief

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a drive of Windows has one letter
_ONE_SLASH = re.compile(r"[a-z][a-z0-9+.-]+:[/\\](?![/\\])", re.IGNORECASE)  # what pathlib makes of a URL


def is_url(value: Any) -> bool:
    """Whether a value is a string that names a file by a URL (s3://, https://, ...)."""
    return isinstance(value, str) and _URL.match(value) is not None


def as_path(value: Any, name: str = "path") -> Path:
    """The path that a caller gave. name: the argument, as the caller knows it.

    Raises InputTypeError for what is not a string or a path, FileError for a name that no file can have, and for URLs:
    `rows.remote.place_of` takes them, where rows and texts are read.
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
    if is_url(path) or (_ONE_SLASH.match(path) and not os.path.lexists(path.split(":", 1)[0] + ":")):
        raise FileError(
            f"{name} is {brief(path)}, a URL. Rows and texts are read from URLs, which must be strings (pathlib "
            "removes a slash of them); everything else needs a path on a disk."
        )
    return Path(path)


def is_folder_name(name: str) -> bool:
    """Whether an output of this name is a folder: it has no suffix, or ends with a slash."""
    return name.endswith(("/", os.sep)) or not Path(name).suffix

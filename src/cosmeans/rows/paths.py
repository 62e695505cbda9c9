"""What a caller names, as files: a path, a glob, a folder, or a list of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from cosmeans.console import warn
from cosmeans.errors import FileError, FileOrderWarning, InputTypeError, OptionError
from cosmeans.paths import as_path
from cosmeans.printable import brief
from cosmeans.rows.place import Place, is_data_folder

ORDERS = ("path", "natural")
_DIGITS = re.compile(r"(\d+)")


def is_named(X: Any) -> bool:
    """Whether this names files: a path, or a list of nothing but paths. A list of other strings is a list of texts."""
    if not isinstance(X, list | tuple):
        return _is_path(X)
    return len(X) > 0 and all(map(_is_path, X)) and (not isinstance(X[0], str) or _looks_like_a_path(X[0]))


def find_files(paths: Any, order: str, suffixes: Iterable[str]) -> list[Path]:
    """The files that are named, in the order in which their rows are numbered.

    A string with one of `*?[` that is not the name of a file is a glob (`**` reaches folders in folders). A folder is
    searched for files of one of the suffixes, but not for names that begin with _ or a dot. order: "path" sorts what a
    glob or a folder gives by the bytes of the paths, "natural" by the numbers in them; a list keeps its order.
    Raises FileError if nothing is found, OptionError for an unknown order.
    """
    if order not in ORDERS:
        raise OptionError(f'order must be "path" or "natural", got {brief(order)}.')
    given = paths if isinstance(paths, list | tuple) else [paths]
    if not given or not all(map(_is_path, given)):
        raise InputTypeError(f"paths must be a path or a list of paths, got {brief(paths)}. Pass paths of files.")
    known = tuple(suffixes)
    return [found for path in given for found in _found(path, order, known)]


def _looks_like_a_path(text: str) -> bool:
    try:
        return has_magic(text) or (bool(Place(Path(text)).suffix) and " " not in text) or os.path.lexists(text)
    except ValueError:  # a null character
        return False


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _found(named: Any, order: str, suffixes: tuple[str, ...]) -> list[Path]:
    path = as_path(named)
    if has_magic(os.fspath(path)) and not os.path.lexists(path):
        found = [Path(name) for name in glob(os.fspath(path), recursive=True)]
        found = [file for file in found if not os.path.isdir(file) or is_data_folder(file)]
        if not found:
            raise FileError(
                f"No file matches {path}. Check the pattern; quote it, so that the shell leaves it as it is."
            )
        return _ordered(found, order, path)
    if not os.path.isdir(path) or is_data_folder(path):
        return [path]
    return _ordered(_in_folder(path, suffixes), order, path)


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """All files of a folder, and of the folders in it, that have the one suffix that is known."""
    found: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder):
        whole = [name for name in folders if is_data_folder(Path(place, name))]
        folders[:] = [name for name in folders if not name.startswith(("_", ".")) and name not in whole]
        for name in names + whole:
            suffix = Place(Path(name)).suffix
            if not name.startswith(("_", ".")) and suffix in suffixes:
                found.setdefault(suffix, []).append(Path(place, name))
    if not found:
        raise FileError(f"{folder} has no files with rows in it. Known: {', '.join(suffixes)}.")
    if len(found) > 1:
        counts = ", ".join(f"{len(files)} {suffix}" for suffix, files in found.items())
        first = next(iter(found))
        raise FileError(
            f"{folder} holds files of {len(found)} kinds ({counts}). Name those with the rows, as "
            f"{folder / '**' / ('*' + first)}."
        )
    return next(iter(found.values()))


def _ordered(files: list[Path], order: str, named: Path) -> list[Path]:
    by_path = sorted(files, key=os.fsencode)
    natural = sorted(by_path, key=_natural)
    if order == "natural":
        return natural
    if by_path != natural:
        first = next(place for place, (one, other) in enumerate(zip(by_path, natural, strict=True)) if one != other)
        warn(
            f"{named}: {len(files)} files by their paths ({by_path[first].name} before {natural[first].name}), "
            'which numbers the rows. For the order of the numbers in the names pass order="natural" '
            "(--file-order natural).",
            FileOrderWarning,
        )
    return by_path


def _natural(path: Path) -> tuple[Any, ...]:
    parts = _DIGITS.split(os.fspath(path))
    return tuple((1, int(part)) if place % 2 else (0, part) for place, part in enumerate(parts))

"""What a caller names, as files: a path, a URL, a glob, a folder, or a list of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from cosmeans.choices import FileOrder, names_of
from cosmeans.console import warn
from cosmeans.errors import FileError, FileOrderWarning, InputTypeError, OptionError
from cosmeans.paths import is_url
from cosmeans.printable import brief
from cosmeans.rows.place import DATA_FOLDERS, Place
from cosmeans.rows.remote import RemotePlace, place_of

ORDERS = names_of(FileOrder)
_HIDDEN = ("_", ".")
_DIGITS = re.compile(r"(\d+)")


def is_named(X: Any) -> bool:
    """Whether this names files: a path, or a list of nothing but paths. A list of other strings is a list of texts."""
    if not isinstance(X, list | tuple):
        return _is_path(X)
    return len(X) > 0 and all(map(_is_path, X)) and (not isinstance(X[0], str) or _looks_like_a_path(X[0]))


def find_files(paths: Any, order: str, suffixes: Iterable[str]) -> list[Place]:
    """The files that are named, in the order in which their rows are numbered.

    A string with one of `*?[` that is not the name of a file is a glob (`**` reaches folders in folders); a URL is one
    if it has `*` or `[`. A folder is searched for files of one of the suffixes, but not for names that begin with _ or
    a dot. order: "path" sorts what a glob or a folder gives by the bytes of the paths, "natural" by the numbers in
    them; a list keeps its order. Raises FileError if nothing is found, OptionError for an unknown order.
    """
    if order not in ORDERS:
        raise OptionError(f'order must be "path" or "natural", got {brief(order)}.')
    given = paths if isinstance(paths, list | tuple) else [paths]
    if not given or not all(map(_is_path, given)):
        raise InputTypeError(f"paths must be a path or a list of paths, got {brief(paths)}. Pass paths of files.")
    known = tuple(suffixes)
    return [found for path in given for found in _found(place_of(path), order, known)]


def _looks_like_a_path(text: str) -> bool:
    try:
        named = is_url(text) or bool(Place(Path(text)).suffix)
        return has_magic(text) or (named and " " not in text) or os.path.lexists(text)
    except ValueError:  # a null character
        return False


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _found(named: Place, order: str, suffixes: tuple[str, ...]) -> list[Place]:
    found = _matches(named)
    if found is not None:
        found = [place for place in found if not place.is_folder() or place.is_data_folder()]
        if not found:
            raise FileError(
                f"No file matches {named}. Check the pattern; quote it, so that the shell leaves it as it is."
            )
        return _ordered(found, order, named)
    if not named.is_folder() or named.is_data_folder():
        return [named]
    return _ordered(_of_one_kind(named, suffixes), order, named)


def _matches(named: Place) -> Sequence[Place] | None:
    """What matches a pattern; None for what is not one."""
    if isinstance(named, RemotePlace):
        return named.glob() if set("*[") & set(named.name) else None
    if not has_magic(named.name) or os.path.lexists(named.path):
        return None
    return [Place(Path(name)) for name in glob(named.name, recursive=True)]


def _of_one_kind(folder: Place, suffixes: tuple[str, ...]) -> list[Place]:
    """All files of a folder, and of the folders in it, that have the one suffix that is known."""
    found: dict[str, list[Place]] = {}
    for place in _in_web(folder) if isinstance(folder, RemotePlace) else _in_folder(folder):
        if place.suffix in suffixes:
            found.setdefault(place.suffix, []).append(place)
    if not found:
        raise FileError(f"{folder} has no files with rows in it. Known: {', '.join(suffixes)}.")
    if len(found) > 1:
        counts = ", ".join(f"{len(files)} {suffix}" for suffix, files in found.items())
        pattern = folder.child("**").child("*" + next(iter(found)))
        raise FileError(
            f"{folder} holds files of {len(found)} kinds ({counts}). Name those with the rows, as {pattern}."
        )
    return next(iter(found.values()))


def _in_folder(folder: Place) -> Iterator[Place]:
    """The files of a folder on a disk, and of folders in it; a folder that is one data set counts as a file."""
    for at, folders, names in os.walk(folder.path):
        whole = [name for name in folders if Place(Path(at, name)).is_data_folder()]
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN) and name not in whole]
        for name in names + whole:
            if not name.startswith(_HIDDEN):
                yield Place(Path(at, name))


def _in_web(folder: RemotePlace) -> Iterator[Place]:
    """The same of a folder elsewhere, where data sets are known by their names."""
    whole = set()
    for path, place in folder.inside():
        parts = path.split("/")
        names = [name for name in parts if PurePosixPath(name).suffix.lower() in DATA_FOLDERS]
        if any(name.startswith(_HIDDEN) for name in (parts[: parts.index(names[0])] if names else parts)):
            continue
        if not names:
            yield place
            continue
        inside = "/".join(parts[: parts.index(names[0]) + 1])
        if inside not in whole:
            whole.add(inside)
            yield folder.child(inside)


def _ordered(files: Sequence[Place], order: str, named: Place) -> list[Place]:
    by_path = sorted(files, key=lambda place: os.fsencode(place.name))
    natural = sorted(by_path, key=_natural)
    if order == "natural":
        return natural
    if by_path != natural:
        first = next(at for at, (one, other) in enumerate(zip(by_path, natural, strict=True)) if one is not other)
        warn(
            f"{named}: {len(files)} files by their paths ({by_path[first].path.name} before "
            f"{natural[first].path.name}), which numbers the rows. For the order of the numbers in the names pass "
            'order="natural" (--file-order natural).',
            FileOrderWarning,
        )
    return by_path


def _natural(place: Place) -> tuple[Any, ...]:
    parts = _DIGITS.split(place.name)
    return tuple((1, int(part)) if at % 2 else (0, part) for at, part in enumerate(parts))

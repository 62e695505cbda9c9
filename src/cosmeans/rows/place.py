"""Where a file is: its name, and how it is opened. The same for readers whether it is on a disk or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cosmeans.reading import open_regular, reading

DATASET = "datasets"  # in place of a suffix: a folder that Hugging Face's `datasets` saved
_MARKS = {"_versions": ".lance", "zarr.json": ".zarr", ".zarray": ".zarr", ".zgroup": ".zarr", "state.json": DATASET}


def kind_of(path: Path) -> str:
    """The suffix that says what reads a file or a folder: of folders by what is in them, else by the name."""
    if os.path.isdir(path):
        for mark, kind in _MARKS.items():
            if os.path.exists(path / mark):
                return kind
    return Place(path).suffix


def is_data_folder(folder: Path) -> bool:
    """Whether a folder is one data set: of Lance, of zarr, or one that `datasets` saved."""
    return kind_of(folder) in _MARKS.values()


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in a folder."""
    inside = (os.path.join(at, name) for at, _, names in os.walk(path) for name in names)
    return sum(map(os.path.getsize, inside)) if os.path.isdir(path) else os.path.getsize(path)


class Place:
    """A file, or a folder that is one data set, on this machine's file systems."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, os.fspath(path)

    def __str__(self) -> str:
        return self.name

    @property
    def packed(self) -> bool:
        """Whether its name says that gzip has packed it."""
        return self.path.suffix.lower() == ".gz"

    @property
    def suffix(self) -> str:
        """What its name says of its format, whether or not it is packed."""
        path = self.path.with_suffix("") if self.packed else self.path
        return path.suffix.lower()

    def open(self) -> BinaryIO:
        """The file, which must be a regular one, opened for reading. Raises FileError."""
        return open_regular(self.path)

    @contextmanager
    def reading(
        self, says: str = "is truncated or damaged", advice: str = "Copy or write the file again."
    ) -> Iterator[None]:
        """Within, whatever a library raises is a FileError about this file (`reading.reading`)."""
        with reading(self.path, advice=advice, says=says):
            yield

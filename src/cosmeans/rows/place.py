"""Where a file is: its name, and how it is opened. The same for readers whether it is on a disk or elsewhere."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np

from cosmeans.errors import FileError
from cosmeans.reading import Fingerprint, fingerprint, name_of, open_regular, reading
from cosmeans.rows.ranges import StoredArray

DATASET = "datasets"  # in place of a suffix: a folder that Hugging Face's `datasets` saved
_MARKS = {"_versions": ".lance", "zarr.json": ".zarr", ".zarray": ".zarr", ".zgroup": ".zarr", "state.json": DATASET}
DATA_FOLDERS = frozenset(_MARKS.values())
_DAMAGED = "is truncated or damaged"
_AGAIN = "Copy or write the file again."


class Place:
    """A file, or a folder that is one data set, on this machine's file systems (`remote.RemotePlace`: elsewhere).

    name    as the caller knows it, for messages
    remote  whether it is read over a network, by ranges of bytes
    """

    remote = False

    def __init__(self, path: PurePath) -> None:
        self.path, self.name = path, os.fspath(path)
        self._seen: Any = None  # what told this version of the file from others when it was opened first

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

    def kind(self) -> str:
        """The suffix that says what reads it: of a folder by what is in it, else by the name."""
        if self.suffix not in DATA_FOLDERS and self.is_folder():
            for mark, kind in _MARKS.items():
                if self.child(mark).exists():
                    return kind
        return self.suffix

    def is_data_folder(self) -> bool:
        """Whether it is a folder that is one data set: of Lance, of zarr, or one that `datasets` saved."""
        return self.kind() in DATA_FOLDERS

    def child(self, name: str) -> Place:
        """A file or folder in this folder."""
        return Place(self.path / name)

    def require(self) -> None:
        """Raise FileError if there is nothing. Said before what its name would be read as."""
        if not self.remote:
            with self.reading():
                os.stat(self.path)

    def exists(self) -> bool:
        return os.path.exists(self.path)

    def is_folder(self) -> bool:
        return os.path.isdir(self.path)

    @property
    def n_bytes(self) -> int:
        """Of the file, or of all files in the folder."""
        inside = (os.path.join(at, name) for at, _, names in os.walk(self.path) for name in names)
        return sum(map(os.path.getsize, inside)) if self.is_folder() else os.path.getsize(self.path)

    def fingerprint(self) -> Fingerprint:
        """What tells this content from another that is at the same place later. Raises FileError."""
        return fingerprint(Path(self.path))

    @property
    def address(self) -> str:
        """What a library with file systems of its own opens it by; may hold credentials, and is never shown."""
        return self.name

    def open(self, *, by_ranges: bool = False) -> BinaryIO:
        """The file, which must be a regular one, opened for reading; the same version at each opening.

        by_ranges  whether the reader asks for large pieces, of which no more is to be fetched than it asks for
        Raises FileError, also if it has changed since it was opened first.
        """
        file = open_regular(Path(self.path))
        found = os.fstat(file.fileno())
        try:
            self._same((found.st_size, found.st_mtime_ns, found.st_ino))
        except FileError:
            file.close()
            raise
        return file

    def open_whole(self) -> BinaryIO:
        """As `open`, for libraries that can't read by ranges: of a file elsewhere all is fetched, if there is room."""
        return self.open()

    def size(self, file: BinaryIO) -> int:
        """Bytes of the file that is open."""
        return os.fstat(file.fileno()).st_size

    def handle(self, file: BinaryIO) -> Any:
        """What a library reads the very file by that is open here."""
        return name_of(file, Path(self.path))

    def array(
        self, file: BinaryIO, dtype: Any, offset: int, shape: tuple[int, ...], order: str = "C"
    ) -> np.ndarray | StoredArray:
        """Numbers of the open file, from an offset on: mapped, or read by ranges when they are asked for."""
        return np.memmap(file, dtype, "r", offset, shape, "F" if order == "F" else "C")

    def reading(self, says: str = _DAMAGED, advice: str = _AGAIN) -> AbstractContextManager[None]:
        """Within, whatever a library raises is a FileError about this file (`reading.reading`)."""
        return reading(self.name, advice=advice, says=says)

    def _same(self, version: Any) -> None:
        """Raise FileError for another version of the file than the one that was opened first."""
        if self._seen is None:
            self._seen = version
        elif version != self._seen:
            raise FileError(
                f"{self} has changed since it was opened. Open it again when it is complete, and replace files by "
                "a rename."
            )

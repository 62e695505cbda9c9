"""A copy of rows that are slow to decode: written to a disk while they are read first, mapped from then on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cosmeans.atomic import new_file
from cosmeans.containers.converted import held
from cosmeans.errors import CosmeansError, WriteError
from cosmeans.paths import is_url
from cosmeans.reading import fingerprint, read_bytes, size_words
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.files import FileRows
from cosmeans.rows.readers.arrays import advised, mapping_of
from cosmeans.system_errors import write_error

_FORMAT = {"format": "cosmeans rows", "format_version": 1}
_BLOCK_BYTES = 64 << 20  # that are written, or checked, at once
_LARGEST_MARK = 1 << 16


class CopiedRows:
    """`contracts.RowSource` over files or batches, and over the copy of them as soon as it is complete.

    NAME.rows holds the rows as they are stored, one after another; NAME.json, written last, says that it is complete,
    and its checksum. NAME stands for the contents of the files, so that files that changed have another copy, and one
    that is torn or damaged is made again.

    What is behind a URL can't be told apart by its contents: such a copy belongs to this source alone, and its files
    have no name once it is complete.

    complete  whether rows come from the copy
    """

    def __init__(self, source: FileRows | BatchRows, folder: Path, make: bool = True) -> None:
        """folder: of the copy, made if it is missing. make: False: take a copy that is there, make none.

        A copy that is there is read once, to check it. Raises WriteError if there is no room for a new one.
        """
        self._source = source
        self.n_rows, self.n_features, self.n_bytes = source.n_rows, source.n_features, source.n_bytes
        self.dtype, self.device, self.where, self.names = source.dtype, source.device, source.where, source.names
        self._rows_path, self._mark_path = copy_files(source, folder)
        self._shared = not any(map(is_url, source.names))
        self._done, self._sum = 0, 0  # rows that are written, and the checksum of them
        self._writing = ExitStack()
        self._file: BinaryIO | None = None  # while the copy is written
        self._rows: Tensor | None = None
        if self._shared and self._is_whole():
            self._map()
        elif make:
            self._require_space(folder)
            self._begin()

    @property
    def complete(self) -> bool:
        return self._rows is not None

    @property
    def n_direct(self) -> int:
        return self.n_rows if self.complete else 0

    @property
    def one_view(self) -> bool:
        return self.complete or self._file is not None

    def read(self, span: slice) -> Tensor:
        if self._rows is not None:
            return self._rows[span]
        rows = self._source.read(span)
        if self._file is not None and span.start <= self._done < span.stop:
            self._write(rows[self._done - span.start :])
        return rows

    def view(self) -> Tensor:
        """All rows, mapped from the copy, which is made of them now if there is to be one."""
        step = max(1, _BLOCK_BYTES // max(1, self.n_bytes // max(1, self.n_rows)))
        while self._file is not None:
            self.read(slice(self._done, min(self._done + step, self.n_rows)))
        return self.read(slice(0, self.n_rows))

    def gather(self, indices: Tensor) -> Tensor:
        if self._rows is None:
            return self._source.gather(indices)
        with advised(self._mapping, indices.numpy()):
            return self._rows[indices]

    def part(self, indices: Tensor) -> None:
        return None  # a session reads through `rows.held`, which knows what memory there is

    def close(self) -> None:
        """Nothing stays of a copy that is not complete."""
        if self._file is not None:
            with suppress(_UnfinishedError), self._writing:
                self._file = None
                raise _UnfinishedError

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def _begin(self) -> None:
        temporary = self._writing.enter_context(new_file(self._rows_path, force=True))
        with _told(self._rows_path):
            self._file = self._writing.enter_context(temporary.open("wb"))

    def _write(self, rows: Tensor) -> None:
        data = rows.contiguous().view(torch.uint8).numpy().data
        assert self._file is not None
        with _told(self._rows_path):
            self._file.write(data)
        self._sum = zlib.crc32(data, self._sum)
        self._done += len(rows)
        if self._done == self.n_rows:
            self._writing.close()
            self._file = None
            if self._shared:
                with new_file(self._mark_path, force=True) as temporary:
                    temporary.write_text(json.dumps(self._mark() | {"crc32": self._sum}) + "\n", encoding="utf-8")
            self._map()
            if not self._shared:
                with suppress(OSError):  # Windows keeps what is mapped
                    self._rows_path.unlink()

    def _mark(self) -> dict[str, Any]:
        numbers = {"rows": self.n_rows, "features": self.n_features, "bytes": self.n_bytes}
        return {**_FORMAT, **numbers, "dtype": str(self.dtype)}

    def _is_whole(self) -> bool:
        """Whether a copy is there, complete, and has the checksum that it had when it was written."""
        try:
            mark = json.loads(read_bytes(self._mark_path, _LARGEST_MARK))
            if not isinstance(mark, dict) or mark != self._mark() | {"crc32": mark.get("crc32")}:
                return False
            with self._rows_path.open("rb") as file:
                return os.fstat(file.fileno()).st_size == self.n_bytes and _sum_of(file) == mark["crc32"]
        except (CosmeansError, OSError, ValueError, RecursionError):
            return False

    def _map(self) -> None:
        mapped: np.ndarray = np.memmap(self._rows_path, np.uint8, "r", shape=(self.n_bytes,))
        self._mapping = mapping_of(mapped)
        self._rows = held(mapped).view(self.dtype).reshape(self.n_rows, self.n_features)

    def _require_space(self, folder: Path) -> None:
        with _told(self._rows_path):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        if free < self.n_bytes:
            raise WriteError(
                f"No space left for the copy of the rows: {size_words(self.n_bytes)} are needed in {folder}, and "
                f"{size_words(free)} are free. Choose another cache (--cache DIR), or none (--cache off): the files "
                "are then decoded in every pass."
            )


class _UnfinishedError(Exception):
    """What is being written is not to appear."""


def copy_files(source: FileRows | BatchRows, folder: Path) -> tuple[Path, Path]:
    """The two files of the copy of these rows in a folder, whether or not they are there."""
    name = _name_of(source)
    return folder / f"{name}.rows", folder / f"{name}.json"


def remove_copy(source: FileRows | BatchRows, folder: Path) -> None:
    """Remove the copy of these rows, if there is one, and the folder if nothing else is in it."""
    for path in copy_files(source, folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _name_of(source: FileRows | BatchRows) -> str:
    """What stands for the contents of rows: hashes of files, or of all batches; of URLs none does."""
    if any(map(is_url, source.names)):
        return secrets.token_hex(12)
    found = hashlib.sha256(repr((source.n_rows, source.n_features, source.dtype)).encode())
    if isinstance(source, BatchRows):
        found.update(source.prints)
    else:
        found.update(repr(source.wanted).encode())
        for name in source.names:
            found.update(repr(fingerprint(name)).encode())
    return found.hexdigest()[:24]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What a disk refuses, in words."""
    try:
        yield
    except OSError as error:
        raise error if isinstance(error, CosmeansError) else write_error(path, error) from error


def _sum_of(file: BinaryIO) -> int:
    total = 0
    while block := file.read(_BLOCK_BYTES):
        total = zlib.crc32(block, total)
    return total

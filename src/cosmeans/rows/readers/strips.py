"""Rows of .npy files that are stored column by column (Fortran order): read in strips of each column."""

from __future__ import annotations

import mmap
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.console import warn
from cosmeans.containers.converted import Rows
from cosmeans.containers.read import read_numbers
from cosmeans.errors import ColumnOrderWarning, FileError
from cosmeans.printable import sentence
from cosmeans.reading import damaged, free_memory, size_words
from cosmeans.rows.place import Place

_STRIP_BYTES = 1 << 16  # of a column that are read at once: a disk takes as long for less
_BLOCK_BYTES = 64 << 20  # of all strips of a block at most
_CONVERSION = (
    'write it row by row once, with x = np.load(path, mmap_mode="r"): '
    'np.lib.format.open_memmap("rows.npy", "w+", x.dtype, x.shape)[:] = x.'
)


class StripRows:
    """`rows.reader.Reader` over columns that are each contiguous. The block of rows that was read last is kept."""

    mapped = tensor = False

    def __init__(self, place: Place, stored: np.memmap) -> None:
        """stored: (N, D) in Fortran order, mapped; it says where the columns are, and is not read from."""
        self._place, self.name = place, place.name
        self._stored_dtype, self._offset = stored.dtype, stored.offset
        self.n_rows, self.n_features = stored.shape
        self.dtype = self._as_rows(np.empty((0, self.n_features), stored.dtype)).dtype
        self.n_bytes = self.n_rows * self.n_features * self.dtype.itemsize
        itemsize = stored.dtype.itemsize
        self._rows = max(1, min(_STRIP_BYTES, _BLOCK_BYTES // max(1, self.n_features)) // itemsize)
        self._lock, self._number, self._block = Lock(), -1, np.empty((0, self.n_features), stored.dtype)
        if stored.nbytes > free_memory() // 2:
            warn(
                f"{place} is stored column by column (Fortran order) and takes {size_words(stored.nbytes)}: single "
                f"rows are slow to read. {sentence(_CONVERSION)}",
                ColumnOrderWarning,
            )

    def read(self, start: int, stop: int) -> Tensor:
        found = np.empty((stop - start, self.n_features), self._stored_dtype)
        done = start
        with self._lock:
            while done < stop:
                number = done // self._rows
                self._read_block(number)
                first = number * self._rows
                part = self._block[done - first : stop - first]
                found[done - start : done - start + len(part)] = part
                done += len(part)
        return self._as_rows(found)[:]

    def gather(self, indices: np.ndarray) -> Tensor:
        """Single numbers of a map, of which the system is told not to read more around them."""
        with self._place.reading(), self._place.open() as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_RANDOM)
            shape = (self.n_rows, self.n_features)
            return self._as_rows(np.ndarray(shape, self._stored_dtype, mapped, self._offset, order="F")[indices])[:]

    def _read_block(self, number: int) -> None:
        """Have the rows of this block in `_block`."""
        if number == self._number:
            return
        self._number, start = -1, number * self._rows
        count, itemsize = min(self._rows, self.n_rows - start), self._stored_dtype.itemsize
        strips = np.empty((self.n_features, count), self._stored_dtype)
        with self._place.reading(), self._place.open() as file:
            for column, strip in enumerate(strips):
                file.seek(self._offset + (column * self.n_rows + start) * itemsize)
                if file.readinto(strip.view(np.uint8)) < strip.nbytes:  # type: ignore[attr-defined]
                    raise damaged(self.name, f"it ends before row {start + count:,} of column {column:,}")
        self._block, self._number = strips.T, number

    def _as_rows(self, array: np.ndarray) -> Rows:
        return read_numbers(array, self.name)[0]


def far_apart(X: Any) -> bool:
    """Whether an array is mapped from a file in which rows are stored column by column."""
    return (
        isinstance(X, np.memmap) and X.ndim == 2 and not X.flags.c_contiguous and abs(X.strides[1]) > abs(X.strides[0])
    )


def refuse_far_apart(X: Any) -> None:
    """Raise for such an array that memory can't hold: by the map, each batch would read the whole file."""
    if far_apart(X) and X.nbytes > free_memory() // 2:
        name = X.filename or "the file"
        raise FileError(
            f"{name} is stored column by column (Fortran order) and takes {size_words(X.nbytes)}: as a mapped array, "
            f"each batch would read all of it. Pass its path, which is read in strips of the columns. Or: {_CONVERSION}"
        )

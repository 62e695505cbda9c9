"""Rows of one array: in memory, mapped from a file, or read from it by ranges of bytes."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import ConvertedRows, Rows
from cosmeans.containers.read import read_numbers
from cosmeans.errors import InputError
from cosmeans.rows.place import Place
from cosmeans.rows.ranges import StoredArray
from cosmeans.rows.reader import gather_by_chunks, scattered
from cosmeans.rows.readers.strips import StripRows, far_apart

_PIECE_BYTES = 1 << 20  # that are fetched for a single row: a request takes as long as that


class ArrayRows:
    """An array or tensor (N, D); what torch can't hold as it is stored is converted piece by piece."""

    def __init__(self, name: str, array: np.ndarray | Tensor, mapped: bool) -> None:
        rows, _ = read_numbers(array, name)
        if rows.ndim != 2:
            raise InputError(f"{name} holds an array of shape {tuple(rows.shape)}; expected rows of shape (N, D).")
        self._rows: Rows = rows
        self.tensor = isinstance(array, Tensor)
        self.name, self.mapped = name, mapped and not isinstance(rows, ConvertedRows)
        self.n_rows, self.n_features = rows.shape
        self.dtype, self.n_bytes = rows.dtype, rows.nbytes
        self._mapping = _mapping_of(array)

    def read(self, start: int, stop: int) -> Tensor:
        return self._rows[start:stop]

    def gather(self, indices: np.ndarray) -> Tensor:
        with _advised(self._mapping, indices):
            return self._rows[torch.from_numpy(indices)]


@contextmanager
def _advised(mapping: mmap.mmap | None, indices: np.ndarray) -> Iterator[None]:
    """Tell the system not to read ahead where few of the rows are wanted: it would read most of the file."""
    if mapping is None or not hasattr(mapping, "madvise") or not scattered(indices):
        yield
        return
    mapping.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        mapping.madvise(mmap.MADV_NORMAL)


def _mapping_of(array: Any) -> mmap.mmap | None:
    """What an array is a view of, if that is a file that this process has mapped."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def rows_of(
    place: Place,
    stored: np.ndarray | Tensor | StoredArray,
    mapped: bool = True,
    cut: Callable[[Any], Any] = lambda array: array,
) -> ArrayRows | RangeRows | StripRows:
    """Rows of an array that is mapped, held, or read by ranges. cut: the rows (n, D) of consecutive entries."""
    if isinstance(stored, StoredArray):
        return RangeRows(place.name, stored, cut)
    if isinstance(stored, np.memmap) and far_apart(stored):
        return StripRows(place, stored)
    return ArrayRows(place.name, cut(stored), mapped)


class RangeRows:
    """Rows of an array that is read by ranges of bytes, when they are asked for."""

    mapped = False

    def __init__(self, name: str, stored: StoredArray, cut: Callable[[Any], Any]) -> None:
        self.name, self._stored, self._cut = name, stored, cut
        if stored.ndim != 2:
            raise InputError(f"{name} holds an array of shape {stored.shape}; expected rows of shape (N, D).")
        none = self.read(0, 0)
        self.tensor = isinstance(stored.dtype, torch.dtype)
        self.dtype, self.n_rows, self.n_features = none.dtype, stored.shape[0], int(none.shape[1])
        self.n_bytes = self.n_rows * self.n_features * self.dtype.itemsize
        self._chunk = max(1, _PIECE_BYTES * self.n_rows // max(1, stored.nbytes))

    def read(self, start: int, stop: int) -> Tensor:
        rows, _ = read_numbers(self._cut(self._stored[start:stop]), self.name)
        return rows[:]

    def gather(self, indices: np.ndarray) -> Tensor:
        """Each piece of a megabyte that holds one of the rows is fetched once."""
        return gather_by_chunks(self, indices, self._chunk)

"""Arrays that are stored in chunks and read by slices: HDF5 by h5py, zarr (version 2 and 3) by zarr."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.containers.converted import ConvertedRows, from_numpy
from cosmeans.containers.nouns import NUMBERS, of_dtype
from cosmeans.errors import InputError, InputTypeError, OptionError
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted, gather_by_chunks

_STEP = 4096  # rows that are read at once for single ones, where the array has no chunks


def choose(place: Place, arrays: dict[str, Any], wanted: Wanted, noun: str) -> Any:
    """The array that is asked for, or the only one of two dimensions. noun: what the format calls one."""
    two = [name for name, item in arrays.items() if len(item.shape) == 2]
    name = two[0] if wanted.name is None and len(two) == 1 else wanted.name
    if name is None or name not in arrays:
        listed = ", ".join(f"{name} {item.shape}" for name, item in list(arrays.items())[:20]) or "none"
        asked = "" if name is None else f"no {noun} {name!r}; "
        raise OptionError(
            f"{place}: {asked}name the {noun} with the vectors by embedding (--embedding). It holds: {listed}."
        )
    return arrays[name]


class SlicedRows:
    """`rows.reader.Reader` over something that has `shape`, `dtype`, and gives arrays for slices."""

    mapped = False

    def __init__(self, name: str, stored: Any, chunk: int | None) -> None:
        """chunk: rows that are decoded together; None: rows are not packed."""
        if len(stored.shape) != 2:
            raise InputError(f"{name} holds an array of shape {tuple(stored.shape)}; expected rows of shape (N, D).")
        if (noun := of_dtype(np.dtype(stored.dtype))) != NUMBERS:
            raise InputTypeError(f"{name} holds {noun}; expected numbers.")
        self.name, self._stored, self._chunk = name, stored, max(1, chunk or _STEP)
        self.n_rows, self.n_features = (int(size) for size in stored.shape)
        self.dtype = _tensor(np.empty((0, 0), stored.dtype)).dtype
        self.n_bytes = self.n_rows * self.n_features * self.dtype.itemsize

    def read(self, start: int, stop: int) -> Tensor:
        return _tensor(np.asarray(self._stored[start:stop]))

    def gather(self, indices: np.ndarray) -> Tensor:
        """Each chunk that holds one of the rows is read once."""
        return gather_by_chunks(self, indices, self._chunk)


def _tensor(array: np.ndarray) -> Tensor:
    rows = from_numpy(array)
    return rows[:] if isinstance(rows, ConvertedRows) else rows

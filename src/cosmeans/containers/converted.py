"""Arrays as tensors: over the same memory where torch can hold them, else converted piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

# what torch can compute with, by NumPy's name; all other numbers are converted
_HELD = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"}


class ConvertedRows:
    """Rows that torch can't hold as they are stored: big-endian, reversed, unsigned 16 to 64 bits, long double.

    It answers what a tensor on the CPU would answer, and everything taken of it is a tensor: the whole is never
    converted at once, so that a mapped file is not read into memory.
    """

    def __init__(self, array: np.ndarray, wide: type[np.floating[Any]]) -> None:
        """wide: the type of numbers that torch has no type for."""
        self._array = array
        native = array.dtype.newbyteorder("=")
        self._dtype = native if native.name in _HELD else np.dtype(wide)
        self.shape, self.ndim, self.nbytes = torch.Size(array.shape), array.ndim, array.nbytes
        self.dtype: torch.dtype = torch.from_numpy(np.empty(0, self._dtype)).dtype
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        piece = self._array[index.numpy() if isinstance(index, Tensor) else index]
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which the inspection of rows names
            return torch.from_numpy(np.array(piece, self._dtype, order="C"))

    def element_size(self) -> int:
        return self._array.itemsize

    def to(self, *args: Any) -> Tensor:
        """All of them at once, for what needs a tensor."""
        return self[:].to(*args)


Rows = Tensor | ConvertedRows


def from_numpy(array: np.ndarray, wide: type[np.floating[Any]] = np.float32) -> Rows:
    """An array of real numbers as it is stored, read-only memory included (it is never written); else converted."""
    strided = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)  # all that torch knows
    if not strided or not array.dtype.isnative:
        return ConvertedRows(array, wide)
    if array.dtype.name == "bfloat16":
        return held(array.view(np.int16)).view(torch.bfloat16)
    return held(array) if array.dtype.name in _HELD else ConvertedRows(array, wide)


class _Writable:
    """The memory of a read-only array for torch, which warns that it can't forbid writing; nothing here ever writes.

    A filter of warnings would do too, but it is one for all threads.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # which owns the memory
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def held(array: np.ndarray) -> Tensor:
    """A tensor over the memory of an array, which may be read-only."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


def on_host(values: Any) -> Tensor:
    """What an estimator keeps (an array or a tensor, as its rows came) as a tensor on the CPU, never written."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    rows = from_numpy(np.asarray(values))
    return rows if isinstance(rows, Tensor) else rows[:]


def floating(rows: Rows) -> Tensor:
    """Rows of a floating type: integers of 8 bits as float16, which holds them, all others as float32."""
    if isinstance(rows, ConvertedRows):
        rows = rows[:]
    return rows if rows.is_floating_point() else rows.to(floating_type(rows.dtype))


def floating_type(dtype: torch.dtype) -> torch.dtype:
    """The type that `floating` gives."""
    if dtype.is_floating_point:
        return dtype
    return torch.float16 if dtype in (torch.int8, torch.uint8) else torch.float32


def copy_rows(rows: Tensor, into: Tensor) -> None:
    """Copy rows to others of their type and shape, which are contiguous, on the CPU.

    By NumPy: torch would wake its threads, and wait for them, while another thread of ours decodes the next rows.
    """
    if rows.numel():  # of no rows torch keeps strides that have no bytes
        into.view(torch.uint8).numpy()[:] = rows.contiguous().view(torch.uint8).numpy()


def joined_rows(parts: Sequence[Tensor]) -> Tensor:
    """Rows of one type that follow one another as one tensor on the CPU; one part at least."""
    rows = torch.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=parts[0].dtype, device="cpu")
    done = 0
    for part in parts:
        copy_rows(part, rows[done : done + len(part)])
        done += len(part)
    return rows


def joined_type(types: Iterable[torch.dtype]) -> torch.dtype:
    """The type of rows of several types that follow one another (one at least): one that holds the values of each.

    Integers count as what they are rounded to: torch would make float16 of 32-bit integers and float16.
    """
    distinct = set(types)
    if len(distinct) > 1:
        return reduce(torch.promote_types, map(floating_type, distinct))
    return distinct.pop()


def as_type(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows in their `joined_type`: integers are rounded once, as if they came alone."""
    return rows if rows.dtype == dtype else floating(rows).to(dtype)

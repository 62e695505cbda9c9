"""The formats of search benchmarks, mapped: .fvecs and .bvecs, .fbin, .f16bin, .u8bin and .i8bin."""

from __future__ import annotations

import os

import numpy as np

from cosmeans.errors import FileError
from cosmeans.reading import damaged
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.readers.arrays import ArrayRows

_NUMBERS = {".fvecs": "<f4", ".bvecs": "u1", ".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1"}


def read_vecs(place: Place, wanted: Wanted) -> ArrayRows:
    """Rows that each begin with their length as a 4-byte integer (.fvecs, .bvecs).

    The lengths of the first and the last row are compared with the size of the file.
    """
    _refuse(place, wanted)
    number = np.dtype(_NUMBERS[place.suffix])
    with place.reading(), place.open() as file:
        size = os.fstat(file.fileno()).st_size
        width = int.from_bytes(file.read(4), "little", signed=True)
        stride = 4 + width * number.itemsize
        if width < 1 or size % stride:
            raise damaged(place.name, f"{size:,} bytes are not rows of one length")
        stored = np.memmap(file, np.uint8, "r", 0, (size // stride, stride))
        if int.from_bytes(stored[-1, :4].tobytes(), "little", signed=True) != width:
            raise damaged(place.name, "its last row is of another length than its first")
        return ArrayRows(place.name, stored[:, 4:].view(number), mapped=True)


def read_bin(place: Place, wanted: Wanted) -> ArrayRows:
    """Rows behind one header of two 4-byte integers, N and D (.fbin, .f16bin, .u8bin, .i8bin)."""
    _refuse(place, wanted)
    number = np.dtype(_NUMBERS[place.suffix])
    with place.reading(), place.open() as file:
        size = os.fstat(file.fileno()).st_size
        n, d = (int.from_bytes(file.read(4), "little") for _ in range(2))
        if size != 8 + n * d * number.itemsize or not n * d:
            declared = f"its header says {n:,} rows of {d:,} numbers, {8 + n * d * number.itemsize:,} bytes"
            raise damaged(place.name, f"{declared}; it holds {size:,}")
        return ArrayRows(place.name, np.memmap(file, number, "r", 8, (n, d)), mapped=True)


def read_raw(place: Place, wanted: Wanted) -> ArrayRows:
    """Numbers without a header, of the shape and dtype that the caller names."""
    number = np.dtype(wanted.dtype)
    n, d = wanted.shape or (0, 0)
    with place.reading(), place.open() as file:
        size = os.fstat(file.fileno()).st_size
        if size != n * d * number.itemsize:
            raise FileError(
                f"{place}: {n:,} rows of {d:,} {wanted.dtype} are {n * d * number.itemsize:,} bytes, and it holds "
                f"{size:,}. Correct the shape or the dtype."
            )
        return ArrayRows(place.name, np.memmap(file, number, "r", 0, (n, d)), mapped=True)


def _refuse(place: Place, wanted: Wanted) -> None:
    says = f"a {place.suffix} file"
    wanted.refuse(place, says, shape="says how many rows it has", dtype="says what its numbers are",
                  key="holds one array", embedding="holds one array")  # fmt: skip

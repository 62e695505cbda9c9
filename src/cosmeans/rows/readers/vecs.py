"""The formats of search benchmarks, mapped: .fvecs and .bvecs, .fbin, .f16bin, .u8bin and .i8bin."""

from __future__ import annotations

import numpy as np

from cosmeans.errors import FileError
from cosmeans.reading import damaged
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Reader, Wanted
from cosmeans.rows.readers.arrays import rows_of

_NUMBERS = {".fvecs": "<f4", ".bvecs": "u1", ".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1"}


def read_vecs(place: Place, wanted: Wanted) -> Reader:
    """Rows that each begin with their length as a 4-byte integer (.fvecs, .bvecs).

    The lengths of the first and the last row are compared with the size of the file.
    """
    _refuse(place, wanted)
    number = np.dtype(_NUMBERS[place.suffix])
    with place.reading(), place.open() as file:
        size = place.size(file)
        width = int.from_bytes(file.read(4), "little", signed=True)
        stride = 4 + width * number.itemsize
        if width < 1 or size % stride:
            raise damaged(place.name, f"{size:,} bytes are not rows of one length")
        stored = place.array(file, np.uint8, 0, (size // stride, stride))
        last = np.asarray(stored[len(stored) - 1 :])[0, :4]
        if int.from_bytes(last.tobytes(), "little", signed=True) != width:
            raise damaged(place.name, "its last row is of another length than its first")
        return rows_of(place, stored, cut=lambda rows: rows[:, 4:].view(number))


def read_bin(place: Place, wanted: Wanted) -> Reader:
    """Rows behind one header of two 4-byte integers, N and D (.fbin, .f16bin, .u8bin, .i8bin)."""
    _refuse(place, wanted)
    number = np.dtype(_NUMBERS[place.suffix])
    with place.reading(), place.open() as file:
        size = place.size(file)
        n, d = (int.from_bytes(file.read(4), "little") for _ in range(2))
        if size != 8 + n * d * number.itemsize or not n * d:
            declared = f"its header says {n:,} rows of {d:,} numbers, {8 + n * d * number.itemsize:,} bytes"
            raise damaged(place.name, f"{declared}; it holds {size:,}")
        return rows_of(place, place.array(file, number, 8, (n, d)))


def read_raw(place: Place, wanted: Wanted) -> Reader:
    """Numbers without a header, of the shape and dtype that the caller names."""
    number = np.dtype(wanted.dtype)
    n, d = wanted.shape or (0, 0)
    with place.reading(), place.open() as file:
        size = place.size(file)
        if size != n * d * number.itemsize:
            raise FileError(
                f"{place}: {n:,} rows of {d:,} {wanted.dtype} are {n * d * number.itemsize:,} bytes, and it holds "
                f"{size:,}. Correct the shape or the dtype."
            )
        return rows_of(place, place.array(file, number, 0, (n, d)))


def _refuse(place: Place, wanted: Wanted) -> None:
    says = f"a {place.suffix} file"
    wanted.refuse(place, says, shape="says how many rows it has", dtype="says what its numbers are",
                  key="holds one array", embedding="holds one array")  # fmt: skip

"""Products and certificates in one loop: rows are read where they are stored, and labels are proved in the cache.

A library's product pays for every row, however few columns there are, wants its rows copied together, and leaves the
products in memory. Here six rows at a time meet up to 64 columns in registers. For x86: float32 with fused
multiply-add, 16-bit integers, 8-bit ones with VNNI. Other processors use the products of `gemm`.
"""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels import registers
from cosmeans.backends.cpu.kernels.certify import certify_rows
from cosmeans.backends.cpu.kernels.compiling import INNER, INNER_ORDERLESS, JIT, njit
from cosmeans.backends.cpu.kernels.registers import BYTES, FLOATS, LINE, ROWS, SHORTS, tile

LOWEST = np.int32(-(2**31))
_WIDE = registers.has("avx512f", "avx512bw")
# 24 sums, 4 registers of columns and one of a row, of 32; with AVX2 12, 2 and one, of 16
PANEL, FLOAT_PANEL = 4 * LINE, 4 * LINE if _WIDE else LINE
_TILE = 96  # rows decided together, at most, and the bytes of their products: half of a second-level cache
_TILE_BYTES = 256 << 10
_MOST_FEATURES = 1 << 16  # 255 x 127 each: sums fit 32 bits
_FLOAT, _SHORT = (kinds[16 if _WIDE else 8] for kinds in (FLOATS, SHORTS))

_bytes_1, _bytes_2, _bytes_3, _bytes_4 = (tile(BYTES, n * LINE, PANEL) for n in (1, 2, 3, 4))
_floats_1, _floats_2, _floats_3, _floats_4 = (
    tile(_FLOAT, min(n * LINE, FLOAT_PANEL), FLOAT_PANEL) for n in (1, 2, 3, 4)
)

_shorts_1, _shorts_2, _shorts_3, _shorts_4 = (
    tile(_SHORT, min(n * LINE, FLOAT_PANEL), FLOAT_PANEL) for n in (1, 2, 3, 4)
)


def multiplies_bytes(n_features: int) -> bool:
    """Whether 8-bit rows of so many features can be multiplied here: features are taken by four."""
    fits = n_features % 4 == 0 and n_features <= _MOST_FEATURES
    return fits and registers.has("avx512f", "avx512bw", "avx512vnni")


def multiplies_floats() -> bool:
    return registers.has("avx2", "fma")


def multiplies_shorts(n_features: int) -> bool:
    """Whether 16-bit rows of so many features can be multiplied here: features are taken by two."""
    return n_features % 2 == 0 and registers.has("avx2")


def panels(columns: np.ndarray) -> np.ndarray:
    """Columns (U, D) as they are multiplied: entries of one panel's columns side by side, zeros where there are none.

    float32: (P, D, panel). int16: (P, D / 2, panel, 2). int8: (P, D / 4, panel, 4) uint8, 128 more than they were.
    """
    size, n_features = columns.shape
    together = 4 // columns.itemsize
    panel = PANEL if columns.dtype == np.int8 else FLOAT_PANEL
    wide = np.zeros((-(-size // panel) * panel, n_features), columns.dtype)
    wide[:size] = columns
    if columns.dtype == np.int8:
        wide = wide.view(np.uint8) ^ np.uint8(128)
    lines = wide.reshape(-1, panel, n_features // together, together).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(lines if together > 1 else lines[..., 0])


def packed(columns: np.ndarray) -> np.ndarray | None:
    """`panels` of columns that can be multiplied here; None: they are left to the products of libraries."""
    n_features = columns.shape[1]
    fits = {1: multiplies_bytes, 2: multiplies_shorts, 4: lambda _: multiplies_floats()}[columns.itemsize]
    return panels(columns) if fits(n_features) else None


@njit(**INNER_ORDERLESS)
def _sum(codes):
    total = np.int32(0)
    for d in range(codes.shape[0]):
        total += np.int32(codes[d])
    return total


@njit(**INNER, inline="always")
def multiply_bytes(codes, packed, which, width, values):
    """values (T, W) int32: products of rows codes[which] with the first `width` columns, exact; W and T have room.

    A panel stays in the nearest cache while all rows meet it. Its columns are 128 too large, so every sum begins
    with 128 times the sum of the row less.
    """
    steps, stride = np.int64(codes.shape[1] // 4), np.int64(values.shape[1])
    size = which.shape[0]
    first = np.empty(-(-size // ROWS) * ROWS, np.int32)
    at = np.empty(first.shape[0], np.int64)
    for g in range(first.shape[0]):
        i = which[min(g, size - 1)]
        at[g] = i * steps
        first[g] = np.int32(-128) * _sum(codes[i])
    for p in range(-(-width // PANEL)):
        some = -(-(width - p * PANEL) // LINE)
        for g in range(0, size, ROWS):
            out = values[g, p * PANEL :]
            if some >= 4:
                _bytes_4(codes, at[g:], first[g:], packed[p], steps, out, stride)
            elif some == 3:
                _bytes_3(codes, at[g:], first[g:], packed[p], steps, out, stride)
            elif some == 2:
                _bytes_2(codes, at[g:], first[g:], packed[p], steps, out, stride)
            else:
                _bytes_1(codes, at[g:], first[g:], packed[p], steps, out, stride)


def _multiplier(tiles, together, number):
    """As `multiply_bytes`, for columns as they are: float32 rounded after every feature; 16-bit integers exact where no
    sum of products, nor a part of it, leaves 32 bits. tiles: for one to four LINEs of columns.
    """
    one, two, three, four = tiles

    @njit(**INNER, inline="always")
    def multiply(codes, packed, which, width, values):
        steps, stride = np.int64(codes.shape[1] // together), np.int64(values.shape[1])
        size = which.shape[0]
        first = np.empty(ROWS, number)  # np.zeros takes longer to compile
        for g in range(ROWS):
            first[g] = number(0)
        at = np.empty(-(-size // ROWS) * ROWS, np.int64)
        for g in range(at.shape[0]):
            at[g] = which[min(g, size - 1)] * steps
        for p in range(-(-width // FLOAT_PANEL)):
            some = -(-(width - p * FLOAT_PANEL) // LINE)
            for g in range(0, size, ROWS):
                out = values[g, p * FLOAT_PANEL :]
                if some >= 4:
                    four(codes, at[g:], first, packed[p], steps, out, stride)
                elif some == 3:
                    three(codes, at[g:], first, packed[p], steps, out, stride)
                elif some == 2:
                    two(codes, at[g:], first, packed[p], steps, out, stride)
                else:
                    one(codes, at[g:], first, packed[p], steps, out, stride)

    return multiply


multiply_floats = _multiplier((_floats_1, _floats_2, _floats_3, _floats_4), 1, np.float32)
multiply_shorts = _multiplier((_shorts_1, _shorts_2, _shorts_3, _shorts_4), 2, np.int32)


@njit(**INNER, inline="always")
def _room(width):
    """Rows of a tile and columns of its products."""
    padded = -(-width // LINE) * LINE
    return max(ROWS, min(_TILE, _TILE_BYTES // (4 * padded)) // ROWS * ROWS), padded


def _certifier(multiply, number, lowest):
    """A loop that multiplies rows with columns, tile by tile, and certifies them while the products are in the cache.

    number: the type of products; lowest: below every one of them
    """

    @njit(**JIT)
    def certify(codes, packed, width, which, block, screened, targets, start, stop):
        tile, padded = _room(width)
        values = np.empty((tile, padded), number)
        refined = dots = 0
        for first in range(start, stop, tile):
            part = which[first : min(first + tile, stop)]
            multiply(codes, packed, part, width, values)
            counts = certify_rows(values, width, lowest, part, block, screened, targets, 0, part.shape[0])
            refined += counts[0]
            dots += counts[1]
        return refined, dots

    return certify


certify_bytes = _certifier(multiply_bytes, np.int32, LOWEST)
certify_shorts = _certifier(multiply_shorts, np.int32, LOWEST)
certify_floats = _certifier(multiply_floats, np.float32, np.float32(-np.inf))


@njit(**JIT)
def products(rows, packed, out, start, stop):
    """out (B, U) float32: rows (B, D) times columns."""
    width = out.shape[1]
    tile, padded = _room(width)
    values = np.empty((tile, padded), np.float32)
    which = np.empty(tile, np.int32)
    for first in range(start, stop, tile):
        size = min(tile, stop - first)
        for g in range(size):
            which[g] = first + g
        multiply_floats(rows, packed, which[:size], width, values)
        for g in range(size):
            out[first + g] = values[g, :width]

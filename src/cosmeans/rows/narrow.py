"""float32 rows in two halves: heads, which are the rows rounded to float16, and what brings every bit back.

    x = the float32 number that is `tail` numbers above the head

Where 16 bits don't hold the tail (entries below 2^-17 or so, or beyond float16), the entry is listed. NumPy, not torch:
its threads, once woken, wait awake for longer than this work takes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_LARGEST = np.float32(65504.0)  # of float16
_AT_ONCE = 1 << 16  # entries that stay in a nearby cache from step to step


class Halves(NamedTuple):
    """heads (B, D) float16, finite; tails (B, D) int16; lost (B,) float32: no less than |row - head|, inf for NaN.

    listed  (B,) int64: how many entries of each row are listed; column, bits  int32: of these, row after row
    """

    heads: np.ndarray
    tails: np.ndarray
    lost: np.ndarray
    listed: np.ndarray
    column: np.ndarray
    bits: np.ndarray


def split(rows: np.ndarray) -> Halves:
    """The halves of float32 rows (B, D)."""
    size, n_features = rows.shape
    heads, tails = np.empty(rows.shape, np.float16), np.empty(rows.shape, np.int16)
    lost, listed = np.empty(size, np.float32), np.empty(size, np.int64)
    columns, bits = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    step = max(1, _AT_ONCE // n_features)
    for first in range(0, size, step):
        span = slice(first, min(first + step, size))
        part = np.ascontiguousarray(rows[span])
        near = np.nan_to_num(np.clip(part, -_LARGEST, _LARGEST), copy=False, nan=0.0).astype(np.float16)
        wide = near.astype(np.float32)
        above = part.view(np.int32) - wide.view(np.int32)
        low = above.astype(np.int16)
        far = low != above
        heads[span], tails[span], lost[span] = near, low, _lost(part, wide)
        listed[span] = far.sum(axis=1)
        if listed[span].any():
            tails[span][far] = 0
            columns.append(far.nonzero()[1].astype(np.int32))
            bits.append(part.view(np.int32)[far])
    return Halves(heads, tails, lost, listed, np.concatenate(columns), np.concatenate(bits))


def joined(heads: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """float32 rows (B, D) without the entries that are listed."""
    rows = heads.astype(np.float32)
    whole = rows.view(np.int32)
    whole += tails
    return rows


def _lost(rows: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """|row - head| rounded up: differences are exact in float64, squares and sums of D of them off by (D + 2) 2^-53."""
    with np.errstate(over="ignore", invalid="ignore"):
        less = rows.astype(np.float64)
        less -= heads
        length = np.sqrt(np.einsum("ij,ij->i", less, less)) * (1.0 + rows.shape[1] * 2.0**-50)
        outward: np.ndarray = np.nextafter(length.astype(np.float32), np.float32(np.inf))
    outward[length == 0.0] = 0.0
    outward[np.isnan(outward)] = np.inf
    return outward

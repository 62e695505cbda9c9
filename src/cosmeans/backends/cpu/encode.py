"""Rows and centroids in 8 bits, with the length of what was lost: the compiled half of the int8 screen."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_JIT = {"nogil": True, "cache": True, "error_model": "numpy"}
_ORDERLESS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "reassoc", "contract"}}
LARGEST = 127
# float64 sums of squares below are taken in any order and up to 2^20 terms: relative error below 2^-32
_ROUND_UP = 1.0 + 2.0**-20


@njit(**_ORDERLESS)
def _largest_entry(row, middle):
    best = np.float32(0.0)
    for d in range(row.shape[0]):
        best = max(best, abs(row[d] - middle[d]))
    return best


@njit(**_ORDERLESS)
def _quantise(row, middle, scale, inverse, codes):
    """Codes of row - middle; squared lengths of scale * codes and of what they lose, in float64."""
    kept = 0.0
    lost = 0.0
    for d in range(row.shape[0]):
        exact = np.float64(row[d]) - np.float64(middle[d])
        code = min(np.float32(LARGEST), max(np.float32(-LARGEST), np.rint(np.float32(exact) * inverse)))
        codes[d] = np.int8(code)
        near = np.float64(code) * scale
        kept += near * near
        lost += (exact - near) * (exact - near)
    return kept, lost


@njit(**_JIT)
def to_int8(rows, middle, codes, scale, length, residual, start, stop):
    """Row i is middle + scale_i * codes_i + something no longer than residual_i; |scale_i codes_i| <= length_i."""
    for i in range(start, stop):
        largest = _largest_entry(rows[i], middle)
        step = np.float32(largest / np.float32(LARGEST))
        if not step > np.float32(2.0**-100):
            step = np.float32(1.0)  # nothing to encode: codes are 0
        kept, lost = _quantise(rows[i], middle, np.float64(step), np.float32(1.0) / step, codes[i])
        scale[i] = step
        length[i] = np.nextafter(np.float32(math.sqrt(kept) * _ROUND_UP), np.float32(np.inf))
        residual[i] = np.nextafter(np.float32(math.sqrt(lost) * _ROUND_UP), np.float32(np.inf))

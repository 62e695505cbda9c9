"""Rows and centroids in 8 bits, with the length of what was lost: the compiled half of the int8 screen."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_JIT = {"nogil": True, "cache": True, "error_model": "numpy"}
_ORDERLESS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "reassoc", "contract"}}
LARGEST = 127
_UNIT = 2.0**-24
_NOTHING = 2.0**-60  # more than what squares below float32's range can hide


@njit(**_ORDERLESS)
def _largest_entry(row, middle):
    """Largest |row - middle|, at most 2^-29 less. In integers: compilers turn their maximum into vectors."""
    best = np.int32(0)
    for d in range(row.shape[0]):
        entry = np.int32(abs(row[d] - middle[d]) * np.float32(2.0**29))
        best = entry if entry > best else best
    return np.float32(best) * np.float32(2.0**-29)


@njit(**_ORDERLESS)
def _quantise(row, middle, scale, inverse, codes):
    """Codes of row - middle; squared lengths of scale * codes and of what they lose, in float32."""
    kept = np.float32(0.0)
    lost = np.float32(0.0)
    for d in range(row.shape[0]):
        value = row[d] - middle[d]
        code = min(np.float32(LARGEST), max(np.float32(-LARGEST), np.rint(value * inverse)))
        codes[d] = np.int8(code)
        near = code * scale
        kept += near * near
        lost += (value - near) * (value - near)
    return kept, lost


@njit(**_JIT)
def to_int8(rows, middle, codes, scale, length, residual, start, stop):
    """Row i is middle + scale_i * codes_i + something no longer than residual_i; |scale_i codes_i| <= length_i.

    Sums of D squares in float32, in any order, are off by at most D + 2 units (relative); the difference, the
    product and what they leave by one unit of their own size each.
    """
    sums = 1.0 + (rows.shape[1] + 8) * _UNIT
    for i in range(start, stop):
        largest = _largest_entry(rows[i], middle)
        step = np.float32(largest / np.float32(LARGEST))
        if not step > np.float32(2.0**-100):
            step = np.float32(1.0)  # nothing to encode: codes are 0
        kept, lost = _quantise(rows[i], middle, step, np.float32(1.0) / step, codes[i])
        near = math.sqrt(np.float64(kept)) * sums + _NOTHING
        left = math.sqrt(np.float64(lost)) * sums + _NOTHING
        scale[i] = step
        length[i] = np.nextafter(np.float32(near), np.float32(np.inf))
        residual[i] = np.nextafter(np.float32(left + 4.0 * _UNIT * (near + left)), np.float32(np.inf))

"""What rows and centroids lose in 8 bits or in few coordinates: the compiled half of those screens."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cosmeans.backends.cpu.compiling import INNER, INNER_ORDERLESS, JIT

LARGEST = 127
_UNIT = 2.0**-24
_NOTHING = 2.0**-60  # more than what squares below float32's range can hide


@njit(**INNER_ORDERLESS)
def _largest_entry(row, middle):
    """Largest |row - middle|, at most 2^-29 less. In integers: compilers turn their maximum into vectors."""
    best = np.int32(0)
    for d in range(row.shape[0]):
        entry = np.int32(abs(row[d] - middle[d]) * np.float32(2.0**29))
        best = entry if entry > best else best
    return np.float32(best) * np.float32(2.0**-29)


@njit(**INNER_ORDERLESS)
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


@njit(**JIT)
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


@njit(**INNER_ORDERLESS)
def _sums(row, within, near, leading):
    """In float64: |row|^2; |near|^2 and <near, within> of the leading coordinates and of all; |within - near|^2."""
    squared = 0.0
    for d in range(row.shape[0]):
        squared += np.float64(row[d]) * np.float64(row[d])
    first = first_with = 0.0
    for q in range(leading):
        first += np.float64(near[q]) * np.float64(near[q])
        first_with += np.float64(near[q]) * np.float64(within[q])
    others = others_with = lost = 0.0
    for q in range(near.shape[0]):
        others += np.float64(near[q]) * np.float64(near[q]) if q >= leading else 0.0
        others_with += np.float64(near[q]) * np.float64(within[q]) if q >= leading else 0.0
        lost += (np.float64(within[q]) - np.float64(near[q])) ** 2
    return squared, first, first_with, first + others, first_with + others_with, lost


@njit(**JIT)
def outside(rows, within, near, leading, error, skew, tail, rest, lost, start, stop):
    """Bounds on what lies outside of the coordinates of rows: docs/algorithm.md, eq. 12.

    within  (B, Q) float32: P^T x, off by no more than error |x|; near (B, Q) float32: the coordinates a that are kept
    skew    no less than |P^T P - I|
    Writes tail, rest (B,) float32: no less than |x - P a| with the leading coordinates and with all; lost (B,): no less
    than |P^T (x - P a)| with all, and so with the leading ones.

        |x - P a|^2 = |x|^2 - 2 <a, P^T x> + |P a|^2,   P^T (x - P a) = P^T x - a - (P^T P - I) a
    """
    nothing = (rows.shape[1] + near.shape[1] + 16) * 2.0**-50  # more than float64 loses of these sums
    for i in range(start, stop):
        squared, first, first_with, whole, whole_with, difference = _sums(rows[i], within[i], near[i], leading)
        off = error * math.sqrt(squared)
        left = squared - 2.0 * first_with + first * (1.0 + skew) + 2.0 * off * math.sqrt(first)
        tail[i] = _above(math.sqrt(max(left, 0.0) + nothing * (1.0 + squared)))
        left = squared - 2.0 * whole_with + whole * (1.0 + skew) + 2.0 * off * math.sqrt(whole)
        rest[i] = _above(math.sqrt(max(left, 0.0) + nothing * (1.0 + squared)))
        lost[i] = _above(math.sqrt(difference) + off + skew * math.sqrt(whole) + nothing)


@njit(**INNER)
def _above(value):
    """A float32 that is not below this float64, nor a little more."""
    return np.nextafter(np.float32(value * (1.0 + 2.0**-20)), np.float32(np.inf))

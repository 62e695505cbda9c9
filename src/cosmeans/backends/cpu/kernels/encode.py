"""Rows and centroids in 8 and 16 bits, with the length of what was lost: the compiled half of integer screens."""

from __future__ import annotations

import math

import numpy as np

from cosmeans.backends.cpu.kernels.compiling import INNER, INNER_ORDERLESS, JIT, njit
from cosmeans.backends.cpu.kernels.vectors import above
from cosmeans.sphere import UNIT_ROUNDOFF

LARGEST = 127
LONGEST = 32000  # of 16-bit codes as vectors: no sum of products of two, nor a part of it, leaves 32 bits
_OUTWARD = 1.0 + 2.0**-20  # for what float64 loses of a length
_NOTHING = 2.0**-60  # more than what squares below float32's range can hide


@njit(**INNER)
def _write_nothing(codes):
    for d in range(codes.shape[0]):
        codes[d] = 0


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


@njit(**INNER_ORDERLESS)
def _less(row, middle, out):
    """out = row - middle. Returns its squared length."""
    total = 0.0
    for d in range(row.shape[0]):
        value = row[d] - middle[d]
        out[d] = value
        total += np.float64(value) * np.float64(value)
    return total


@njit(**JIT)
def centred(rows, keep, middle, codes, length, start, stop):
    """codes_i = fl(x_i - middle), and an upper bound on |x_i - middle|; rows not kept may hold anything, and give 0."""
    for i in range(start, stop):
        if not keep[i]:
            _write_nothing(codes[i])
            length[i] = 0.0
            continue
        length[i] = math.sqrt(_less(rows[i], middle, codes[i])) * (1.0 + 2.0**-20)


@njit(**JIT)
def to_int8(rows, keep, middle, codes, scale, length, residual, start, stop):
    """Row i is middle + scale_i * codes_i + something no longer than residual_i; |scale_i codes_i| <= length_i.

    Rows not kept may hold anything: their codes and lengths are 0.

    Sums of D squares in float32, in any order, are off by at most D + 2 units (relative); the difference, the
    product and what they leave by one unit of their own size each.
    """
    sums = 1.0 + (rows.shape[1] + 8) * UNIT_ROUNDOFF
    for i in range(start, stop):
        if not keep[i]:
            _write_nothing(codes[i])
            scale[i], length[i], residual[i] = np.float32(1.0), np.float32(0.0), np.float32(0.0)
            continue
        largest = _largest_entry(rows[i], middle)
        step = np.float32(largest / np.float32(LARGEST))
        if not step > np.float32(2.0**-100):
            step = np.float32(1.0)  # nothing to encode: codes are 0
        kept, lost = _quantise(rows[i], middle, step, np.float32(1.0) / step, codes[i])
        near = math.sqrt(np.float64(kept)) * sums + _NOTHING
        left = math.sqrt(np.float64(lost)) * sums + _NOTHING
        scale[i] = step
        length[i] = np.nextafter(np.float32(near), np.float32(np.inf))
        residual[i] = np.nextafter(np.float32(left + 4.0 * UNIT_ROUNDOFF * (near + left)), np.float32(np.inf))


@njit(**INNER_ORDERLESS)
def _squared(row):
    total = 0.0
    for d in range(row.shape[0]):
        total += np.float64(row[d]) * np.float64(row[d])
    return total


@njit(**INNER_ORDERLESS)
def _quantise_wide(within, step, codes):
    """Codes of within, a = step * codes. Returns |a|^2, <a, within>, |within - a|^2 in float64."""
    kept = both = lost = 0.0
    for q in range(within.shape[0]):
        value = np.float64(within[q])
        code = np.rint(value / step)
        codes[q] = np.int16(code)
        near = code * step
        kept += near * near
        both += near * value
        lost += (value - near) * (value - near)
    return kept, both, lost


@njit(**JIT)
def to_int16(rows, keep, within, error, skew, codes, scale, tail, lost, start, stop):
    """Coordinates in 16 bits, a = scale * codes, |codes| = LONGEST but for rounding, and what they leave (eq. 12).

    within  (B, Q) float32: P^T x, off by no more than error |x|; skew: no less than |P^T P - I|
    Writes codes (B, Q), scale (B,); tail, lost (B,) float32: no less than |x - P a| and |P^T (x - P a)|.

        |x - P a|^2 = |x|^2 - 2 <a, P^T x> + |P a|^2,   P^T (x - P a) = P^T x - a - (P^T P - I) a

    Rows not kept may hold anything: their codes and lengths are 0.
    """
    nothing = (rows.shape[1] + within.shape[1] + 16) * 2.0**-50  # more than float64 loses of these sums
    for i in range(start, stop):
        if not keep[i]:
            _write_nothing(codes[i])
            scale[i], tail[i], lost[i] = np.float32(1.0), np.float32(0.0), np.float32(0.0)
            continue
        step = np.float32(math.sqrt(_squared(within[i])) / np.float64(LONGEST))
        if not step > np.float32(2.0**-100):
            step = np.float32(1.0)  # nothing to encode: codes are 0
        kept, both, left = _quantise_wide(within[i], np.float64(step), codes[i])
        squared = _squared(rows[i])
        off = error * math.sqrt(squared)
        outside = squared - 2.0 * both + kept * (1.0 + skew) + 2.0 * off * math.sqrt(kept)
        scale[i] = step
        tail[i] = above(math.sqrt(max(outside, 0.0) + nothing * (1.0 + squared)) * _OUTWARD)
        lost[i] = above((math.sqrt(left) + off + skew * math.sqrt(kept) + nothing) * _OUTWARD)

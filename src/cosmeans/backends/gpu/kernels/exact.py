"""Arithmetic of all kernels: unit rows, the tree of eq. 1 and the fixed point of rule 4, bit by bit as in `sphere`.

A program of one warp holds one row, so that the upper levels of the tree never leave its registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from cosmeans import sphere

SMALLEST_NORMAL = tl.constexpr(sphere.SMALLEST_NORMAL)
UNIT_TOLERANCE = tl.constexpr(sphere.UNIT_TOLERANCE)
# Adding it rounds a float64 of |x| < 2^51 to an integer, ties to even, and leaves that integer in the low bits.
ROUNDER64 = tl.constexpr(1.5 * 2.0**52)
ROUNDER64_BITS = tl.constexpr(0x4338000000000000)
ROUNDER32 = tl.constexpr(1.5 * 2.0**23)  # the same for a float32 of |x| < 2^22
ROUNDER32_BITS = tl.constexpr(0x4B400000)


def padded(n: int) -> int:
    """P of rule 2: the smallest power of two that is at least n."""
    power: int = triton.next_power_of_2(n)
    return power


def rows_per_program(size: int) -> int:
    """Rows of this padded size that one program holds: a kilobyte of entries, since starting programs takes time."""
    return max(1, min(64, 1024 // size))


# Entries of a row that one thread holds where the row is multiplied, and where it is copied (H100, D = 3072: half as
# many copy in 1.6 times the time, twice as many multiply in 2.1 times). Elsewhere registers hold more than the row.
ENTRIES_TO_MULTIPLY, ENTRIES_TO_COPY = 64, 128


def warps_for(size: int, entries: int = 32) -> int:
    """Warps of a program that holds one row of this padded size, with at most `entries` of them in each thread.

    As few as registers allow: warps that share a row wait for one another at every level of the tree.
    """
    return max(1, min(16, size // (32 * entries)))


@triton.jit
def tree_sum(terms, P: tl.constexpr):
    """Sum of P terms: halves are added to one another until one term is left (eq. 1)."""
    for level in tl.static_range(20):
        if P >> (level + 1) > 0:
            terms = tl.sum(tl.reshape(terms, (2, P >> (level + 1))), axis=0)
    return tl.sum(terms)


@triton.jit
def tree_sums(terms, R: tl.constexpr, P: tl.constexpr):
    """The same for each of R rows of P terms: (R,)."""
    for level in tl.static_range(20):
        if P >> (level + 1) > 0:
            terms = tl.sum(tl.reshape(terms, (R, 2, P >> (level + 1))), axis=1)
    return tl.reshape(terms, (R,))


@triton.jit
def clean(values):
    """float32 with entries below 2^-126, and -0.0, as +0.0: the first half of rule 1."""
    values = values.to(tl.float32)
    return tl.where(tl.abs(values) < SMALLEST_NORMAL, 0.0, values)


@triton.jit
def divided(values, norm):
    """float32(values / norm) as two roundings give it, where that is 0 or at least 2^-100; norm is float64.

    1 / norm is taken as the sum of two float32, off by less than 2^-47. Where the products with a little more and with
    a little less of it round to the same float32, so does the quotient. Otherwise all entries are divided in float64,
    for which a GPU has few units.
    """
    inverse = 1.0 / norm
    high = inverse.to(tl.float32)
    low = (inverse - high.to(tl.float64)).to(tl.float32)
    low = tl.where((norm > 2.0**-90) & (norm < 2.0**90), low, float("nan"))  # beyond, it has fewer bits
    more = tl.fma(values, high, values * (low + high * 2.0**-46))
    less = tl.fma(values, high, values * (low - high * 2.0**-46))
    if tl.min((more == less).to(tl.int32)) == 0:
        more = (values.to(tl.float64) / norm).to(tl.float32)
    return more


@triton.jit
def unit_row(values, norm):
    """The second half of rule 1 for one row; norm is float64."""
    quotient = divided(values, norm)
    # a quotient below 2^-126 is rounded at another bit
    if tl.max(((tl.abs(quotient) < 2.0**-100) & (quotient != 0.0)).to(tl.int32)) > 0:
        quotient = (values.to(tl.float64) / norm).to(tl.float32)
    return clean(quotient)


@triton.jit
def load_clean(rows_ptr, row, inside, feature, stride, n_features):
    """Entries (R, P) as rule 1 reads them, 0 beyond the rows and beyond D; row is int64."""
    mask = inside[:, None] & (feature < n_features)[None, :]
    return clean(tl.load(rows_ptr + row[:, None] * stride + feature[None, :], mask=mask, other=0.0))


@triton.jit
def load_unit(rows_ptr, norms_ptr, row, stride, n_features, P: tl.constexpr, HAS_NORMS: tl.constexpr):
    """One unit row, (P,) float32, zero beyond D; row is int64."""
    feature = tl.arange(0, P)
    values = clean(tl.load(rows_ptr + row * stride + feature, mask=feature < n_features, other=0.0))
    if HAS_NORMS:
        norm = tl.load(norms_ptr + row)
        if norm != 1.0:  # dividing takes time
            values = unit_row(values, norm)
    return values


@triton.jit
def divisor(squared):
    """What rule 1 divides by: the length, or 1 within the tolerance, for zero rows and for bad rows."""
    usable = (squared > 0) & (squared < float("inf"))
    near_unit = tl.abs(squared - 1.0) <= UNIT_TOLERANCE
    return tl.where(usable & (near_unit == 0), tl.sqrt(tl.where(usable, squared, 1.0)), 1.0)


@triton.jit
def rint64(values):
    """The nearest integers of float64 below 2^51, ties to even, as int64."""
    return (values + ROUNDER64).to(tl.int64, bitcast=True) - ROUNDER64_BITS


@triton.jit
def rint32(values):
    """The nearest integers of float32 below 2^22, ties to even: as float32 and as int32."""
    shifted = values + ROUNDER32
    return shifted - ROUNDER32, shifted.to(tl.int32, bitcast=True) - ROUNDER32_BITS


@triton.jit
def fixed_point(values, power):
    """q = rint(x 2^s), int64; power is 2^s in float64. The product is exact: one rounding."""
    return rint64(values.to(tl.float64) * power)


@triton.jit
def fixed_point_halves(values, power):
    """q = rint(x 2^s) of |x| < 2 as high 2^(s - 21) + low, two int32 below 2^22, for s from 22 to 44.

    All steps are in float32 and exact except the last rounding: a GPU has few units for float64.
    """
    nearest, high = rint32(values * 2.0**21)
    _, low = rint32((values - nearest * 2.0**-21) * power)
    return high, low


@triton.jit
def rounded_sums(direction):
    """u of eq. 6: int64 rounded to float64, then to float32.

    Both halves are exact in float64 and their sum rounds once. If this were written as two conversions, a compiler
    would make one of them, which gives another answer where the float64 is a tie between two float32 numbers.
    """
    high, low = (direction >> 32).to(tl.float64), (direction & 0xFFFFFFFF).to(tl.float64)
    return (high * 4294967296.0 + low).to(tl.float32)


@triton.jit
def weighted_term(q, weight):
    """What a row of this weight adds (eq. 5). Launch with enable_fp_fusion=False."""
    whole = tl.floor(weight)
    fraction = rint64((weight - whole) * q.to(tl.float64))
    return whole.to(tl.int64) * q + fraction


@triton.jit
def tile_offset(row, feature, width, TILE: tl.constexpr, CHUNK: tl.constexpr):
    """The index of entry (row, feature) in the values of a quantised matrix; row is int64.

    TILE 0: row-major. Otherwise tiles of TILE rows by 128 bytes, each in the 128-byte swizzle: chunk c of 16 bytes, or
    CHUNK entries, of row r is stored as chunk c xor (r mod 8), which is how Hopper's products read it.
    """
    if TILE > 0:
        line: tl.constexpr = 8 * CHUNK
        chunk = ((feature % line) // CHUNK) ^ (row % 8)
        start = ((row // TILE) * (width // line) + feature // line) * (TILE * line)
        return start + (row % TILE) * line + chunk * CHUNK + feature % CHUNK
    else:
        return row * width + feature

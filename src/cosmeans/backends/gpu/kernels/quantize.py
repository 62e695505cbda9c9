"""Rows as kernels read them: the narrow copy that the screen reads, and batches in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import (
    COPIED,
    UNIT_TOLERANCE,
    divisor,
    load_clean,
    padded,
    place,
    rows_at_once,
    tree_sums,
    warps,
)
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import Batch

NOT_KEPT = tl.constexpr(-1.0)
LARGEST = tl.constexpr(127)  # 8-bit code
_READ = 384  # rows: a multiple of what kernels read of tiles at once, 128 or 192
ROUNDER = tl.constexpr(1.5 * 2.0**23)  # adding and taking it away rounds a float32 below 2^22 to an integer


def _places(n_rows: int, tile: int) -> int:
    """Rows that a copy has room for: tiles are read several at once."""
    whole = _READ if tile else 1
    return -(-n_rows // whole) * whole


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy xq of consecutive rows that the screen reads: a row is close to its values times its unit.

    values     flat float16 or int8, `exact.place` says what lies where; columns beyond D are zero
    residuals  (N,) float32: ||x - unit * xq||, rounded up; -1: not kept
    units      (N,) float32
    tile       rows of a swizzled tile, 0: row-major; `Copy.empty` adds what a kernel reads behind the last one
    """

    values: Tensor
    residuals: Tensor
    units: Tensor
    tile: int

    @classmethod
    def empty(cls, n_rows: int, n_features: int, tile: int, integers: bool, device: torch.device) -> Copy:
        places = _places(n_rows, tile) * width_of(n_features, integers)
        return cls(
            torch.empty(places, dtype=torch.int8 if integers else torch.float16, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            tile,
        )

    @property
    def width(self) -> int:
        """Columns of it."""
        return len(self.values) // _places(len(self.units), self.tile)

    @property
    def n_bytes(self) -> int:
        return self.values.nbytes + self.residuals.nbytes + self.units.nbytes

    @property
    def integers(self) -> bool:
        return self.values.dtype == torch.int8


@triton.jit
def _power(exponent):
    """2^exponent in float32, |exponent| < 127."""
    return ((exponent + 127).to(tl.int32) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _near_unit(norm):
    """What brings rows of these norms to a length in [0.75, 1.5): two powers of two; and 1 / that length. All (R,).

    No entry is divided: a unit on the row does that for all of them. Powers of two in two steps, both in range.
    """
    bits = norm.to(tl.int64, bitcast=True)
    length = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    large = length >= 1.5
    exponent = ((bits >> 52) & 0x7FF).to(tl.int32) - 1023 + large.to(tl.int32)
    half = exponent // 2
    length = tl.where(large, length * 0.5, length)
    return _power(-half), _power(half - exponent), (1.0 / length).to(tl.float32)


@triton.jit
def _narrow(values, inverse, slack, n_features, INTEGERS: tl.constexpr):
    """The copies (R, P) of rows near length 1, what they lose, rounded up, and their units."""
    if INTEGERS:
        step = tl.maximum(tl.max(tl.abs(values), axis=1), 2.0**-100) / LARGEST
        code = tl.minimum(tl.maximum((values / step[:, None] + ROUNDER) - ROUNDER, -LARGEST), LARGEST)
        copied = code.to(tl.int8)
        lost = values - code * step[:, None]
        slack += 2.0**-21  # the products of code, step and inverse are rounded
        unit = inverse * step
    else:
        copied = values.to(tl.float16)
        lost = values - copied.to(tl.float32)  # exact
        unit = inverse
    # rounded up: summing D squares in float32 and the root lose less than (D + 8) 2^-22 of the length
    residual = tl.sqrt(tl.sum(lost * lost, axis=1)) * inverse * (1.0 + (n_features + 8) * 2.0**-22) + slack
    return copied, residual, unit


@triton.jit(do_not_specialize=["start", "n_rows"])
def _copy_rows(
    rows_ptr,
    norms_ptr,
    keep_ptr,
    squared_ptr,
    values_ptr,
    residuals_ptr,
    units_ptr,
    start,
    n_rows,
    stride,
    n_features,
    width,
    R: tl.constexpr,
    P: tl.constexpr,
    TILE: tl.constexpr,
    INTEGERS: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_KEEP: tl.constexpr,
    INSPECT: tl.constexpr,
):
    """Copy R rows. INSPECT: find their squared lengths, and from these what to divide by and which rows are kept."""
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    inside = row < n_rows
    feature = tl.arange(0, P)
    values = load_clean(rows_ptr, row, inside, feature, stride, n_features)
    kept = inside
    norm = tl.full((R,), 1.0, tl.float64)
    if INSPECT:
        wide = values.to(tl.float64)
        squared = tree_sums(wide * wide, R, P)
        tl.store(squared_ptr + row, squared, mask=inside)
        kept = (squared > 0) & (squared < float("inf"))
        if tl.min((tl.abs(squared - 1.0) <= UNIT_TOLERANCE).to(tl.int32)) == 0:  # roots take time
            norm = divisor(squared)
    if HAS_NORMS:
        norm = tl.load(norms_ptr + row, mask=inside, other=1.0)
    if HAS_KEEP:
        kept = tl.load(keep_ptr + row, mask=inside, other=0) != 0
    inverse, slack = tl.full((R,), 1.0, tl.float32), tl.zeros((R,), tl.float32)
    scaled = 0
    if INSPECT or HAS_NORMS:
        scaled = tl.max((norm != 1.0).to(tl.int32))
    if scaled > 0:
        once, again, inverse = _near_unit(norm)
        values = values * once[:, None] * again[:, None]
        # x / n and 1 / n are rounded to float32, which moves the row by less than 2^-22
        slack = tl.where(norm != 1.0, 2.0**-22, 0.0)
    copied, residual, unit = _narrow(values, inverse, slack, n_features, INTEGERS)
    target = values_ptr + place((start + row)[:, None], feature[None, :], width, TILE, 16 if INTEGERS else 8)
    if TILE > 0:  # 16 bytes stay together, which the compiler can't see
        together: tl.constexpr = 16 if INTEGERS else 8
        target = tl.max_contiguous(tl.multiple_of(target, (1, 16)), (1, together))
    tl.store(target, copied, mask=inside[:, None] & (feature < width)[None, :])
    tl.store(residuals_ptr + start + row, tl.where(kept, residual, NOT_KEPT), mask=inside)
    tl.store(units_ptr + start + row, unit, mask=inside)


def copy_rows(batch: Batch, into: Copy, start: int) -> None:
    """Write what the screen reads of the batch's rows, from place `start` of the copy on."""
    write_copy(dense(batch.rows), into, start, norms=batch.norms, keep=batch.keep)


def write_copy(
    rows: Tensor,
    into: Copy,
    start: int,
    *,
    norms: Tensor | None = None,
    keep: Tensor | None = None,
    squared: Tensor | None = None,
) -> None:
    n, d = rows.shape
    width = width_of(d, into.integers)
    size = padded(max(d, width))
    at_once = rows_at_once(size)
    facts = (rows if fact is None else fact for fact in (norms, keep, squared))
    launch(
        _copy_rows,
        triton.cdiv(n, at_once),
        *(rows, *facts, into.values, into.residuals, into.units, start, n, rows.stride(0), d, width),
        R=at_once,
        P=size,
        TILE=into.tile,
        INTEGERS=into.integers,
        HAS_NORMS=norms is not None,
        HAS_KEEP=keep is not None,
        INSPECT=squared is not None,
        num_warps=warps(size, COPIED),
    )


def width_of(n_features: int, integers: bool = False) -> int:
    """Columns of a copy: D up to the next multiple of 64, or of 128 codes: what one step of products takes."""
    step = 128 if integers else 64
    return -(-n_features // step) * step


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of `size` rows."""
    if size >= len(batch):
        yield batch
        return
    for first in range(0, len(batch), size):
        span = slice(first, first + size)
        norms, keep, weights = (None if t is None else t[span] for t in (batch.norms, batch.keep, batch.weights))
        yield Batch(batch.start + first, batch.rows[span], norms, keep, weights)


def dense(rows: Tensor) -> Tensor:
    """Rows whose entries lie side by side, as kernels read them."""
    return rows if rows.stride(1) == 1 else rows.contiguous()


def dense_batch(batch: Batch) -> Batch:
    if batch.rows.stride(1) == 1:
        return batch
    return Batch(batch.start, batch.rows.contiguous(), batch.norms, batch.keep, batch.weights)

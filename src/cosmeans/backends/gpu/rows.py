"""Rows as kernels read them: lengths, the narrow copy that the screen reads, and batches in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.canonical import clean, divisor, padded, place, tree_sum, warps
from cosmeans.data import Batch

NOT_KEPT = tl.constexpr(-1.0)
LARGEST = tl.constexpr(127)  # 8-bit code
ROUNDER = tl.constexpr(1.5 * 2.0**23)  # adding and taking it away rounds a float32 below 2^22 to an integer


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy xq of consecutive rows that the screen reads: a row is close to its values times its unit.

    values     flat float16 or int8, `canonical.place` says what lies where; columns beyond D are zero
    residuals  (N,) float32: ||x - unit * xq||, rounded up; -1: not kept
    units      (N,) float32
    tile       rows of a swizzled tile, 0: row-major
    """

    values: Tensor
    residuals: Tensor
    units: Tensor
    tile: int

    @classmethod
    def empty(cls, n_rows: int, n_features: int, tile: int, integers: bool, device: torch.device) -> Copy:
        places = -(-n_rows // max(1, tile)) * max(1, tile) * width_of(n_features, integers)
        return cls(
            torch.empty(places, dtype=torch.int8 if integers else torch.float16, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            tile,
        )

    @property
    def width(self) -> int:
        """Columns of it."""
        return len(self.values) // (-(-len(self.units) // max(1, self.tile)) * max(1, self.tile))

    @property
    def integers(self) -> bool:
        return self.values.dtype == torch.int8


@triton.jit
def _squared_norms(rows_ptr, out_ptr, stride, n_features, P: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    values = clean(tl.load(rows_ptr + row * stride + feature, mask=feature < n_features, other=0.0))
    wide = values.to(tl.float64)
    tl.store(out_ptr + row, tree_sum(wide * wide, P))


def squared_norms(rows: Tensor) -> Tensor:
    """`sphere.squared_norms`: (B,) float64."""
    out = torch.empty(rows.shape[0], dtype=torch.float64, device=rows.device)
    size = padded(rows.shape[1])
    if len(out):
        _squared_norms[(len(out),)](rows, out, rows.stride(0), rows.shape[1], P=size, num_warps=warps(size))
    return out


@triton.jit(do_not_specialize=["n_rows"])
def _divisors(squared_ptr, norms_ptr, keep_ptr, n_rows):
    row = tl.program_id(0) * 1024 + tl.arange(0, 1024)
    squared = tl.load(squared_ptr + row, mask=row < n_rows, other=1.0)
    tl.store(norms_ptr + row, divisor(squared), mask=row < n_rows)
    tl.store(keep_ptr + row, (squared > 0) & (squared < float("inf")), mask=row < n_rows)


def divisors(squared: Tensor) -> tuple[Tensor, Tensor]:
    """`sphere.divisors`, and which rows are neither zero nor bad; in one kernel, since the host has others to feed."""
    norms, keep = torch.empty_like(squared), torch.empty(len(squared), dtype=torch.bool, device=squared.device)
    _divisors[(triton.cdiv(len(squared), 1024),)](squared, norms, keep, len(squared))
    return norms, keep


@triton.jit
def _power(exponent):
    """2^exponent in float32, |exponent| < 127."""
    return ((exponent + 127).to(tl.int32) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _near_unit(values, norm):
    """values times the power of two that brings a row of this norm to a length in [0.75, 1.5), and 1 / that length.

    No entry is divided: a unit on the row does that for all of them. Powers of two in two steps, both in range.
    """
    bits = norm.to(tl.int64, bitcast=True)
    length = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    large = length >= 1.5
    exponent = ((bits >> 52) & 0x7FF).to(tl.int32) - 1023 + large.to(tl.int32)
    half = exponent // 2
    length = tl.where(large, length * 0.5, length)
    return values * _power(-half) * _power(half - exponent), (1.0 / length).to(tl.float32)


@triton.jit(do_not_specialize=["start"])
def _copy_rows(
    rows_ptr,
    norms_ptr,
    keep_ptr,
    values_ptr,
    residuals_ptr,
    units_ptr,
    start,
    stride,
    n_features,
    width,
    P: tl.constexpr,
    TILE: tl.constexpr,
    INTEGERS: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_KEEP: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    values = clean(tl.load(rows_ptr + row * stride + feature, mask=feature < n_features, other=0.0))
    inverse, slack = 1.0, 0.0
    if HAS_NORMS:
        # x / n and 1 / n are rounded to float32, which moves the row by less than 2^-22
        values, inverse = _near_unit(values, tl.load(norms_ptr + row))
        slack = 2.0**-22
    target = values_ptr + place(start + row, feature, width, TILE, 16 if INTEGERS else 8)
    if INTEGERS:
        step = tl.maximum(tl.max(tl.abs(values)), 2.0**-100) / LARGEST
        code = tl.minimum(tl.maximum((values / step + ROUNDER) - ROUNDER, -LARGEST), LARGEST)
        tl.store(target, code.to(tl.int8), mask=feature < width)
        lost = values - code * step
        slack += 2.0**-21  # the products of code, step and inverse are rounded
        inverse_unit = inverse * step
    else:
        half = values.to(tl.float16)
        tl.store(target, half, mask=feature < width)
        lost = values - half.to(tl.float32)  # exact
        inverse_unit = inverse
    # rounded up: summing D squares in float32 and the root lose less than (D + 8) 2^-22 of the length
    residual = tl.sqrt(tl.sum(lost * lost)) * inverse * (1.0 + (n_features + 8) * 2.0**-22) + slack
    if HAS_KEEP:
        residual = tl.where(tl.load(keep_ptr + row) != 0, residual, NOT_KEPT)
    tl.store(residuals_ptr + start + row, residual)
    tl.store(units_ptr + start + row, inverse_unit)


def copy_rows(batch: Batch, into: Copy, start: int) -> None:
    """Write what the screen reads of the batch's rows, from place `start` of the copy on."""
    rows, d = dense(batch.rows), batch.rows.shape[1]
    width = width_of(d, into.integers)
    size = padded(max(d, width))
    _copy_rows[(len(rows),)](
        *(rows, rows if batch.norms is None else batch.norms, rows if batch.keep is None else batch.keep),
        *(into.values, into.residuals, into.units, start, rows.stride(0), d, width),
        P=size,
        TILE=into.tile,
        INTEGERS=into.integers,
        HAS_NORMS=batch.norms is not None,
        HAS_KEEP=batch.keep is not None,
        num_warps=warps(size),
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

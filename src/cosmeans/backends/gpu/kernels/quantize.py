"""Quantised rows: the float16 or 8-bit copy that the screen reads, with what each row loses by it.

Also batches as kernels read them: with consecutive entries, and in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import (
    ENTRIES_TO_COPY,
    UNIT_TOLERANCE,
    divisor,
    load_clean,
    padded,
    rint32,
    rows_per_program,
    tile_offset,
    tree_sums,
    warps_for,
)
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import Batch

NOT_KEPT = tl.constexpr(-1.0)
LARGEST_CODE = tl.constexpr(127)
_ROWS_READ = 384  # a multiple of the rows that a kernel reads in tiles at once, 128 or 192


def allocated(n: int, step: int) -> int:
    """Rows, or columns, that a copy of n has memory for: so many are read at once."""
    return -(-n // max(1, step)) * max(1, step)


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """The copy xq of consecutive rows that the screen reads: a row is close to its values times its scale.

    values     flat float16 or int8, indexed by `exact.tile_offset`; columns beyond D are zero
    residuals  (N,) float32: ||x - scale * xq||, rounded up; -1: not kept
    scales     (N,) float32
    tile       rows of a swizzled tile, 0: row-major; `empty` allocates whole groups of tiles, as kernels read them
    """

    values: Tensor
    residuals: Tensor
    scales: Tensor
    tile: int

    @classmethod
    def empty(
        cls, n_rows: int, n_features: int, tile: int, device: torch.device, *, integers: bool = False
    ) -> QuantizedRows:
        n_values = allocated(n_rows, _ROWS_READ if tile else 1) * width_of(n_features, integers)
        return cls(
            torch.empty(n_values, dtype=torch.int8 if integers else torch.float16, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
            tile,
        )

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.values) // allocated(len(self.scales), _ROWS_READ if self.tile else 1)

    @property
    def n_bytes(self) -> int:
        return self.values.nbytes + self.residuals.nbytes + self.scales.nbytes

    @property
    def integers(self) -> bool:
        return self.values.dtype == torch.int8


@triton.jit
def _power(exponent):
    """2^exponent in float32, |exponent| < 127."""
    return ((exponent + 127).to(tl.int32) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _near_unit(norm):
    """Two powers of two that bring rows of these norms to a length in [0.75, 1.5), and 1 / that length. All (R,).

    No entry is divided: the unit of the row stands for the division. One power of two might be out of range.
    """
    bits = norm.to(tl.int64, bitcast=True)
    length = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    large = length >= 1.5
    exponent = ((bits >> 52) & 0x7FF).to(tl.int32) - 1023 + large.to(tl.int32)
    half = exponent // 2
    length = tl.where(large, length * 0.5, length)
    return _power(-half), _power(half - exponent), (1.0 / length).to(tl.float32)


@triton.jit
def _quantized(values, inverse, slack, n_features, INTEGERS: tl.constexpr):
    """Values (R, P) of rows near length 1, what they lose, rounded up, and their units."""
    if INTEGERS:
        step = tl.maximum(tl.max(tl.abs(values), axis=1), 2.0**-100) / LARGEST_CODE
        nearest, _ = rint32(values / step[:, None])
        code = tl.minimum(tl.maximum(nearest, -LARGEST_CODE), LARGEST_CODE)
        quantized = code.to(tl.int8)
        lost = values - code * step[:, None]
        slack += 2.0**-21  # the products of code, step and inverse are rounded
        unit = inverse * step
    else:
        quantized = values.to(tl.float16)
        lost = values - quantized.to(tl.float32)  # exact
        unit = inverse
    # rounded up: summing D squares in float32 and the root lose less than (D + 8) 2^-22 of the length
    residual = tl.sqrt(tl.sum(lost * lost, axis=1)) * inverse * (1.0 + (n_features + 8) * 2.0**-22) + slack
    return quantized, residual, unit


@triton.jit(do_not_specialize=["start", "n_rows"])
def _quantize_rows(
    rows_ptr,
    norms_ptr,
    keep_ptr,
    squared_ptr,
    values_ptr,
    residuals_ptr,
    scales_ptr,
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
    """Quantise R rows. INSPECT: find their squared norms, and from these the divisors and which rows are kept."""
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
    n_scaled = 0
    if INSPECT or HAS_NORMS:
        n_scaled = tl.max((norm != 1.0).to(tl.int32))
    if n_scaled > 0:
        once, again, inverse = _near_unit(norm)
        values = values * once[:, None] * again[:, None]
        # x / n and 1 / n are rounded to float32, which moves the row by less than 2^-22
        slack = tl.where(norm != 1.0, 2.0**-22, 0.0)
    quantized, residual, unit = _quantized(values, inverse, slack, n_features, INTEGERS)
    target = values_ptr + tile_offset((start + row)[:, None], feature[None, :], width, TILE, 16 if INTEGERS else 8)
    if TILE > 0:  # chunks of 16 bytes are contiguous, which the compiler can't see
        chunk: tl.constexpr = 16 if INTEGERS else 8
        target = tl.max_contiguous(tl.multiple_of(target, (1, 16)), (1, chunk))
    tl.store(target, quantized, mask=inside[:, None] & (feature < width)[None, :])
    tl.store(residuals_ptr + start + row, tl.where(kept, residual, NOT_KEPT), mask=inside)
    tl.store(scales_ptr + start + row, unit, mask=inside)


def quantize_rows(batch: Batch, into: QuantizedRows, start: int) -> None:
    """Quantise the rows of the batch, from row `start` of the copy on."""
    write_quantized(dense(batch.rows), into, start, norms=batch.norms, keep=batch.keep)


def write_quantized(
    rows: Tensor,
    into: QuantizedRows,
    start: int,
    *,
    norms: Tensor | None = None,
    keep: Tensor | None = None,
    squared: Tensor | None = None,
) -> None:
    """Start the kernel: with `norms` and `keep` of the rows where they are known, or with `squared` to find them."""
    n, d = rows.shape
    width = width_of(d, into.integers)
    size = padded(max(d, width))
    n_rows = rows_per_program(size)
    facts = (rows if norms is None else norms, rows if keep is None else keep, rows if squared is None else squared)
    launch(
        _quantize_rows,
        triton.cdiv(n, n_rows),
        *(rows, *facts, into.values, into.residuals, into.scales, start, n, rows.stride(0), d, width),
        R=n_rows,
        P=size,
        TILE=into.tile,
        INTEGERS=into.integers,
        HAS_NORMS=norms is not None,
        HAS_KEEP=keep is not None,
        INSPECT=squared is not None,
        num_warps=warps_for(size, ENTRIES_TO_COPY),
    )


def width_of(n_features: int, integers: bool = False) -> int:
    """Columns of a copy: D rounded up to a multiple of 64, or of 128 codes, which one step of products takes."""
    step = 128 if integers else 64
    return allocated(n_features, step)


def dense(rows: Tensor) -> Tensor:
    """The rows with consecutive entries, as kernels read them; copied if they have others."""
    return rows if rows.stride(1) == 1 else rows.contiguous()


def dense_batch(batch: Batch) -> Batch:
    """The batch with `dense` rows."""
    if batch.rows.stride(1) == 1:
        return batch
    return Batch(batch.start, batch.rows.contiguous(), batch.norms, batch.keep, batch.weights)

"""Rows as kernels read them: lengths, the fp16 copy that the screen reads, and batches in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.canonical import clean, load_unit, padded, place, tree_sum, warps
from cosmeans.data import Batch

NOT_KEPT = tl.constexpr(-1.0)
ROW_TILE = tl.constexpr(128)  # rows of a tile in the swizzled copy


@dataclass(frozen=True, slots=True)
class Halves:
    """The fp16 copy of consecutive rows: flat values, and ||x - xq|| of each row (-1: not kept)."""

    values: Tensor
    residuals: Tensor

    @classmethod
    def empty(cls, n_rows: int, n_features: int, device: torch.device) -> Halves:
        places = -(-n_rows // ROW_TILE.value) * ROW_TILE.value * width_of(n_features)
        return cls(
            torch.empty(places, dtype=torch.float16, device=device),
            torch.empty(n_rows, dtype=torch.float32, device=device),
        )


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


@triton.jit(do_not_specialize=["start"])
def _quantise_rows(
    rows_ptr,
    norms_ptr,
    keep_ptr,
    halves_ptr,
    residuals_ptr,
    start,
    stride,
    n_features,
    width,
    P: tl.constexpr,
    SWIZZLED: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_KEEP: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    values = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS)
    half = values.to(tl.float16)
    target = halves_ptr + place(start + row, feature, width, ROW_TILE, SWIZZLED)
    tl.store(target, half, mask=feature < width)
    lost = values - half.to(tl.float32)  # exact
    # rounded up: summing D squares in float32 and the root lose less than (D + 8) 2^-22 of the length
    residual = tl.sqrt(tl.sum(lost * lost)) * (1.0 + (n_features + 8) * 2.0**-22)
    if HAS_KEEP:
        residual = tl.where(tl.load(keep_ptr + row) != 0, residual, NOT_KEPT)
    tl.store(residuals_ptr + start + row, residual)


def quantise_rows(
    rows: Tensor,
    norms: Tensor | None,
    keep: Tensor | None,
    start: int,
    halves: Tensor,
    residuals: Tensor,
    swizzled: bool,
) -> None:
    """Write the fp16 copy of unit rows from place `start` on, and ||x - xq|| of each (-1: not kept).

    halves     flat float16, `place` says what lies where; columns beyond D are zero
    residuals  (N,) float32, rounded up
    """
    size = padded(max(rows.shape[1], width_of(rows.shape[1])))
    _quantise_rows[(len(rows),)](
        rows,
        rows if norms is None else norms,
        rows if keep is None else keep,
        halves,
        residuals,
        start,
        rows.stride(0),
        rows.shape[1],
        width_of(rows.shape[1]),
        P=size,
        SWIZZLED=swizzled,
        HAS_NORMS=norms is not None,
        HAS_KEEP=keep is not None,
        num_warps=warps(size),
    )


def width_of(n_features: int) -> int:
    """Columns of an fp16 copy: D up to the next multiple of 64, the depth of one product step."""
    return -(-n_features // 64) * 64


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

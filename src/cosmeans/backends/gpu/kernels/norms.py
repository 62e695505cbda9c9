"""Squared lengths of rows, and what they mean, in one kernel and one question to the device. Meaning: `sphere`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import COPIED, divisor, load_clean, padded, rows_at_once, tree_sums, warps
from cosmeans.backends.gpu.kernels.launch import launch, read_beside
from cosmeans.backends.gpu.kernels.quantize import Copy, dense, write_copy
from cosmeans.sphere import Lengths

_BLOCK = tl.constexpr(1024)


@triton.jit(do_not_specialize=["n_rows"])
def _squared_norms(rows_ptr, out_ptr, n_rows, stride, n_features, R: tl.constexpr, P: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    inside = row < n_rows
    wide = load_clean(rows_ptr, row, inside, tl.arange(0, P), stride, n_features).to(tl.float64)
    tl.store(out_ptr + row, tree_sums(wide * wide, R, P), mask=inside)


def squared_norms(rows: Tensor) -> Tensor:
    """`sphere.squared_norms`: (B,) float64."""
    out = torch.empty(rows.shape[0], dtype=torch.float64, device=rows.device)
    size = padded(rows.shape[1])
    at_once = rows_at_once(size)
    if len(out):
        launch(
            _squared_norms,
            triton.cdiv(len(out), at_once),
            *(rows, out, len(out), rows.stride(0), rows.shape[1]),
            R=at_once,
            P=size,
            num_warps=warps(size, COPIED),
        )
    return out


def inspect_rows(rows: Tensor, squared: Tensor, into: Copy, start: int) -> None:
    """`squared_norms` written to `squared` (B,) float64, and the copy of the rows that it makes of them, in one pass.

    The copy is what `copy_rows` makes with `sphere.lengths(squared)`; rows that aren't usable are not kept.
    """
    write_copy(dense(rows), into, start, squared=squared)


@triton.jit(do_not_specialize=["n_rows"])
def _lengths(squared_ptr, divisors_ptr, found_ptr, n_rows):
    """found: whether a divisor is not 1, and whether a row is unusable."""
    row = tl.program_id(0).to(tl.int64) * _BLOCK + tl.arange(0, _BLOCK)
    inside = row < n_rows
    squared = tl.load(squared_ptr + row, mask=inside, other=1.0)
    by = divisor(squared)
    tl.store(divisors_ptr + row, by, mask=inside)
    if tl.max((by != 1.0).to(tl.int32)) > 0:
        tl.store(found_ptr, 1)
    usable = (squared > 0) & (squared < float("inf"))
    if tl.min(usable.to(tl.int32)) == 0:
        tl.store(found_ptr + 1, 1)


def lengths(squared: Tensor) -> Lengths:
    return Queued(squared).read()


def start_lengths(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Divisors (B,) float64, and (2,) int32: whether one is not 1, and whether a row is unusable."""
    divisors = torch.empty(squared.shape, dtype=squared.dtype, device=squared.device)
    found = torch.zeros(2, dtype=torch.int32, device=squared.device)
    if len(squared):
        launch(_lengths, triton.cdiv(len(squared), _BLOCK.value), squared, divisors, found, len(squared), num_warps=4)
    return divisors, found


class Queued:
    """What squared lengths mean, for the host to read: work queued behind it need not be done then.

    divisors (B,) float64 and scaled int32, not 0 if one of them is not 1: there before that
    """

    def __init__(self, squared: Tensor) -> None:
        self._squared = squared
        self.divisors, self.scaled = start_lengths(squared)
        self._found = read_beside(self.scaled)

    def is_of(self, squared: Tensor) -> bool:
        """Whether this is about these squared lengths."""
        own = self._squared
        return squared.data_ptr() == own.data_ptr() and squared.shape == own.shape

    def read(self) -> Lengths:
        scaled, unusable = self._found()
        return Lengths(self.divisors if scaled else None, not unusable)

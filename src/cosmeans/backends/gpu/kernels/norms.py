"""Squared norms of rows, and what they mean: divisors, and whether every row is usable.

Meaning: `sphere.squared_norms`, `sphere.lengths`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import (
    ENTRIES_TO_COPY,
    divisor,
    load_clean,
    padded,
    rows_per_program,
    tree_sums,
    warps_for,
)
from cosmeans.backends.gpu.kernels.launch import launch, read_on_side_stream
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, dense, write_quantized
from cosmeans.sphere import Lengths

_BLOCK = tl.constexpr(1024)  # rows of a program


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
    n_rows = rows_per_program(size)
    if len(out):
        launch(
            _squared_norms,
            triton.cdiv(len(out), n_rows),
            *(rows, out, len(out), rows.stride(0), rows.shape[1]),
            R=n_rows,
            P=size,
            num_warps=warps_for(size, ENTRIES_TO_COPY),
        )
    return out


def inspect_rows(rows: Tensor, squared: Tensor, into: QuantizedRows, start: int) -> None:
    """Write squared norms to `squared` (B,) float64 and quantise the rows, reading them once.

    `into` is filled from row `start` on, as by `quantize_rows` with `sphere.lengths(squared)`; rows that are not
    usable are not kept.
    """
    write_quantized(dense(rows), into, start, squared=squared)


@triton.jit(do_not_specialize=["n_rows"])
def _divisors(squared_ptr, divisors_ptr, found_ptr, n_rows):
    """Divisors, and two flags in `found`: whether a divisor is not 1, and whether a row is not usable."""
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
    """What the squared norms (B,) float64 mean; waits for the device."""
    return PendingLengths(squared).read()


def queue_lengths(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Divisors (B,) float64, and flags (2,) int32: whether a divisor is not 1, and whether a row is not usable."""
    divisors = torch.empty(squared.shape, dtype=squared.dtype, device=squared.device)
    found = torch.zeros(2, dtype=torch.int32, device=squared.device)
    if len(squared):
        launch(_divisors, triton.cdiv(len(squared), _BLOCK.value), squared, divisors, found, len(squared), num_warps=4)
    return divisors, found


class PendingLengths:
    """What squared norms mean, on its way to the host: reading it does not wait for work that is queued later.

    divisors  (B,) float64
    scaled    (2,) int32 on the device, the first not 0 if a divisor is not 1
    """

    def __init__(self, squared: Tensor) -> None:
        self.divisors, self.scaled = queue_lengths(squared)
        self._found = read_on_side_stream(self.scaled)

    def read(self) -> Lengths:
        """Wait for the flags."""
        scaled, unusable = self._found()
        return Lengths(self.divisors if scaled else None, not unusable)

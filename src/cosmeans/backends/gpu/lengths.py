"""What the squared lengths of rows mean, in one kernel and one question to the device. Meaning: `sphere.lengths`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.canonical import divisor
from cosmeans.backends.gpu.kernel import Kernel
from cosmeans.sphere import Lengths

_BLOCK = tl.constexpr(1024)


@Kernel
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


def start_lengths(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Divisors (B,) float64, and (2,) int32: whether one is not 1, and whether a row is unusable."""
    divisors = torch.empty(squared.shape, dtype=squared.dtype, device=squared.device)
    found = torch.zeros(2, dtype=torch.int32, device=squared.device)
    if len(squared):
        _lengths[(triton.cdiv(len(squared), _BLOCK.value),)](squared, divisors, found, len(squared), num_warps=4)
    return divisors, found


def lengths(squared: Tensor) -> Lengths:
    divisors, found = start_lengths(squared)
    scaled, unusable = found.tolist()
    return Lengths(divisors if scaled else None, not unusable)

"""Exact sums of the rows that changed cluster: integers, so atomics in any order give the same bits.

Meaning: `backends/reference.py`, `ReferenceBackend.accumulate`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.canonical import clean, fixed_point, load_unit, padded, term, unit, warps
from cosmeans.data import Batch, ClusterSums

_BLOCK = tl.constexpr(1024)
_RUN = tl.constexpr(16)  # sorted rows added up together
_RUNS = tl.constexpr(16)  # such blocks in one program
_SLAB = 256  # features of one program


class MoveSpace:
    """Memory for the list of changed rows of at most `capacity` rows."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.rows = torch.empty(capacity, dtype=torch.int32, device=device)
        self.count = torch.zeros(1, dtype=torch.int32, device=device)


@triton.jit(do_not_specialize=["n_rows"])
def _changes(before_ptr, after_ptr, list_ptr, list_count_ptr, count_ptr, n_rows):
    """List the rows whose label changed, and move them from count to count."""
    row = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    inside = row < n_rows
    before = tl.load(before_ptr + row, mask=inside, other=-1)
    after = tl.load(after_ptr + row, mask=inside, other=-1)
    changed = inside & (before != after)
    number = changed.to(tl.int32)
    total = tl.sum(number)
    if total > 0:
        at = tl.atomic_add(list_count_ptr, total) + tl.cumsum(number, axis=0) - 1
        tl.store(list_ptr + at, row, mask=changed)
        one = tl.full((_BLOCK,), 1, tl.int64)
        tl.atomic_add(count_ptr + after, one, mask=changed & (after >= 0), sem="relaxed")
        tl.atomic_add(count_ptr + before, -one, mask=changed & (before >= 0), sem="relaxed")


@triton.jit
def _move(
    rows_ptr,
    norms_ptr,
    weights_ptr,
    before_ptr,
    after_ptr,
    list_ptr,
    list_count_ptr,
    direction_ptr,
    stride,
    n_features,
    power,
    P: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ADD: tl.constexpr,
):
    """Take each listed row from the sum of its cluster before; with ADD put it into that of its new one."""
    feature = tl.arange(0, P)
    mask = feature < n_features
    for item in range(tl.program_id(0), tl.load(list_count_ptr), tl.num_programs(0)):
        row = tl.load(list_ptr + item).to(tl.int64)
        before = tl.load(before_ptr + row).to(tl.int64)
        after = tl.load(after_ptr + row).to(tl.int64)
        if ADD or before >= 0:
            values = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS)
            q = fixed_point(values, power)
            if WEIGHTED:
                q = term(q, tl.load(weights_ptr + row))
            if before >= 0:
                tl.atomic_add(direction_ptr + before * n_features + feature, -q, mask=mask, sem="relaxed")
            if ADD and after >= 0:
                tl.atomic_add(direction_ptr + after * n_features + feature, q, mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["n_rows"])
def _add_sorted(
    rows_ptr,
    norms_ptr,
    weights_ptr,
    order_ptr,
    before_ptr,
    after_ptr,
    direction_ptr,
    n_rows,
    stride,
    n_features,
    power,
    SLAB: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """Add changed rows, visited in the order of their labels: runs of one label meet in registers first."""
    feature = tl.program_id(1) * SLAB + tl.arange(0, SLAB)
    mask = feature < n_features
    run = tl.zeros((SLAB,), tl.int64)
    label = tl.full((), -1, tl.int64)
    first = tl.program_id(0).to(tl.int64) * (_RUN * _RUNS)
    for block in range(0, _RUNS):
        at = first + block * _RUN + tl.arange(0, _RUN)
        inside = at < n_rows
        row = tl.load(order_ptr + at, mask=inside, other=0).to(tl.int64)
        after = tl.load(after_ptr + row, mask=inside, other=-1).to(tl.int64)
        moves = inside & (after >= 0) & (after != tl.load(before_ptr + row, mask=inside, other=-1).to(tl.int64))
        address = rows_ptr + row[:, None] * stride + feature[None, :]
        values = clean(tl.load(address, mask=moves[:, None] & mask[None, :], other=0.0))
        if HAS_NORMS:
            values = unit(values, tl.load(norms_ptr + row)[:, None])
        q = fixed_point(values, power)
        if WEIGHTED:
            q = term(q, tl.load(weights_ptr + row)[:, None])
        lowest = tl.min(tl.where(inside, after, 0x7FFFFFFF))
        highest = tl.max(after)
        if highest != label or lowest != label:
            if label >= 0:
                tl.atomic_add(direction_ptr + label * n_features + feature, run, mask=mask, sem="relaxed")
            run = tl.zeros((SLAB,), tl.int64)
            label = tl.where(lowest == highest, highest, -1)
        if lowest == highest:
            run += tl.sum(q, axis=0)
        else:
            target = direction_ptr + after[:, None] * n_features + feature[None, :]
            tl.atomic_add(target, q, mask=moves[:, None] & mask[None, :], sem="relaxed")
    if label >= 0:
        tl.atomic_add(direction_ptr + label * n_features + feature, run, mask=mask, sem="relaxed")


def accumulate(
    batch: Batch, before: Tensor, after: Tensor, into: ClusterSums, space: MoveSpace, programs: int, everything: bool
) -> None:
    """Move the changed rows from sum to sum; `space.count` then says how many those were.

    everything  True: most rows changed, so visit them in the order of their labels (a sort, then one sweep)
    """
    rows, d = batch.rows, batch.rows.shape[1]
    norms = rows if batch.norms is None else batch.norms
    weights = rows if batch.weights is None else batch.weights
    flags = {"HAS_NORMS": batch.norms is not None, "WEIGHTED": batch.weights is not None}
    power = 2.0**into.scale
    space.count.zero_()
    _changes[(triton.cdiv(len(batch), _BLOCK.value),)](
        before, after, space.rows, space.count, into.count, len(batch), num_warps=4
    )
    size = padded(d)
    _move[(16 * programs,)](
        *(rows, norms, weights, before, after, space.rows, space.count, into.direction, rows.stride(0), d, power),
        P=size,
        ADD=not everything,
        num_warps=warps(size),
        # contracting the product of a fractional weight into the addition would round once instead of twice
        enable_fp_fusion=batch.weights is None,
        **flags,
    )
    if everything:
        order = torch.sort(_narrow(after, into.count.shape[0])).indices
        grid = (triton.cdiv(len(batch), _RUN.value * _RUNS.value), triton.cdiv(d, _SLAB))
        _add_sorted[grid](
            *(rows, norms, weights, order, before, after, into.direction, len(batch), rows.stride(0), d, power),
            SLAB=_SLAB,
            num_warps=4,
            enable_fp_fusion=batch.weights is None,
            **flags,
        )


def _narrow(labels: Tensor, n_clusters: int) -> Tensor:
    """Half the digits to sort by, where they suffice."""
    return labels.to(torch.int16) if n_clusters < 1 << 15 else labels

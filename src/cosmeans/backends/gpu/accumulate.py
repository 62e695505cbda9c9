"""Exact sums of the rows that changed cluster: integers, so any order of adding gives the same bits.

Every changed row makes an event for the cluster it leaves and one for the cluster it joins. Events are sorted by
cluster with counts and cursors, so that most additions meet in registers: one atomic addition per entry and
event would be bound by the memory system's rate of 64-bit atomics (docs/gpu.md, section 4).
Meaning: `backends/reference.py`, `ReferenceBackend.accumulate`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.canonical import clean, divided, fixed_point, term
from cosmeans.backends.gpu.kernel import Kernel
from cosmeans.data import Batch, ClusterSums

_BLOCK = tl.constexpr(1024)
_RUN = tl.constexpr(8)  # sorted events added up together
_RUNS = tl.constexpr(16)  # such blocks visited in turn by one program
_SLAB = tl.constexpr(128)  # features of one program


class MoveSpace:
    """Memory for the events of a batch of `n_rows` rows."""

    def __init__(self, n_rows: int, n_clusters: int, device: torch.device) -> None:
        def empty(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.int32, device=device)

        self.rows = empty(n_rows)
        self.events, self.clusters = empty(2 * n_rows), empty(2 * n_rows)
        self.cursors = empty(n_clusters)
        # one piece, to be zeroed at once: changed rows, events, rows that joined and left each cluster
        self.numbers = empty(2 + 2 * n_clusters)
        self.n_changed, self.n_events = self.numbers[0:1], self.numbers[1:2]
        self.joined, self.left = self.numbers[2 : 2 + n_clusters], self.numbers[2 + n_clusters :]


@Kernel
@triton.jit(do_not_specialize=["n_rows"])
def _changes(before_ptr, after_ptr, list_ptr, n_changed_ptr, joined_ptr, left_ptr, n_rows):
    """List the rows whose label changed, and count who joins and leaves."""
    row = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    inside = row < n_rows
    before = tl.load(before_ptr + row, mask=inside, other=-1)
    after = tl.load(after_ptr + row, mask=inside, other=-1)
    changed = inside & (before != after)
    number = changed.to(tl.int32)
    total = tl.sum(number)
    if total > 0:
        at = tl.atomic_add(n_changed_ptr, total) + tl.cumsum(number, axis=0) - 1
        tl.store(list_ptr + at, row, mask=changed)
        one = tl.full((_BLOCK,), 1, tl.int32)
        tl.atomic_add(joined_ptr + after, one, mask=changed & (after >= 0), sem="relaxed")
        tl.atomic_add(left_ptr + before, one, mask=changed & (before >= 0), sem="relaxed")


@Kernel
@triton.jit(do_not_specialize=["n_clusters"])
def _offsets(joined_ptr, left_ptr, count_ptr, cursors_ptr, n_events_ptr, n_clusters):
    """One program: where the events of each cluster begin, and the new counts."""
    total = 0
    for start in range(0, n_clusters, _BLOCK):
        k = start + tl.arange(0, _BLOCK)
        inside = k < n_clusters
        joined = tl.load(joined_ptr + k, mask=inside, other=0)
        left = tl.load(left_ptr + k, mask=inside, other=0)
        count = tl.load(count_ptr + k, mask=inside, other=0)
        tl.store(count_ptr + k, count + joined.to(tl.int64) - left.to(tl.int64), mask=inside)
        events = joined + left
        tl.store(cursors_ptr + k, total + tl.cumsum(events, axis=0) - events, mask=inside)
        total += tl.sum(events)
    tl.store(n_events_ptr, total)


@Kernel
@triton.jit
def _sort_events(before_ptr, after_ptr, list_ptr, n_changed_ptr, cursors_ptr, events_ptr, clusters_ptr):
    """Put both events of each changed row where its clusters' events go: row * 2, plus 1 for leaving."""
    n_changed = tl.load(n_changed_ptr)
    for block in range(tl.program_id(0), tl.cdiv(n_changed, _BLOCK), tl.num_programs(0)):
        item = block * _BLOCK + tl.arange(0, _BLOCK)
        inside = item < n_changed
        row = tl.load(list_ptr + item, mask=inside, other=0)
        one = tl.full((_BLOCK,), 1, tl.int32)
        after = tl.load(after_ptr + row, mask=inside, other=-1)
        joins = inside & (after >= 0)
        at = tl.atomic_add(cursors_ptr + after, one, mask=joins, sem="relaxed")
        tl.store(events_ptr + at, row * 2, mask=joins)
        tl.store(clusters_ptr + at, after, mask=joins)
        before = tl.load(before_ptr + row, mask=inside, other=-1)
        leaves = inside & (before >= 0)
        at = tl.atomic_add(cursors_ptr + before, one, mask=leaves, sem="relaxed")
        tl.store(events_ptr + at, row * 2 + 1, mask=leaves)
        tl.store(clusters_ptr + at, before, mask=leaves)


@Kernel
@triton.jit
def _add_events(
    rows_ptr,
    norms_ptr,
    weights_ptr,
    events_ptr,
    clusters_ptr,
    n_events_ptr,
    direction_ptr,
    stride,
    n_features,
    power,
    HAS_NORMS: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """Add the rows of sorted events: a run of one cluster meets in registers, then goes to memory once."""
    n_events = tl.load(n_events_ptr)
    n_slabs = tl.cdiv(n_features, _SLAB)
    for task in range(tl.program_id(0), tl.cdiv(n_events, _RUN * _RUNS) * n_slabs, tl.num_programs(0)):
        feature = (task % n_slabs) * _SLAB + tl.arange(0, _SLAB)
        mask = feature < n_features
        run = tl.zeros((_SLAB,), tl.int64)
        cluster = tl.load(clusters_ptr + (task // n_slabs) * (_RUN * _RUNS))
        for block in range(0, _RUNS):
            at = (task // n_slabs) * (_RUN * _RUNS) + block * _RUN + tl.arange(0, _RUN)
            inside = at < n_events
            event = tl.load(events_ptr + at, mask=inside, other=0)
            row = (event // 2).to(tl.int64)
            owner = tl.load(clusters_ptr + at, mask=inside, other=0x7FFFFFFF)
            address = rows_ptr + row[:, None] * stride + feature[None, :]
            values = tl.load(address, mask=inside[:, None] & mask[None, :], other=0.0)
            if HAS_NORMS:
                if (
                    values.dtype != tl.float16
                ):  # no float16 is below 2^-126; in rows of unit length such an entry adds 0
                    values = clean(values)
                norm = tl.load(norms_ptr + row)
                inverse = 1.0 / norm  # once a row, not once an entry
                values = divided(values.to(tl.float32), norm[:, None], inverse[:, None])
            # rounding to even is the same on both sides of zero: what leaves is counted with the opposite sign
            signed = tl.where(event % 2 == 1, -1.0, 1.0).to(tl.float64) * power
            q = fixed_point(values.to(tl.float32), signed[:, None])
            if WEIGHTED:
                q = term(q, tl.load(weights_ptr + row)[:, None])
            current = tl.min(owner)
            if (current == cluster) & (tl.max(owner) == cluster):  # mostly
                run += tl.sum(q, axis=0)
                current = 0x7FFFFFFF
            while current < 0x7FFFFFFF:
                if current != cluster:
                    tl.atomic_add(direction_ptr + cluster.to(tl.int64) * n_features + feature, run, mask, sem="relaxed")
                    run = tl.zeros((_SLAB,), tl.int64)
                    cluster = current
                run += tl.sum(tl.where((owner == current)[:, None], q, 0), axis=0)
                current = tl.min(tl.where(owner > current, owner, 0x7FFFFFFF))
        tl.atomic_add(direction_ptr + cluster.to(tl.int64) * n_features + feature, run, mask, sem="relaxed")


def accumulate(batch: Batch, before: Tensor, after: Tensor, into: ClusterSums, space: MoveSpace, programs: int) -> None:
    """Move the changed rows from sum to sum; `space.n_changed` then says how many those were."""
    rows, d = batch.rows, batch.rows.shape[1]
    space.numbers.zero_()
    _changes[(triton.cdiv(len(batch), _BLOCK.value),)](
        *(before, after, space.rows, space.n_changed, space.joined, space.left, len(batch)), num_warps=4
    )
    n_clusters = len(into.count)
    _offsets[(1,)](space.joined, space.left, into.count, space.cursors, space.n_events, n_clusters, num_warps=4)
    _sort_events[(programs,)](
        *(before, after, space.rows, space.n_changed, space.cursors, space.events, space.clusters), num_warps=4
    )
    _add_events[(16 * programs,)](
        *(rows, rows if batch.norms is None else batch.norms, rows if batch.weights is None else batch.weights),
        *(space.events, space.clusters, space.n_events, into.direction, rows.stride(0), d, 2.0**into.scale),
        HAS_NORMS=batch.norms is not None,
        WEIGHTED=batch.weights is not None,
        num_warps=1,
        # contracting the product of a fractional weight into the addition would round once instead of twice
        enable_fp_fusion=batch.weights is None,
    )

"""Exact sums of the rows that changed cluster: integers, so that any order of adding gives the same bits.

Every changed row makes an event for the cluster it leaves and one for the cluster it joins. Events are sorted by
cluster with counts and cursors, so that most additions meet in registers: one atomic addition per entry and
event would be bound by the memory system's rate of 64-bit atomics (docs/design-gpu.md).

They are sorted group by group, each with counters of its own, because additions to counters of the same cache line
wait for one another. Rows that leave a cluster are grouped in the order of the list, rows that leave none in a few
large groups.
Meaning: `backends/reference.py`, `ReferenceBackend.accumulate`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import clean, divided, fixed_point, fixed_point_halves, weighted_term
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import Batch, ClusterSums

_BLOCK = tl.constexpr(1024)
_RUN = tl.constexpr(8)  # sorted events that are added up together
_RUNS = tl.constexpr(8)  # such runs that one program visits one after another
_SLAB = tl.constexpr(128)  # features of one program
_LEAST_RUN = 8  # events of a cluster in a group: fewer would go to memory one by one
# The same for rows that leave no cluster: in a first pass these are all rows.
_FIRST_GROUPS, _LEAST_FIRST_RUN = 8, 64


class MoveWorkspace:
    """Memory for the events of a batch of at most `n_rows` rows.

    first       groups of rows that leave no cluster; they come before the other groups
    span        rows of each of the other groups
    groups      the number of all groups
    rows        (n_rows,) int32: the changed rows, in any order; n_changed (1,) int32 of them count
    events      (2 n_rows,) int32: row * 2, plus 1 where the row leaves, sorted by group and cluster
    clusters    (2 n_rows,) int32: the cluster of each event
    cursors     (groups * n_clusters,) int32: where the next event of a group and cluster goes
    n_events    (1,) int32
    sizes       (groups * n_clusters,) int64: rows that join (low half) and leave (high half) a cluster
    totals      (groups,) int32: events of each group
    """

    def __init__(
        self,
        n_rows: int,
        n_clusters: int,
        device: torch.device,
        *,
        span: int,
        first_run: int = _LEAST_FIRST_RUN,
    ) -> None:
        """span: rows of a group, if clusters have enough of them; first_run: the least events of a cluster in a first
        group on average.
        """

        def empty(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.int32, device=device)

        self.first = _FIRST_GROUPS if n_rows >= _FIRST_GROUPS * first_run * n_clusters else 1
        self.span = span if _LEAST_RUN * n_clusters <= 2 * span else max(_BLOCK.value, n_rows)
        self.groups = self.first + -(-n_rows // self.span)
        self.rows = empty(n_rows)
        self.events, self.clusters = empty(2 * n_rows), empty(2 * n_rows)
        self.cursors, self.n_events = empty(self.groups * n_clusters), empty(1)
        # sizes, n_changed and totals are one tensor, so that one call zeroes them
        n_sizes = self.groups * n_clusters
        n_sizes += n_sizes % 2  # keeps the alignment of what follows, for which kernels are compiled
        self.numbers = torch.empty(n_sizes + self.groups // 2 + 1, dtype=torch.int64, device=device)
        self.sizes, small = self.numbers[:n_sizes], self.numbers[n_sizes:].view(torch.int32)
        self.n_changed, self.totals = small[:1], small[1:]


@triton.jit
def _group(before, row, item, span, first):
    """The group of a changed row; item: its index in the list."""
    return tl.where(before < 0, row // _BLOCK % first, first + item // span)


@triton.jit(do_not_specialize=["n_rows", "n_clusters", "span", "first"])
def _changes(
    before_ptr,
    after_ptr,
    list_ptr,
    n_changed_ptr,
    totals_ptr,
    sizes_ptr,
    n_rows,
    n_clusters,
    span,
    first,
):
    """List the rows whose label changed, and count how many join and leave each cluster."""
    row = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    inside = row < n_rows
    before = tl.load(before_ptr + row, mask=inside, other=-1)
    after = tl.load(after_ptr + row, mask=inside, other=-1)
    changed = inside & (before != after)
    number = changed.to(tl.int32)
    total = tl.sum(number)
    if total > 0:
        start = tl.atomic_add(n_changed_ptr, total)
        item = start + tl.cumsum(number, axis=0) - 1
        tl.store(list_ptr + item, row, mask=changed)
        joins, leaves = changed & (after >= 0), changed & (before >= 0)
        own_ptr = sizes_ptr + _group(before, row, item, span, first).to(tl.int64) * n_clusters
        one = tl.full((_BLOCK,), 1, tl.int64)
        tl.atomic_add(own_ptr + after, one, mask=joins, sem="relaxed")
        tl.atomic_add(own_ptr + before, one << 32, mask=leaves, sem="relaxed")
        events = joins.to(tl.int32) + leaves.to(tl.int32)
        # the rows of a block are consecutive in the list, so they are in one group or two: a group is at least a block
        group = start // span
        fresh, here = before < 0, item // span == group
        tl.atomic_add(totals_ptr + tl.program_id(0) % first, tl.sum(tl.where(fresh, events, 0)), sem="relaxed")
        tl.atomic_add(totals_ptr + first + group, tl.sum(tl.where(here & (fresh == 0), events, 0)), sem="relaxed")
        beyond = tl.sum(tl.where((here | fresh) == 0, events, 0))
        if beyond > 0:
            tl.atomic_add(totals_ptr + first + group + 1, beyond, sem="relaxed")


@triton.jit(do_not_specialize=["n_clusters"])
def _offsets(totals_ptr, sizes_ptr, count_ptr, cursors_ptr, n_events_ptr, n_clusters):
    """One program for each group: where the events of each cluster begin, and the new counts."""
    group = tl.program_id(0)
    total = 0
    for start in range(0, group, _BLOCK):
        other = start + tl.arange(0, _BLOCK)
        total += tl.sum(tl.load(totals_ptr + other, mask=other < group, other=0))
    own = tl.load(totals_ptr + group)
    if group == tl.num_programs(0) - 1:
        tl.store(n_events_ptr, total + own)
    if own > 0:
        first = group.to(tl.int64) * n_clusters
        for start in range(0, n_clusters, _BLOCK):
            k = start + tl.arange(0, _BLOCK)
            size = tl.load(sizes_ptr + first + k, mask=k < n_clusters, other=0)
            joined, left = size & 0xFFFFFFFF, size >> 32
            tl.atomic_add(count_ptr + k, joined - left, mask=joined != left, sem="relaxed")
            events = (joined + left).to(tl.int32)
            tl.store(cursors_ptr + first + k, total + tl.cumsum(events, axis=0) - events, mask=k < n_clusters)
            total += tl.sum(events)


@triton.jit(do_not_specialize=["n_clusters", "span", "first"])
def _sort_events(
    before_ptr,
    after_ptr,
    list_ptr,
    n_changed_ptr,
    cursors_ptr,
    events_ptr,
    clusters_ptr,
    n_clusters,
    span,
    first,
):
    """Store both events of each changed row among those of its clusters: row * 2, plus 1 for leaving.

    The label from before is not read after that, so the new one is stored in its place.
    """
    n_changed = tl.load(n_changed_ptr)
    for block in range(tl.program_id(0), tl.cdiv(n_changed, _BLOCK), tl.num_programs(0)):
        item = block * _BLOCK + tl.arange(0, _BLOCK)
        inside = item < n_changed
        row = tl.load(list_ptr + item, mask=inside, other=0)
        one = tl.full((_BLOCK,), 1, tl.int32)
        before = tl.load(before_ptr + row, mask=inside, other=-1)
        after = tl.load(after_ptr + row, mask=inside, other=-1)
        own_ptr = cursors_ptr + _group(before, row, item, span, first).to(tl.int64) * n_clusters
        joins, leaves = inside & (after >= 0), inside & (before >= 0)
        at = tl.atomic_add(own_ptr + after, one, mask=joins, sem="relaxed")
        tl.store(events_ptr + at, row * 2, mask=joins)
        tl.store(clusters_ptr + at, after, mask=joins)
        at = tl.atomic_add(own_ptr + before, one, mask=leaves, sem="relaxed")
        tl.store(events_ptr + at, row * 2 + 1, mask=leaves)
        tl.store(clusters_ptr + at, before, mask=leaves)
        tl.store(before_ptr + row, after, mask=inside)


@triton.jit
def _sums_of(q, low, shift, HALVES: tl.constexpr):
    """Sums (_SLAB,) int64 over the rows of q. HALVES: q and low are those of `exact.fixed_point_halves`."""
    sums = tl.sum(q, axis=0).to(tl.int64)
    if HALVES:
        sums = (sums << shift) + tl.sum(low, axis=0)
    return sums


@triton.jit(do_not_specialize=["shift"])
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
    shift,
    HAS_NORMS: tl.constexpr,
    WEIGHTED: tl.constexpr,
    HALVES: tl.constexpr,
):
    """Add the rows of sorted events: consecutive rows of a cluster are added up in registers, then once to memory."""
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
                if values.dtype != tl.float16:  # has no entries below 2^-126; in unit rows such an entry adds 0 anyway
                    values = clean(values)
                values = divided(values.to(tl.float32), tl.load(norms_ptr + row)[:, None])
            # rounding to even is symmetric about zero: a row that leaves is added with the opposite sign
            values = values.to(tl.float32) * tl.where(event % 2 == 1, -1.0, 1.0)[:, None]
            if HALVES:
                q, low = fixed_point_halves(values, power)
            else:
                q = fixed_point(values, power)
                if WEIGHTED:
                    q = weighted_term(q, tl.load(weights_ptr + row)[:, None])
                low = q
            current = tl.min(owner)
            if (current == cluster) & (tl.max(owner) == cluster):  # the usual case
                run += _sums_of(q, low, shift, HALVES)
                current = 0x7FFFFFFF
            while current < 0x7FFFFFFF:
                if current != cluster:
                    tl.atomic_add(direction_ptr + cluster.to(tl.int64) * n_features + feature, run, mask, sem="relaxed")
                    run = tl.zeros((_SLAB,), tl.int64)
                    cluster = current
                own = (owner == current)[:, None]
                run += _sums_of(tl.where(own, q, 0), tl.where(own, low, 0), shift, HALVES)
                current = tl.min(tl.where(owner > current, owner, 0x7FFFFFFF))
        tl.atomic_add(direction_ptr + cluster.to(tl.int64) * n_features + feature, run, mask, sem="relaxed")


def accumulate(
    batch: Batch, before: Tensor, after: Tensor, into: ClusterSums, space: MoveWorkspace, programs: int
) -> None:
    """Move the changed rows from sum to sum.

    before  (B,) int32: labels under which the rows were added; becomes `after`
    after   (B,) int32: the new ones; -1 in either: the row is in no sum
    into    int64 sums (K, D) and counts (K,) of the clusters
    space   memory; afterwards `space.n_changed` holds how many rows changed
    """
    rows, d, k = batch.rows, batch.rows.shape[1], len(into.count)
    space.numbers.zero_()
    launch(
        _changes,
        triton.cdiv(len(batch), _BLOCK.value),
        *(before, after, space.rows, space.n_changed, space.totals, space.sizes, len(batch), k),
        *(space.span, space.first),
        num_warps=4,
    )
    launch(
        _offsets,
        space.groups,
        *(space.totals, space.sizes, into.count, space.cursors, space.n_events, k),
        num_warps=4,
    )
    launch(
        _sort_events,
        min(programs, triton.cdiv(len(batch), _BLOCK.value)),
        *(before, after, space.rows, space.n_changed, space.cursors, space.events, space.clusters, k),
        *(space.span, space.first),
        num_warps=8,
    )
    most = triton.cdiv(2 * len(batch), _RUN.value * _RUNS.value) * triton.cdiv(d, _SLAB.value)
    launch(
        _add_events,
        min(32 * programs, most),  # bound by memory latency: as many as a multiprocessor holds
        *(rows, rows if batch.norms is None else batch.norms, rows if batch.weights is None else batch.weights),
        *(space.events, space.clusters, space.n_events, into.direction, rows.stride(0), d, 2.0**into.scale),
        into.scale - 21,
        HAS_NORMS=batch.norms is not None,
        WEIGHTED=batch.weights is not None,
        HALVES=batch.weights is None and 22 <= into.scale <= 44,
        num_warps=1,
        # contracting the product of a fractional weight into the addition would round once instead of twice
        enable_fp_fusion=batch.weights is None,
    )

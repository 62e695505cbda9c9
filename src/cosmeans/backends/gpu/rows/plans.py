"""The plan of the memory of a session on the device: the fastest one that fits.

A plan counts bytes in addition to the rows themselves; `benchmarks/gpu.py memory` compares it with the measured peak.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from cosmeans.backends.gpu.kernels.cascade import MOST_FEATURES, gathered_rows
from cosmeans.backends.gpu.kernels.quantize import width_of
from cosmeans.backends.gpu.tuning import DEFAULT, ResidencyPlan, Tuning
from cosmeans.errors import DeviceMemoryError

# a row of the source: its label, two events with their clusters and counters, its position among the changed; its own
# similarity, twice while batches are joined
_OF_FIT = 4 + 23 + 4 + 16
_OF_CHUNK = 4 + 20 + 68  # a row labelled at once: its label, its positions in the lists, its candidates
OF_INSPECTED = 8 + 17  # a row before its source is made: its squared length; length, weight, whether it is kept
_OF_STREAMED = 4 + 16 + 17 + 3  # a row that stays there: its label, its own similarity, the last three; rounded up
_OF_STREAMED_CHUNK = _OF_CHUNK + 64  # and what inspecting it and listing it take
_OF_FETCHED = 32  # its label, index, length and weight once more
_OF_CENTROIDS = 40  # an entry of the centroids: int64 sums, float16 columns, and the generations alive at once
_OF_CLUSTER = 300  # its lengths, hash, counts and counters of events, and up to 32 buckets of four bytes
_MARGIN = 256 << 20  # libraries, kernels, the rounding of the allocator; pooled workspaces
_ALIGNED = 64  # rows: parts begin at addresses of one kind, so that kernels are compiled once


def plan_resident(
    n_rows: int,
    n_features: int,
    n_clusters: int,
    room: int,
    device: object,
    tuning: Tuning = DEFAULT,
    *,
    limit: int | None = None,
) -> ResidencyPlan:
    """The fastest plan that fits into `room` bytes besides the rows. limit: of the user, which the room respects.

    Raises DeviceMemoryError if there is none.
    """
    plan, least = _resident(n_rows, n_features, n_clusters, room, tuning)
    if plan is None:
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need {_mb(least)} besides the rows; "
            f'{device} has {_mb(room)} free{_of_limit(limit)}, pass fewer rows, or device="cpu".'
        )
    return plan


def plan_streamed(
    n_rows: int,
    n_features: int,
    n_clusters: int,
    row_bytes: int,
    room: int,
    device: object,
    tuning: Tuning = DEFAULT,
    *,
    keep: bool = True,
    limit: int | None = None,
) -> ResidencyPlan:
    """The fastest plan for rows that stay on the host. keep: False where no pass follows that needs their copy.

    limit: of the user, which the room respects.

    Raises DeviceMemoryError if there is none.
    """
    if tuning.plan is not None:
        return _given(tuning.plan, n_rows)
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_STREAMED + _of_centroids(n_features, n_clusters)
    sent, fetched = (max(tuning.least_fetch, n_bytes // row_bytes) for n_bytes in (tuning.sent, tuning.fetched))
    of_fetched = 2 * row_bytes + copy + _OF_FETCHED
    for rows in (sent, min(sent, fetched)) if keep else ():
        kept = fixed + n_rows * copy + min(n_rows, rows) * of_fetched
        chunk = aligned(min(n_rows, tuning.most_per_chunk, (room - kept) // _OF_STREAMED_CHUNK))
        if chunk >= min(n_rows, tuning.least_chunk):
            n_bytes = kept + chunk * _OF_STREAMED_CHUNK
            return ResidencyPlan(copied=True, chunk=chunk, n_bytes=n_bytes, fetched=aligned(min(chunk, rows)))
    row = _OF_STREAMED_CHUNK + of_fetched
    chunk = aligned(min(n_rows, sent, (room - fixed) // row))
    if chunk < min(n_rows, tuning.least_fetch):
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need "
            f"{_mb(fixed + min(n_rows, tuning.least_fetch) * row)} on {device} even if the rows stay on the host; "
            f'{_mb(room)} are free{_of_limit(limit)}, ask for fewer clusters, or pass device="cpu".'
        )
    return ResidencyPlan(copied=False, chunk=chunk, n_bytes=fixed + chunk * row, fetched=chunk)


def plan_incoming(
    shape: torch.Size,
    row_bytes: int,
    n_clusters: int,
    room: int,
    device: object,
    tuning: Tuning = DEFAULT,
    *,
    keep: bool = True,
    limit: int | None = None,
) -> ResidencyPlan:
    """The fastest plan for rows of the host: they are kept on the device, or their float16 copy is, or neither.

    Raises DeviceMemoryError if there is none.
    """
    n_rows, n_features = shape
    resident, _ = _resident(n_rows, n_features, n_clusters, room - n_rows * (row_bytes + OF_INSPECTED), tuning)
    return resident or plan_streamed(
        n_rows, n_features, n_clusters, row_bytes, room, device, tuning, keep=keep, limit=limit
    )


def rows_per_chunk(n_features: int, room: int, tuning: Tuning = DEFAULT) -> int:
    """Rows labelled at once where nothing was planned and no copy stays: they take up to half of the room."""
    affordable = room // 2 // (_of_copy(n_features) + _OF_CHUNK)
    return max(tuning.least_chunk, min(tuning.most_per_chunk, affordable))


def rows_per_fetch(row_bytes: int, tuning: Tuning = DEFAULT) -> int:
    """Rows fetched at once where nothing was planned."""
    return aligned(max(tuning.least_fetch, tuning.fetched // row_bytes))


def aligned(rows: int) -> int:
    """Rows taken at once, such that those behind them begin at an address of the same kind."""
    return rows if rows < _ALIGNED else rows // _ALIGNED * _ALIGNED


def _given(plan: ResidencyPlan, n_rows: int) -> ResidencyPlan:
    """For so many rows."""
    return replace(plan, chunk=min(plan.chunk, n_rows))


def _resident(
    n_rows: int, n_features: int, n_clusters: int, room: int, tuning: Tuning
) -> tuple[ResidencyPlan | None, int]:
    """The fastest plan for rows on the device, if one fits, and the least that one takes."""
    if tuning.plan is not None:
        return _given(tuning.plan, n_rows), 0
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_FIT + _of_centroids(n_features, n_clusters)
    whole = fixed + n_rows * (copy + _OF_CHUNK)
    cascading = whole + _of_cascade(n_rows, n_features, n_clusters)
    if cascading <= room and n_features <= MOST_FEATURES:
        return ResidencyPlan(copied=True, chunk=n_rows, n_bytes=cascading, cascade=True), cascading
    if whole <= room:
        return ResidencyPlan(copied=True, chunk=n_rows, n_bytes=whole), whole
    least = fixed + min(n_rows, tuning.least_chunk) * (copy + _OF_CHUNK)
    if room < least:
        return None, least
    chunk = min(n_rows, tuning.most_per_chunk, (room - fixed) // (copy + _OF_CHUNK))
    return ResidencyPlan(copied=False, chunk=chunk, n_bytes=fixed + chunk * (copy + _OF_CHUNK)), least


def _of_copy(n_features: int) -> int:
    """Of a row's float16 copy, with its residual and its unit."""
    return 2 * width_of(n_features) + 8


def _of_cascade(n_rows: int, n_features: int, n_clusters: int) -> int:
    """Of the first stage and gathering: codes, lists and gathered rows, and codes of centroids."""
    codes = width_of(n_features, integers=True)
    return n_rows * (codes + 8 + 20) + gathered_rows(n_rows) * _of_copy(n_features) + 2 * n_clusters * codes


def _of_centroids(n_features: int, n_clusters: int) -> int:
    return n_clusters * (n_features * _OF_CENTROIDS + _OF_CLUSTER) + _MARGIN


def _of_limit(limit: int | None) -> str:
    """What ends how much is free, and what to do."""
    if limit is None:
        return ". Free memory there"
    return f" within device_memory_limit ({_mb(limit)}). Raise it, free memory there"


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"

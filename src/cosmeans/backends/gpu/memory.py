"""What a fit takes on the device, and the plan that fits.

Bytes beside the rows themselves. `benchmarks/gpu.py memory` compares the model with the measured peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosmeans.backends.gpu.kernels.cascade import can_climb, ladder_bytes
from cosmeans.backends.gpu.kernels.quantize import width_of
from cosmeans.errors import DeviceMemoryError

# a row of the source: its label, two events with their clusters and counters, its place among the changed; its own
# similarity, twice while batches are joined
_OF_FIT = 4 + 23 + 4 + 16
_OF_PART = 4 + 20 + 68  # a row labelled at once: its label, its places in the lists, its candidates
OF_RECEIVED = 8 + 17  # a row before its source is made: its squared length; length, weight, whether it is kept
_OF_FAR = 4 + 16 + 17 + 3  # a row that stays there: its label, its own similarity, the last three; rounded up
_OF_FAR_PART = _OF_PART + 64  # and what inspecting it and listing it take
_OF_FETCHED = 32  # its label, index, length and weight once more
_OF_CENTROIDS = 40  # an entry of the centroids: int64 sums, float16 columns, and the generations alive at once
_OF_CLUSTER = 300  # its lengths, hash, counts and counters of events, and up to 32 buckets of four bytes
_LEAST = 1 << 14  # rows labelled at once, below which starting kernels would take most of the time
_LEAST_SENT = 1 << 10  # the same where sending them takes longer than that
MOST_IN_TURN = 1 << 20  # above which more rows at once save nothing
_MARGIN = 256 << 20  # libraries, kernels, the allocator's rounding; the rows and more of small fits at their desks
_FETCHED = 128 << 20  # bytes of rows fetched at once
ANY = 1 << 62  # bytes: as many as one could want
_ALIGNED = 64  # rows: parts begin at addresses of one kind, so that kernels are compiled once


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What lies on the device, and how much of it at once.

    resident  the fp16 copy of all rows stays
    part      rows labelled at once
    n_bytes   what all of it takes, beside rows that lie there
    fetched   rows that lie there at once where they stay on the host; 0: all of them lie there
    ladder    there is room for a copy in 8 bits, too
    """

    resident: bool
    part: int
    n_bytes: int
    fetched: int = 0
    ladder: bool = False


def plan_memory(n_rows: int, n_features: int, n_clusters: int, room: int, device: object) -> MemoryPlan:
    """The fastest plan that fits into `room` bytes beside the rows. Raises DeviceMemoryError if there is none."""
    plan, least = _near(n_rows, n_features, n_clusters, room)
    if plan is None:
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need {_mb(least)} beside the rows; "
            f'{device} has {_mb(room)} free. Free memory there, pass fewer rows, or device="cpu".'
        )
    return plan


def plan_far(
    n_rows: int, n_features: int, n_clusters: int, row_bytes: int, room: int, device: object, *, keep: bool = True
) -> MemoryPlan:
    """The fastest plan for rows that stay on the host. keep: False where no pass follows that needs their copy.

    Raises DeviceMemoryError if there is none.
    """
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_FAR + _of_centroids(n_features, n_clusters)
    fetched = max(_LEAST_SENT, _FETCHED // row_bytes)
    of_fetched = 2 * row_bytes + copy + _OF_FETCHED
    kept = fixed + n_rows * copy + min(n_rows, fetched) * of_fetched
    part = rounded(min(n_rows, MOST_IN_TURN, (room - kept) // _OF_FAR_PART))
    if keep and part >= min(n_rows, _LEAST):
        return MemoryPlan(True, part, kept + part * _OF_FAR_PART, rounded(min(part, fetched)))
    row = _OF_FAR_PART + of_fetched
    part = rounded(min(n_rows, fetched, (room - fixed) // row))
    if part < min(n_rows, _LEAST_SENT):
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need "
            f"{_mb(fixed + min(n_rows, _LEAST_SENT) * row)} on {device} even if the rows stay on the host; "
            f'{_mb(room)} are free. Free memory there, ask for fewer clusters, or pass device="cpu".'
        )
    return MemoryPlan(False, part, fixed + part * row, part)


def plan_received(
    shape: torch.Size, row_bytes: int, n_clusters: int, room: int, device: object, *, keep: bool = True
) -> MemoryPlan:
    """The fastest plan for rows of the host: they lie on the device, or their fp16 copy does, or neither.

    Raises DeviceMemoryError if there is none.
    """
    n_rows, n_features = shape
    near, _ = _near(n_rows, n_features, n_clusters, room - n_rows * (row_bytes + OF_RECEIVED))
    return near or plan_far(n_rows, n_features, n_clusters, row_bytes, room, device, keep=keep)


def rows_in_turn(n_features: int, room: int) -> int:
    """Rows labelled at once where nothing was planned and no copy stays: they take up to half of the room."""
    affordable = room // 2 // (_of_copy(n_features) + _OF_PART)
    return max(_LEAST, min(MOST_IN_TURN, affordable))


def rows_fetched(row_bytes: int) -> int:
    """Rows fetched at once where nothing was planned."""
    return rounded(max(_LEAST_SENT, _FETCHED // row_bytes))


def rounded(rows: int) -> int:
    """Rows taken at once, such that those behind them begin at an address of the same kind."""
    return rows if rows < _ALIGNED else rows // _ALIGNED * _ALIGNED


def free_bytes(device: torch.device, enough: int = ANY) -> int:
    """What can still be allocated: the device's free memory, and what torch's allocator keeps unused.

    enough: bytes above which the allocator is not asked, which takes longer than the device.
    """
    if device.type != "cuda":
        return ANY
    free: int = torch.cuda.mem_get_info(device)[0]
    if free >= enough:
        return free
    # all statistics as a flat dictionary would take as long as an epoch of a small fit
    facts = torch.cuda.memory_stats_as_nested_dict(device)
    reserved, allocated = (facts[name]["all"]["current"] for name in ("reserved_bytes", "allocated_bytes"))
    return int(free + reserved - allocated)


def _near(n_rows: int, n_features: int, n_clusters: int, room: int) -> tuple[MemoryPlan | None, int]:
    """The fastest plan for rows on the device, if one fits, and the least that one takes."""
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_FIT + _of_centroids(n_features, n_clusters)
    whole = fixed + n_rows * (copy + _OF_PART)
    climbing = whole + ladder_bytes(n_rows, n_features, n_clusters)
    if climbing <= room and can_climb(n_features):
        return MemoryPlan(True, n_rows, climbing, ladder=True), climbing
    if whole <= room:
        return MemoryPlan(True, n_rows, whole), whole
    least = fixed + min(n_rows, _LEAST) * (copy + _OF_PART)
    if room < least:
        return None, least
    part = min(n_rows, MOST_IN_TURN, (room - fixed) // (copy + _OF_PART))
    return MemoryPlan(False, part, fixed + part * (copy + _OF_PART)), least


def _of_copy(n_features: int) -> int:
    """Of a row's fp16 copy, with its residual and its unit."""
    return 2 * width_of(n_features) + 8


def _of_centroids(n_features: int, n_clusters: int) -> int:
    return n_clusters * (n_features * _OF_CENTROIDS + _OF_CLUSTER) + _MARGIN


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"

"""What a fit takes on the device, and the plan that fits; and the way of rows from the host to it.

Bytes beside the rows themselves. `benchmarks/gpu.py memory` compares the model with the measured peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmeans.backends.gpu.rows import width_of
from cosmeans.errors import DeviceMemoryError

# a row of the source: its label, two events with their clusters, its place among the changed; its own similarity, twice
# while batches are joined
_OF_FIT = 4 + 20 + 4 + 16
_OF_PART = 4 + 20 + 68  # a row labelled at once: its label, its places in the lists, its candidates
_OF_CENTROIDS = 40  # an entry of the centroids: int64 sums, float16 columns, and the generations alive at once
_OF_CLUSTER = 192  # its lengths, hash and counts, and up to 32 buckets of four bytes
_LEAST = 1 << 14  # rows labelled at once, below which starting kernels would take most of the time
_MOST_IN_TURN = 1 << 20  # above which more rows at once save nothing
_MARGIN = 256 << 20  # libraries, kernels, the allocator's rounding; the rows and more of small fits at their desks
_PIECE = 32 << 20


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """resident: the fp16 copy of all rows stays; part: rows labelled at once; n_bytes: what all of it takes."""

    resident: bool
    part: int
    n_bytes: int


def plan_memory(n_rows: int, n_features: int, n_clusters: int, room: int, device: object) -> MemoryPlan:
    """The fastest plan that fits into `room` bytes beside the rows. Raises DeviceMemoryError if there is none."""
    copy = 2 * width_of(n_features) + 4
    fixed = n_rows * _OF_FIT + n_clusters * (n_features * _OF_CENTROIDS + _OF_CLUSTER) + _MARGIN
    whole = fixed + n_rows * (copy + _OF_PART)
    if whole <= room:
        return MemoryPlan(True, n_rows, whole)
    part = min(n_rows, _MOST_IN_TURN, (room - fixed) // (copy + _OF_PART))
    if part < min(n_rows, _LEAST):
        least = fixed + min(n_rows, _LEAST) * (copy + _OF_PART)
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need {_mb(least)} beside the rows; "
            f'{device} has {_mb(room)} free. Free memory there, pass fewer rows, or device="cpu".'
        )
    return MemoryPlan(False, part, fixed + part * (copy + _OF_PART))


def rows_in_turn(n_features: int, room: int) -> int:
    """Rows labelled at once where nothing was planned and no copy stays: they take up to half of the room."""
    affordable = room // 2 // (2 * width_of(n_features) + 4 + _OF_PART)
    return max(_LEAST, min(_MOST_IN_TURN, affordable))


def free_bytes(device: torch.device) -> int:
    """What can still be allocated: the device's free memory, and what torch's allocator keeps unused."""
    if device.type != "cuda":
        return 1 << 62
    free = torch.cuda.mem_get_info(device)[0]
    # all statistics as a flat dictionary would take as long as an epoch of a small fit
    facts = torch.cuda.memory_stats_as_nested_dict(device)
    reserved, allocated = (facts[name]["all"]["current"] for name in ("reserved_bytes", "allocated_bytes"))
    return int(free + reserved - allocated)


def upload(rows: Tensor, device: torch.device) -> Tensor:
    """Rows of the host on the device. They go through two pinned pieces: one is filled while the other is sent.

    Raises DeviceMemoryError with the numbers if they don't fit there.
    """
    room = free_bytes(device)
    if rows.nbytes > room:
        raise DeviceMemoryError(
            f'The rows take {_mb(rows.nbytes)}; {device} has {_mb(room)} free. Pass device="cpu", rows in float16 '
            "(half the memory), or fewer rows."
        )
    if rows.nbytes < 2 * _PIECE or rows.is_pinned():
        return rows.contiguous().to(device)
    out = torch.empty(rows.shape, dtype=rows.dtype, device=device)
    step = max(1, _PIECE * len(rows) // rows.nbytes)
    pinned = torch.empty((2, step, *rows.shape[1:]), dtype=rows.dtype, pin_memory=True)
    sent = [torch.cuda.Event(), torch.cuda.Event()]
    with torch.cuda.device(device):
        for turn, start in enumerate(range(0, len(rows), step)):
            part = rows[start : start + step]
            place = pinned[turn % 2, : len(part)]
            sent[turn % 2].synchronize()  # returns at once if nothing was sent from there
            place.copy_(part)
            out[start : start + step].copy_(place, non_blocking=True)
            sent[turn % 2].record()
    return out


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"

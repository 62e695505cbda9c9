"""What is measured, and what a machine decides. Time and memory depend on it, no bit of an answer does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from cosmeans.backends.gpu.rows.plan import ResidencyPlan

_T = TypeVar("_T")
ANY = 1 << 62  # bytes: as many as one could want


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


def _number(value: _T, record: str) -> _T:
    """A number of the table, and what justifies it: a kind of record in benchmarks/results/gpu.jsonl, or a page."""
    return field(default=value, metadata={"record": record})


@dataclass(frozen=True, slots=True)
class Tuning:
    """The numbers of `GpuBackend`, one table of them; below it, what tests and benchmarks put in place of the machine.

    small_upload      bytes of rows that are sent in one piece: nothing would be gained meanwhile
    upload_span       bytes of rows inspected at once while others arrive: starting kernels delays filling pieces
    upload_piece      bytes of a pinned piece: smaller ones are sent at a lower rate
    fetched           bytes of rows fetched at once
    least_chunk       rows labelled at once, below which starting kernels would take most of the time
    least_fetch       the same where sending them takes longer than that
    most_per_chunk    rows labelled at once, above which more save nothing
    per_product       seconds of a pass for one product of two entries, at D = 128
    per_row           seconds of a pass for whatever else a row takes
    short             seconds of a pass below which epochs are captured before the first one runs: the host takes longer
    middle            ... below which they are captured during the first one, and not the second
    long              ... above which what replaying saves counts for nothing
    most_of_outcomes  bytes of all slots for outcomes: half of the margin of the plan (rows/plan.py)
    most_workspaces   that are pooled, each for another kind of fits
    pool_share        of the device's memory: what all of them may take there
    """

    small_upload: int = _number(64 << 20, "docs/design-gpu.md, 6: not measured")
    upload_span: int = _number(512 << 20, "docs/design-gpu.md, 6: overlap")
    upload_piece: int = _number(32 << 20, "upload; docs/design-gpu.md, 7")
    fetched: int = _number(128 << 20, "host epochs")
    least_chunk: int = _number(1 << 14, "memory")
    least_fetch: int = _number(1 << 10, "not measured")
    most_per_chunk: int = _number(1 << 20, "memory")
    per_product: float = _number(4e-15, "limit")
    per_row: float = _number(2e-10, "limit")
    short: float = _number(1e-3, "limit; docs/design-gpu.md, 5")
    middle: float = _number(2e-3, "limit; docs/design-gpu.md, 5")
    long: float = _number(50e-3, "docs/design-gpu.md, 5: not measured")
    most_of_outcomes: int = _number(128 << 20, "docs/design-gpu.md, 5: computed")
    most_workspaces: int = _number(4, "docs/design-gpu.md, 5: not measured")
    pool_share: float = _number(1 / 64, "docs/design-gpu.md, 5: not measured")

    # (device, enough) -> bytes that can still be allocated there; from `enough` on, how many more does not matter
    room: Callable[[torch.device, int], int] = free_bytes
    # the memory plan of every session, whatever the room; None: the fastest that fits
    plan: ResidencyPlan | None = None
    # programs of a kernel that are started at once; None: as many as the device has multiprocessors
    programs: int | None = None
    # bytes that pooled workspaces may take; None: the share of the device's memory
    most_pooled: int | None = None
    # (work, device, state) -> what replays the work (`replay.graph.Graph`); None: CUDA graphs, where there are any
    graph: Callable[..., Any] | None = None
    # makes what tells that replayed work is done
    event: Callable[[], Any] = torch.cuda.Event
    # (N, D, K) -> what decides for each pass whether it begins in 8 bits; None: `replay.policy.PrecisionPolicy`
    precision: Callable[[int, int, int], Any] | None = None
    # (launches, shape of the Hopper screen) -> begins to compile these; None: in threads, if there is a GPU
    compile: Callable[..., None] | None = None
    # copies rows to the device (`rows.upload.Copies`); None: a stream of its own, if there is a GPU
    copies: Callable[[torch.device], Any] | None = None


DEFAULT = Tuning()

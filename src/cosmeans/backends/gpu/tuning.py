"""What is measured, and what a machine decides. Time and memory depend on it, no bit of an answer does.

All numbers that belong to a chip or to a cost model are here, each with the record that justifies it: a kind of record
in benchmarks/results/gpu.jsonl, a page, or a publication.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")
ANY = 1 << 62  # bytes: as many as one could want
SLOTS = 8  # of outcomes: those ahead, the one that is read, the one before it, and some to spare
SAMPLED = 16  # close scores are counted in one of so many row tiles


def free_bytes(device: torch.device, enough: int = ANY) -> int:
    """What can still be allocated: the device's free memory, and what torch's allocator keeps unused.

    enough: bytes above which the allocator is not asked, which takes longer than the device.
    """
    if device.type != "cuda":
        return ANY
    free: int = torch.cuda.mem_get_info(device)[0]
    if free >= enough:
        return free
    reserved, allocated = _of_allocator(device)
    return free + reserved - allocated


def allocated_bytes(device: torch.device) -> int:
    """What the tensors of this process take there; 0 where there is no GPU to ask."""
    return _of_allocator(device)[1] if device.type == "cuda" else 0


def _of_allocator(device: torch.device) -> tuple[int, int]:
    """Bytes that torch's allocator has of the device, and those of them that are in use."""
    # all statistics as a flat dictionary would take as long as an epoch of a small fit
    facts = torch.cuda.memory_stats_as_nested_dict(device)
    if not facts:  # nothing in this process has used a GPU so far
        return 0, 0
    reserved, allocated = (facts[name]["all"]["current"] for name in ("reserved_bytes", "allocated_bytes"))
    return int(reserved), int(allocated)


def _number(value: _T, record: str) -> _T:
    """A number of a table, and what justifies it."""
    return field(default=value, metadata={"record": record})


@dataclass(frozen=True, slots=True)
class ResidencyPlan:
    """What is kept on the device, and how much of it at once.

    copied   the float16 copy of all rows stays there
    chunk    rows labelled at once
    n_bytes  what all of it takes, in addition to rows that are there
    fetched  rows that are there at once where they stay on the host; 0: all of them are
    cascade  there is room for a copy in 8 bits, too
    """

    copied: bool
    chunk: int
    n_bytes: int = 0
    fetched: int = 0
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Tuning:
    """The numbers of `GpuBackend`, one table of them; below it, what tests and benchmarks put in place of the machine.

    small_upload      bytes of rows that are sent in one piece: nothing would be gained meanwhile
    upload_span       bytes of rows inspected at once while others arrive: starting kernels delays filling pieces
    upload_piece      bytes of a pinned piece: smaller ones are sent at a lower rate
    fetched           bytes of rows fetched at once where nothing was planned, and at least where there is room
    sent              bytes of rows sent at once in a pass over all of them, if there is room: few waits, few kernels
    least_chunk       rows labelled at once, below which starting kernels would take most of the time
    least_fetch       the same where sending them takes longer than that
    most_per_chunk    rows labelled at once, above which more save nothing
    per_product       seconds of a pass for one product of two entries, at D = 128
    per_row           seconds of a pass for whatever else a row takes
    short             seconds of a pass below which epochs are captured before the first one runs: the host takes longer
    middle            ... below which they are captured during the first one, and not the second
    long              ... above which what replaying saves counts for nothing
    most_of_outcomes  bytes of all slots for outcomes: half of the margin of the plan (rows/plans.py)
    move_span         rows whose changes of cluster are sorted together
    most_workspaces   that are pooled, each for another kind of fits
    pool_share        of the device's memory: what all of them may take there
    """

    small_upload: int = _number(64 << 20, "docs/design-gpu-fits.md, 6: not measured")
    upload_span: int = _number(512 << 20, "docs/design-gpu-fits.md, 6: overlap")
    upload_piece: int = _number(32 << 20, "upload; docs/design-gpu-measured.md, 7")
    fetched: int = _number(128 << 20, "host epochs")
    sent: int = _number(512 << 20, "files")
    least_chunk: int = _number(1 << 14, "memory")
    least_fetch: int = _number(1 << 10, "not measured")
    most_per_chunk: int = _number(1 << 20, "memory")
    per_product: float = _number(4e-15, "limit")
    per_row: float = _number(2e-10, "limit")
    short: float = _number(1e-3, "limit; docs/design-gpu-fits.md, 5")
    middle: float = _number(2e-3, "limit; docs/design-gpu-fits.md, 5")
    long: float = _number(50e-3, "docs/design-gpu-fits.md, 5: not measured")
    most_of_outcomes: int = _number(128 << 20, "docs/design-gpu-fits.md, 5: computed")
    move_span: int = _number(8192, "not measured since; docs/design-gpu.md, 4")
    most_workspaces: int = _number(4, "docs/design-gpu-fits.md, 5: not measured")
    pool_share: float = _number(1 / 64, "docs/design-gpu-fits.md, 5: not measured")

    # (device, enough) -> bytes that can still be allocated there; from `enough` on, how many more does not matter
    room: Callable[[torch.device, int], int] = free_bytes
    # bytes that are in use there: a session with a limit takes what was added since it began for its own
    allocated: Callable[[torch.device], int] = allocated_bytes
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
    # (N, D, K) -> what decides for each pass whether it begins in 8 bits; None: `PrecisionPolicy`
    precision: Callable[[int, int, int], Any] | None = None
    # (launches, shape of the Hopper screen) -> begins to compile these; None: in threads, if there is a GPU
    compile: Callable[..., None] | None = None
    # copies rows to the device (`rows.upload.Copies`); None: a stream of its own, if there is a GPU
    copies: Callable[[torch.device], Any] | None = None

    def seconds(self, n: int, k: int, d: int) -> float:
        """Of a pass, about."""
        return n * (d * k * self.per_product + self.per_row)


DEFAULT = Tuning()


def pooled_bytes(n: int, k: int, d: int, entry_bytes: int) -> int:
    """What a pooled workspace takes, about, the copy of the rows included."""
    return n * (d * (entry_bytes + 2) + 256) + k * (d * (32 + 5 * SLOTS) + 64)


# ----------------------------------------------------------------------- chips


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and centroids of one program's product, its warps, and the depth of its pipeline."""

    rows: int
    columns: int
    warps: int
    stages: int
    record: str


TILES: dict[str, Tile] = {
    "interpreter": Tile(rows=64, columns=64, warps=4, stages=1, record="correctness only"),
    "sm_90": Tile(rows=128, columns=128, warps=8, stages=3, record="gpu.jsonl, screen: 4.1 ms, H200"),
    "sm_80": Tile(rows=128, columns=128, warps=8, stages=3, record="not measured"),
}


def tile_for(device: str, shared_memory: int) -> Tile:
    """The row of the table, or the largest square-ish tile whose two stages fit the device's shared memory."""
    if device in TILES:
        return TILES[device]
    for rows, columns, warps in ((128, 128, 8), (128, 64, 4), (64, 64, 4), (32, 32, 4)):
        if 2 * (rows + columns) * 64 * 2 <= shared_memory:
            return Tile(rows, columns, warps, 2, "computed from the shared memory")
    return Tile(16, 16, 4, 1, "the smallest product there is")


@functools.cache
def describe(device: torch.device) -> tuple[str, int, int]:
    """The chip's name in the table of tiles, its shared memory per block in bytes, and its multiprocessors."""
    if device.type != "cuda":
        return "interpreter", 0, 4
    found = torch.cuda.get_device_properties(device)
    shared = getattr(found, "shared_memory_per_block_optin", 49152)
    return f"sm_{found.major}{found.minor}", shared, found.multi_processor_count


@dataclass(frozen=True, slots=True)
class Adder:
    """How tensor cores add float16 products, which are exact, to a float32 accumulator.

    block   products that are added at once: these and the accumulator are aligned to the largest exponent,
    bits    and cut to so many fractional bits, then to float32
    """

    block: int
    bits: int
    record: str


_FASI = "Fasi et al. 2021"
# by compute capability, major and minor; minor None: every other one
ADDERS: dict[tuple[int, int | None], Adder] = {
    (7, 0): Adder(block=4, bits=23, record=_FASI),
    (7, 5): Adder(block=8, bits=24, record=_FASI),
    (8, None): Adder(block=8, bits=24, record=_FASI),
    (9, 0): Adder(block=16, bits=25, record="Khattak & Mikaitis 2025; docs/design-gpu.md"),
    (10, 0): Adder(block=16, bits=25, record="Khattak & Mikaitis 2025"),
}


def adder_of(device: torch.device) -> Adder | None:
    """The adders of a CUDA device; None: not known."""
    if torch.version.hip:
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return ADDERS.get((major, minor), ADDERS.get((major, None)))


# ---------------------------------------------------------------------- 8 bits


@dataclass(frozen=True, slots=True)
class CascadeCosts:
    """What passes that begin in 8 bits cost, in nanoseconds a row, by rates per nanosecond.

    least_features  below, ranking the scores takes as long as products in 8 bits save
    close           what 8 bits lose of a score, about, where no entry of a row is much larger than the others: a row's
                    and a centroid's own loss, twice. An estimate that only decides what is tried
    worth           of the time of float16 alone: below, the second copy pays within a few passes
    halves, codes   products in float16 and in 8 bits
    per_row         of the first stage
    per_score       ... where products don't hide the ranking of scores
    gathered        entries of rows that are gathered and screened again
    compared        entries of rows whose two candidates are compared
    second          of the second stage
    """

    least_features: int = _number(256, "docs/design-gpu.md, 1: not measured")
    close: float = _number(2 * (0.0074 + 0.0125), "docs/design-gpu.md, 1: computed")
    worth: float = _number(0.92, "docs/design-gpu.md, 1: not measured")
    halves: float = _number(330e3, "real screens")
    codes: float = _number(850e3, "real screens")
    per_row: float = _number(0.22, "real screens")
    per_score: float = _number(5.2e-5, "real screens")
    gathered: float = _number(550.0, "real screens")
    compared: float = _number(1200.0, "real screens")
    second: float = _number(0.1, "real screens")


COSTS = CascadeCosts()
_AHEAD = 2  # passes queued while an earlier one is read


class PrecisionPolicy:
    """Whether 8 bits come first, pass by pass: counted two passes ago, so that nothing waits for the device.

    asks  whether the pass begun last shall be counted: less and less often, as little changes later
    """

    def __init__(self, n_rows: int, n_features: int, n_clusters: int) -> None:
        self._shape = (n_rows, n_features, n_clusters)
        self._counted: deque[tuple[int, Callable[[], list[float]], bool]] = deque()
        self._integers, self._open, self._passes = False, True, 0

    @property
    def asks(self) -> bool:
        return self._passes.bit_count() == 1

    def next(self) -> bool:
        """For the next pass. Once 8 bits were tried and did not pay, float16 stays."""
        self._passes += 1
        while self._counted and self._passes - self._counted[0][0] >= _AHEAD:
            _, read, integers = self._counted.popleft()
            counts = read()
            if self._open and integers == self._integers:
                self._integers = self.pays(counts, integers)
                self._open = self._integers or not integers
        return self._integers

    def note(self, read: Callable[[], list[float]], integers: bool) -> None:
        """What reads the counts of the pass (`pays`), once they are needed."""
        self._counted.append((self._passes, read, integers))

    def pays(self, counts: list[float], integers: bool) -> bool:
        """Whether 8 bits pay, by `Uncertified.counts` of a pass in 8 bits, or of the sample in one of float16.

        Of a float16 pass, counts[2] and counts[3] are the sampled rows whose second and third scores are close.
        """
        n, d, k = self._shape
        if integers:
            crowded, pairs = counts[0] / n, counts[1] / n
        else:
            sampled = max(1, n // SAMPLED)
            crowded, pairs = counts[3] / sampled, (counts[2] - counts[3]) / sampled
        half = d * k / COSTS.halves
        first = COSTS.per_row + k * COSTS.per_score + d * k / COSTS.codes
        second = crowded * (half + d / COSTS.gathered) + pairs * d / COSTS.compared + COSTS.second
        return first + second < COSTS.worth * half

"""Numbers that belong to a chip, as tables: what was measured, where, and a default for every other device.

`record` names what justifies a row: a line of benchmarks/results/, or a publication.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch


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

"""The portable screen: fp16 products, a running top two per row, and the certificate (docs/gpu.md).

Meaning: `backends/reference.py`, `ReferenceBackend.assign`. `screen_hopper.cu` is the same screen for one chip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.chips import Tile
from cosmeans.backends.gpu.kernels.columns import Quantised
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.backends.gpu.kernels.quantize import Copy

SLACK = tl.constexpr(1.0)  # tests make it smaller, to see that the bound is needed


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Rows whose label the screen can't prove, in two lists of `capacity` rows each.

    rows, scores          (capacity,) int32 and float32: rows to be screened again, and the best score of each
    pairs, pair_clusters  (capacity,) and (2 * capacity,) int32: rows with two candidates, and these in ascending order
    counts                (4,) int32: the lengths of both; `choice.Choice` explains the others
    """

    rows: Tensor
    scores: Tensor
    pairs: Tensor
    pair_clusters: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, capacity: int, device: torch.device) -> Doubtful:
        sizes = {"rows": capacity, "scores": capacity, "pairs": capacity, "pair_clusters": 2 * capacity, "counts": 4}
        lists = {name: torch.empty(size, dtype=torch.int32, device=device) for name, size in sizes.items()}
        return cls(**{**lists, "scores": lists["scores"].view(torch.float32)})


@dataclass(frozen=True, slots=True)
class Listed:
    """What a gathered copy holds: the first rows of a list, as far as list and copy go.

    rows (capacity,) int32, count (1,) int32
    """

    rows: Tensor
    count: Tensor


@triton.jit
def certified_gap(residual, bounds_ptr, accumulation, rounding):
    """2 E of the certificate, rounded up: a larger gap proves the label. -1 residuals (rows not kept) give any.

    The last factor covers the gap's own rounding, too: that of a score times its row's unit.

    bounds  max ||c - cq||, max ||c||, max ||cq|| over all centroids, rounded up
    """
    rho, longest, longest_half = tl.load(bounds_ptr), tl.load(bounds_ptr + 1), tl.load(bounds_ptr + 2)
    row_half = 1.0 + 2.0**-19 + residual
    error = residual * longest + row_half * (rho + accumulation * longest_half) + rounding + 2.0**-45
    return 2.0 * error * ((1.0 + 2.0**-18) * SLACK)


@triton.jit
def _top_two(scores, column, best, second, winner):
    """The running top two with one more tile of scores (TILE_N, TILE_K)."""
    top = tl.max(scores, axis=1)
    first = tl.min(tl.where(scores == top[:, None], column[None, :], 0x7FFFFFFF), axis=1)
    rest = tl.max(tl.where(column[None, :] == first[:, None], float("-inf"), scores), axis=1)
    second = tl.maximum(tl.maximum(second, rest), tl.minimum(best, top))
    winner = tl.where(top > best, first, winner)
    return tl.maximum(best, top), second, winner


@triton.jit(do_not_specialize=["start", "n_rows"])
def _screen(
    halves_ptr,
    residuals_ptr,
    units_ptr,
    centroids_ptr,
    original_ptr,
    n_columns_ptr,
    bounds_ptr,
    labels_ptr,
    list_ptr,
    list_scores_ptr,
    counts_ptr,
    listed_ptr,
    n_listed_ptr,
    start,
    n_rows,
    width,
    accumulation,
    rounding,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
    INTEGERS: tl.constexpr,
    LISTED: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    if LISTED:
        n_rows = tl.minimum(n_rows, tl.load(n_listed_ptr))
        if tl.program_id(0) * TILE_N >= n_rows:
            return
    inside = row < n_rows
    depth = tl.arange(0, 64)
    n_columns = tl.load(n_columns_ptr)
    best = tl.full((TILE_N,), float("-inf"), tl.float32)
    second = tl.full((TILE_N,), float("-inf"), tl.float32)
    winner = tl.zeros((TILE_N,), tl.int32)
    rows_ptr = halves_ptr + (start + row)[:, None] * width + depth[None, :]
    for first in range(0, n_columns, TILE_K):
        column = first + tl.arange(0, TILE_K)
        columns_ptr = centroids_ptr + column.to(tl.int64)[None, :] * width + depth[:, None]
        sums = tl.zeros((TILE_N, TILE_K), tl.int32 if INTEGERS else tl.float32)
        for step in range(0, width, 64):
            a = tl.load(rows_ptr + step, mask=inside[:, None], other=0)
            b = tl.load(columns_ptr + step, mask=(column < n_columns)[None, :], other=0)
            sums = tl.dot(a, b, sums, out_dtype=sums.dtype)
        scores = tl.where((column < n_columns)[None, :], sums.to(tl.float32), float("-inf"))
        best, second, winner = _top_two(scores, column, best, second, winner)
    residual = tl.load(residuals_ptr + start + row, mask=inside, other=-1.0)
    kept = residual >= 0.0
    unit = tl.load(units_ptr + start + row, mask=inside, other=1.0)
    if LISTED:
        row = tl.load(listed_ptr + row, mask=inside, other=0)
    label = tl.load(original_ptr + winner, mask=inside, other=0)
    tl.store(labels_ptr + row, tl.where(kept, label, -1), mask=inside)
    if INTEGERS:
        unit *= tl.load(bounds_ptr + 3)
    certain = (best - second) * unit > certified_gap(residual, bounds_ptr, accumulation, rounding)
    doubtful = inside & kept & (certain == 0)
    number = doubtful.to(tl.int32)
    total = tl.sum(number)
    if total > 0:
        at = tl.atomic_add(counts_ptr, total) + tl.cumsum(number, axis=0) - 1
        tl.store(list_ptr + at, row.to(tl.int32), mask=doubtful)
        tl.store(list_scores_ptr + at, best * unit, mask=doubtful)


@dataclass(frozen=True, slots=True)
class Errors:
    """What the certificate allows for beside the residuals (docs/gpu.md, section 1).

    accumulation  of the device's adders, relative to ||xq|| ||cq||; 0 for integers
    rounding      of a score by the screen
    """

    accumulation: float
    rounding: float


def screen(
    copy: Copy,
    start: int,
    centroids: Quantised,
    labels: Tensor,
    doubtful: Doubtful,
    errors: Errors,
    tile: Tile,
    listed: Listed | None = None,
) -> None:
    """Label rows start .. start + len(labels) of a row-major copy; rows without proof are listed, all as `rows`.

    Labels of listed rows are preliminary. `doubtful.counts` must be zero before. listed: which of the labelled rows
    the copy holds, from its beginning on; None: all in order.
    """
    n_rows = len(labels) if listed is None else len(copy.units)
    launch(
        _screen,
        triton.cdiv(n_rows, tile.rows),
        *(copy.values, copy.residuals, copy.units, centroids.values, centroids.original, centroids.n_columns),
        *(centroids.bounds, labels, doubtful.rows, doubtful.scores, doubtful.counts),
        *((labels, labels) if listed is None else (listed.rows, listed.count)),
        *(start, n_rows, centroids.width, errors.accumulation, errors.rounding),
        TILE_N=tile.rows,
        TILE_K=tile.columns,
        INTEGERS=copy.integers,
        LISTED=listed is not None,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def accumulation_error(n_features: int, device: torch.device) -> float:
    """acc of the certificate, relative to ||xq|| ||cq||: how far fp16 products drift in this device's adders.

    Products are exact; a block of L of them and the accumulator is aligned to the largest exponent, cut to F
    fractional bits, then to float32. Source: Fasi et al. 2021; Khattak & Mikaitis 2025; docs/gpu.md.
    """
    if device.type != "cuda":  # the interpreter adds in IEEE float32
        return n_features * 2.0**-24 * 1.005
    major, minor = (0, 0) if torch.version.hip else torch.cuda.get_device_capability(device)
    block, bits = _ADDERS.get((major, minor), _ADDERS.get((major, -1), (0, 0)))
    if not block:  # an unknown adder: four times the IEEE bound
        return 4.0 * n_features * 2.0**-24
    return 1.005 * -(-n_features // block) * ((block + 1) * 2.0**-bits + 2.0**-23)


# L and F by compute capability; -1 stands for every minor number
_ADDERS = {(7, 0): (4, 23), (7, 5): (8, 24), (8, -1): (8, 24), (9, 0): (16, 25), (10, 0): (16, 25)}

"""The portable screen: low-precision products, a running top two per row, and the certificate (docs/design-gpu.md).

Meaning: `backends/reference.py`, `ReferenceBackend.assign`. `screen_hopper.cu` is the same screen for one chip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.tuning import Tile, adder_of

# Parts of the certificate, shared with screen_hopper.cu. A unit row is at most this much longer than 1; scores may lose
# this much where entries are below the smallest normal number; this covers the rounding of the bound and of the gap.
UNIT_EXCESS, UNDERFLOW, BOUND_ROUNDING = tl.constexpr(2.0**-19), tl.constexpr(2.0**-45), tl.constexpr(2.0**-18)


@dataclass(frozen=True, slots=True)
class Uncertified:
    """Rows whose label the screen can't prove, in two lists of `capacity` rows each.

    rows, scores   (capacity,) int32 and float32: rows with many candidates, and the best score of each
    pairs          (capacity,) int32: rows with two candidates
    pair_clusters  (2 * capacity,) int32: these candidates, in ascending order
    counts         (4,) int32: the lengths of both lists; of sampled rows, those with a close second and a close third
                   score (`screen_hopper.screen`)
    """

    rows: Tensor
    scores: Tensor
    pairs: Tensor
    pair_clusters: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, capacity: int, device: torch.device) -> Uncertified:
        sizes = {"rows": capacity, "scores": capacity, "pairs": capacity, "pair_clusters": 2 * capacity, "counts": 4}
        lists = {name: torch.empty(size, dtype=torch.int32, device=device) for name, size in sizes.items()}
        return cls(**{**lists, "scores": lists["scores"].view(torch.float32)})


@dataclass(frozen=True, slots=True)
class GatherList:
    """Which rows a gathered copy holds: the first rows of a list, until the list or the copy ends.

    rows (capacity,) int32, count (1,) int32
    """

    rows: Tensor
    count: Tensor


@triton.jit
def certified_gap(residual, bounds_ptr, accumulation, rounding):
    """2 E of the certificate, rounded up: a larger gap proves the label. Of rows that are not kept it has no meaning.

    bounds  max ||c - cq||, max ||c||, max ||cq|| over all centroids, rounded up
    """
    most_lost, longest, longest_quantised = tl.load(bounds_ptr), tl.load(bounds_ptr + 1), tl.load(bounds_ptr + 2)
    row_quantised = 1.0 + UNIT_EXCESS + residual
    error = residual * longest + row_quantised * (most_lost + accumulation * longest_quantised) + rounding + UNDERFLOW
    return 2.0 * error * (1.0 + BOUND_ROUNDING)


@triton.jit
def _top_two(scores, column, best, second, winner):
    """The running top two, and the column of the best, with one more tile of scores (TILE_N, TILE_K)."""
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
    scales_ptr,
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
    """TILE_N rows: scores with all columns, their top two, and the certificate. LISTED: of a gathered copy."""
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
    unit = tl.load(scales_ptr + start + row, mask=inside, other=1.0)
    if LISTED:
        row = tl.load(listed_ptr + row, mask=inside, other=0)
    label = tl.load(original_ptr + winner, mask=inside, other=0)
    tl.store(labels_ptr + row, tl.where(kept, label, -1), mask=inside)
    if INTEGERS:
        unit *= tl.load(bounds_ptr + 3)
    certain = (best - second) * unit > certified_gap(residual, bounds_ptr, accumulation, rounding)
    uncertified = inside & kept & (certain == 0)
    number = uncertified.to(tl.int32)
    total = tl.sum(number)
    if total > 0:
        item = tl.atomic_add(counts_ptr, total) + tl.cumsum(number, axis=0) - 1
        tl.store(list_ptr + item, row.to(tl.int32), mask=uncertified)
        tl.store(list_scores_ptr + item, best * unit, mask=uncertified)


@dataclass(frozen=True, slots=True)
class Errors:
    """What the certificate allows for besides the residuals (docs/design-gpu.md).

    accumulation  what the device's adders lose, relative to ||xq|| ||cq||; 0 for integers
    rounding      what the screen takes away from a score
    """

    accumulation: float
    rounding: float


def screen(
    copy: QuantizedRows,
    start: int,
    centroids: QuantizedCentroids,
    labels: Tensor,
    uncertified: Uncertified,
    errors: Errors,
    tile: Tile,
    listed: GatherList | None = None,
) -> None:
    """Label rows start .. start + len(labels) of a row-major copy; uncertified rows are listed, all as `rows`.

    Labels of listed rows are preliminary. `uncertified.counts` must be zero before. listed: which of the labelled rows
    the copy holds, from its first row on; None: all of them, in order.
    """
    n_rows = len(labels) if listed is None else len(copy.scales)
    launch(
        _screen,
        triton.cdiv(n_rows, tile.rows),
        *(copy.values, copy.residuals, copy.scales, centroids.values, centroids.original, centroids.n_columns),
        *(centroids.bounds, labels, uncertified.rows, uncertified.scores, uncertified.counts),
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
    """acc of the certificate: what this device's adders lose of sums of float16 products, relative to ||xq|| ||cq||."""
    if device.type != "cuda":  # the interpreter adds in IEEE float32
        return n_features * 2.0**-24 * 1.005
    adder = adder_of(device)
    if adder is None:  # four times the IEEE bound
        return 4.0 * n_features * 2.0**-24
    return 1.005 * -(-n_features // adder.block) * ((adder.block + 1) * 2.0**-adder.bits + 2.0**-23)

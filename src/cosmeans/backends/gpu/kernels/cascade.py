"""The cascade: 8 bits screen all rows, float16 those that 8 bits can't certify (docs/design-gpu.md).

8-bit products run at twice the rate of float16 and lose thirty times as much. On real embeddings they prove most
labels all the same, on random directions few. Labels don't depend on it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.exact import padded, rint32, tile_offset, warps_for
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.backends.gpu.kernels.quantize import LARGEST_CODE, QuantizedRows, allocated, width_of
from cosmeans.backends.gpu.kernels.screen import GatherList, Uncertified, certified_gap
from cosmeans.errors import BackendUnavailableError

MOST_FEATURES = 2080  # 127^2 D < 2^25: sums of products of codes, times 64, are 32-bit integers

_GATHERED = 4  # one of so many rows can be gathered: where there are more of them, 8 bits don't pay
_LEAST_GATHERED = 1 << 14


class CascadeWorkspace:
    """Memory for the second stage of at most `capacity` rows.

    uncertified  the rows that the first stage can't certify
    gathered  float16 copies of as many of them as there is memory for
    listed    which rows these are
    """

    def __init__(
        self, capacity: int, n_features: int, tile: int, device: torch.device, *, n_gathered: int | None = None
    ) -> None:
        """n_gathered: rows that can be gathered; None: `gathered_rows`."""
        rows = gathered_rows(capacity) if n_gathered is None else n_gathered
        self.uncertified = Uncertified.empty(capacity, device)
        self.gathered = QuantizedRows.empty(rows, n_features, tile, device)
        self.listed = GatherList(self.uncertified.rows, self.uncertified.counts[:1])


def gathered_rows(n_rows: int) -> int:
    """How many of n rows can be gathered."""
    return min(n_rows, max(_LEAST_GATHERED, -(-n_rows // _GATHERED)))


# ------------------------------------------------------------- columns in 8 bits


class IntegerWorkspace:
    """Memory for the 8-bit columns of a pass; made once per fit.

    Raises BackendUnavailableError for more than MOST_FEATURES features.
    """

    def __init__(self, n_clusters: int, n_features: int, tile: int, device: torch.device) -> None:
        if n_features > MOST_FEATURES:
            raise BackendUnavailableError(
                f"The 8-bit screen adds up at most {MOST_FEATURES} features without overflow, and these rows have "
                f"{n_features}. Use the float16 screen (integers=False)."
            )
        self.tile, self.width = tile, width_of(n_features, integers=True)
        n_codes = allocated(n_clusters, tile) * self.width
        self.codes = torch.zeros(n_codes, dtype=torch.int8, device=device)  # zeroed once, as `CentroidWorkspace.halves`
        self.bounds = torch.empty(4, dtype=torch.float32, device=device)

    def quantize(self, centroids: QuantizedCentroids) -> QuantizedCentroids:
        """The same columns as 8-bit codes of one unit, bounds[3]; the other bounds are those of the codes."""
        k, d = centroids.centroids.shape
        size = padded(max(d, self.width))
        shape = {"P": size, "num_warps": warps_for(size)}
        self.bounds.zero_()
        launch(_largest, k, centroids.centroids, self.bounds, d, **shape)
        launch(
            _write_codes,
            k,
            *(centroids.centroids, centroids.original, centroids.n_columns, self.codes, self.bounds, d, self.width),
            TILE=self.tile,
            **shape,
        )
        launch(_finish_bounds, 1, centroids.bounds, self.bounds, num_warps=1)
        return replace(centroids, values=self.codes, bounds=self.bounds, width=self.width, tile=self.tile)


@triton.jit
def _raise_to(maximum_ptr, value):
    """Atomic maximum of nonnegative float32, which are ordered as their bits are."""
    tl.atomic_max(maximum_ptr.to(tl.pointer_type(tl.int32)), value.to(tl.int32, bitcast=True), sem="relaxed")


@triton.jit
def _largest(centroids_ptr, bounds_ptr, n_features, P: tl.constexpr):
    """The largest entry of all centroids, until `_finish_bounds` in bounds[3]."""
    feature = tl.arange(0, P)
    index = tl.program_id(0).to(tl.int64) * n_features + feature
    values = tl.load(centroids_ptr + index, mask=feature < n_features, other=0.0)
    _raise_to(bounds_ptr + 3, tl.max(tl.abs(values)))


@triton.jit
def _write_codes(
    centroids_ptr,
    original_ptr,
    n_columns_ptr,
    codes_ptr,
    bounds_ptr,
    n_features,
    width,
    P: tl.constexpr,
    TILE: tl.constexpr,
):
    """The codes of one column; max ||c - cq|| and max ||cq|| in bounds[0] and bounds[2]."""
    column = tl.program_id(0)
    if column < tl.load(n_columns_ptr):
        feature = tl.arange(0, P)
        k = tl.load(original_ptr + column).to(tl.int64)
        values = tl.load(centroids_ptr + k * n_features + feature, mask=feature < n_features, other=0.0)
        unit = tl.load(bounds_ptr + 3) / LARGEST_CODE
        nearest, _ = rint32(values / unit)
        code = tl.minimum(tl.maximum(nearest, -LARGEST_CODE), LARGEST_CODE)
        target = codes_ptr + tile_offset(column.to(tl.int64), feature, width, TILE, 16)
        tl.store(target, code.to(tl.int8), mask=feature < width)
        rounded = code * unit
        lost = values - rounded
        # rounded up as in `_length`, and for the rounding of the products of code and unit
        factor = 1.0 + (n_features + 8) * 2.0**-22
        _raise_to(bounds_ptr, tl.sqrt(tl.sum(lost * lost)) * factor + 2.0**-22)
        _raise_to(bounds_ptr + 2, tl.sqrt(tl.sum(rounded * rounded)) * factor + 2.0**-22)


@triton.jit
def _finish_bounds(halves_bounds_ptr, bounds_ptr):
    """max ||c||, and the unit in place of the largest entry."""
    tl.store(bounds_ptr + 1, tl.load(halves_bounds_ptr + 1))
    tl.store(bounds_ptr + 3, tl.load(bounds_ptr + 3) / LARGEST_CODE)


# ------------------------------------------------------------- the second stage


@triton.jit(do_not_specialize=["start", "most"])
def _gather(
    values_ptr,
    residuals_ptr,
    scales_ptr,
    list_ptr,
    list_scores_ptr,
    counts_ptr,
    code_residuals_ptr,
    bounds_ptr,
    into_values_ptr,
    into_residuals_ptr,
    into_scales_ptr,
    left_ptr,
    left_scores_ptr,
    left_counts_ptr,
    rounding,
    start,
    code_start,
    most,
    words,
    P: tl.constexpr,
    TILE: tl.constexpr,
):
    """Copies of the listed rows, 64 bits at a time. Rows that don't fit are listed in `left` for refining, each with a
    lower bound on its best score.
    """
    word = tl.arange(0, P)
    for item in range(tl.program_id(0), tl.load(counts_ptr), tl.num_programs(0)):
        listed = tl.load(list_ptr + item)
        row = start + listed.to(tl.int64)
        if item < most:
            target = tl.zeros((), tl.int64) + item  # as int64
            values = tl.load(values_ptr + tile_offset(row, word, words, TILE, 2), mask=word < words, other=0)
            tl.store(into_values_ptr + tile_offset(target, word, words, TILE, 2), values, mask=word < words)
            tl.store(into_residuals_ptr + item, tl.load(residuals_ptr + row))
            tl.store(into_scales_ptr + item, tl.load(scales_ptr + row))
        else:
            end = tl.atomic_add(left_counts_ptr, 1, sem="relaxed")
            residual = tl.load(code_residuals_ptr + code_start + listed)
            lost = certified_gap(residual, bounds_ptr, 0.0, rounding)
            tl.store(left_ptr + end, listed)
            tl.store(left_scores_ptr + end, tl.load(list_scores_ptr + item) - lost)


def gather(
    copy: QuantizedRows,
    start: int,
    codes: QuantizedRows,
    code_start: int,
    bounds: Tensor,
    rounding: float,
    space: CascadeWorkspace,
    left: Uncertified,
    programs: int,
) -> None:
    """Gather the rows that the first stage lists, in the order of the list; those that don't fit are listed in `left`.

    copy, start        float16 rows, and where in them the screened ones begin
    codes, code_start  the same of 8-bit rows
    bounds, rounding   of the first stage
    """
    found, into = space.uncertified, space.gathered
    words = copy.width // 4
    size = padded(words)
    launch(
        _gather,
        16 * programs,
        *(copy.values.view(torch.int64), copy.residuals, copy.scales, found.rows, found.scores, found.counts),
        *(codes.residuals, bounds, into.values.view(torch.int64), into.residuals, into.scales),
        *(left.rows, left.scores, left.counts, rounding, start, code_start, len(into.scales), words),
        P=size,
        TILE=copy.tile,
        num_warps=warps_for(size),
    )


@triton.jit(do_not_specialize=["start"])
def _compare(
    values_ptr,
    residuals_ptr,
    scales_ptr,
    centroids_ptr,
    pairs_ptr,
    pair_clusters_ptr,
    counts_ptr,
    labels_ptr,
    left_ptr,
    left_clusters_ptr,
    left_counts_ptr,
    start,
    n_features,
    width,
    P: tl.constexpr,
    TILE: tl.constexpr,
):
    """Decide between the two candidates a and b of a row x. From its float16 copy, x (a - b) proves the label if it is
    larger than what that copy and float32 sums lose. Otherwise the pair is listed in `left`.
    """
    feature = tl.arange(0, P)
    mask = feature < n_features
    for item in range(tl.program_id(0), tl.load(counts_ptr + 1), tl.num_programs(0)):
        target = tl.load(pairs_ptr + item)
        row = start + target.to(tl.int64)
        a = tl.load(pair_clusters_ptr + 2 * item)
        b = tl.load(pair_clusters_ptr + 2 * item + 1)
        half = tl.load(values_ptr + tile_offset(row, feature, width, TILE, 8), mask=mask, other=0.0).to(tl.float32)
        ours = tl.load(centroids_ptr + a.to(tl.int64) * n_features + feature, mask=mask, other=0.0)
        theirs = tl.load(centroids_ptr + b.to(tl.int64) * n_features + feature, mask=mask, other=0.0)
        apart = ours - theirs
        residual = tl.load(residuals_ptr + row)
        gap = tl.sum(half * apart) * tl.load(scales_ptr + row)
        # float32 differences, products and sums lose less than (D + 8) 2^-24 of the lengths; rounded up
        distance = tl.sqrt(tl.sum(apart * apart)) * (1.0 + (n_features + 8) * 2.0**-22)
        lost = residual + (1.0 + 2.0**-19 + residual) * (n_features + 8) * 1.02 * 2.0**-24
        certain = tl.abs(gap) > lost * distance * (1.0 + 2.0**-18) + 2.0**-43
        if certain:
            tl.store(labels_ptr + target, tl.where(gap > 0, a, b))
        else:
            end = tl.atomic_add(left_counts_ptr + 1, 1, sem="relaxed")
            tl.store(left_ptr + end, target)
            tl.store(left_clusters_ptr + 2 * end, a)
            tl.store(left_clusters_ptr + 2 * end + 1, b)


def compare(
    copy: QuantizedRows,
    start: int,
    centroids: Tensor,
    found: Uncertified,
    labels: Tensor,
    left: Uncertified,
    programs: int,
) -> None:
    """Label rows with two known candidates by their float16 copies; pairs without proof are listed in `left`.

    copy, start  float16 rows, and where in them the labelled ones begin
    centroids    (K, D) float32
    """
    d = centroids.shape[1]
    size = padded(d)
    launch(
        _compare,
        32 * programs,
        *(copy.values, copy.residuals, copy.scales, centroids, found.pairs, found.pair_clusters, found.counts),
        *(labels, left.pairs, left.pair_clusters, left.counts, start, d, copy.width),
        P=size,
        TILE=copy.tile,
        num_warps=warps_for(size),
    )

"""Centroids in 8 bits for the screen of rows in 8 bits: twice the rate of fp16, and bounds that are wider.

The first rung of `ladder.py`; `choice.py` decides when it pays (docs/gpu.md, section 1).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl

from cosmeans.backends.gpu.canonical import padded, place, warps
from cosmeans.backends.gpu.centroids import Quantised
from cosmeans.backends.gpu.kernel import Kernel
from cosmeans.backends.gpu.rows import LARGEST, ROUNDER, width_of
from cosmeans.errors import BackendUnavailableError

MOST_FEATURES = 2080  # 127^2 D < 2^25: sums of products times 64 are 32-bit integers


class IntegerSpace:
    """Memory for the 8-bit centroids of a pass; made once per fit."""

    def __init__(self, n_clusters: int, n_features: int, tile: int, device: torch.device) -> None:
        if n_features > MOST_FEATURES:
            raise BackendUnavailableError(
                f"The 8-bit screen adds up at most {MOST_FEATURES} features without overflow, and these rows have "
                f"{n_features}. Use the float16 screen (integers=False)."
            )
        places = -(-n_clusters // max(1, tile)) * max(1, tile)
        self.tile, self.width = tile, width_of(n_features, integers=True)
        # zeros once: places that no centroid fills are read as centroids of score 0 and masked
        self.codes = torch.zeros(places * self.width, dtype=torch.int8, device=device)
        self.bounds = torch.empty(4, dtype=torch.float32, device=device)

    def quantise(self, centroids: Quantised) -> Quantised:
        """The same columns as 8-bit codes of one unit, which is bounds[3]; the other bounds are those of the codes."""
        k, d = centroids.centroids.shape
        size = padded(max(d, self.width))
        shape = {"P": size, "num_warps": warps(size)}
        self.bounds.zero_()
        _largest[(k,)](centroids.centroids, self.bounds, d, **shape)
        _write_codes[(k,)](
            *(centroids.centroids, centroids.original, centroids.n_columns, self.codes, self.bounds, d, self.width),
            TILE=self.tile,
            **shape,
        )
        _finish_bounds[(1,)](centroids.bounds, self.bounds, num_warps=1)
        return replace(centroids, values=self.codes, bounds=self.bounds, width=self.width, tile=self.tile)


@triton.jit
def _raise(place_ptr, value):
    """Nonnegative floats are ordered as their bits are."""
    tl.atomic_max(place_ptr.to(tl.pointer_type(tl.int32)), value.to(tl.int32, bitcast=True), sem="relaxed")


@Kernel
@triton.jit
def _largest(centroids_ptr, bounds_ptr, n_features, P: tl.constexpr):
    """The largest entry of all, for the moment in bounds[3]."""
    feature = tl.arange(0, P)
    at = tl.program_id(0).to(tl.int64) * n_features + feature
    values = tl.load(centroids_ptr + at, mask=feature < n_features, other=0.0)
    _raise(bounds_ptr + 3, tl.max(tl.abs(values)))


@Kernel
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
        unit = tl.load(bounds_ptr + 3) / LARGEST
        code = tl.minimum(tl.maximum((values / unit + ROUNDER) - ROUNDER, -LARGEST), LARGEST)
        tl.store(codes_ptr + place(column.to(tl.int64), feature, width, TILE, 16), code.to(tl.int8), feature < width)
        rounded = code * unit
        lost = values - rounded
        # rounded up: sums of D squares in float32, the products of code and unit
        factor = 1.0 + (n_features + 8) * 2.0**-22
        _raise(bounds_ptr, tl.sqrt(tl.sum(lost * lost)) * factor + 2.0**-22)
        _raise(bounds_ptr + 2, tl.sqrt(tl.sum(rounded * rounded)) * factor + 2.0**-22)


@Kernel
@triton.jit
def _finish_bounds(halves_bounds_ptr, bounds_ptr):
    tl.store(bounds_ptr + 1, tl.load(halves_bounds_ptr + 1))
    tl.store(bounds_ptr + 3, tl.load(bounds_ptr + 3) / LARGEST)

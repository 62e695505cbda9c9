"""Quantised centroids, the columns of the screen (docs/design-gpu.md).

Equal centroids would leave all their rows without proof, so only the first of them becomes a column. The same columns
in 8 bits are made by `cascade.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import padded, tile_offset, warps_for
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.backends.gpu.kernels.quantize import allocated, width_of

_SCAN = 1024  # centroids that a program reads at once
_COMPARED = tl.constexpr(4096)  # entries that a program compares


@dataclass(frozen=True, slots=True)
class QuantizedCentroids:
    """Centroids as the screen reads them: columns cq. Equal centroids are one column, that of the first of them.

    centroids  (K, D) float32
    values     flat float16 or int8, indexed by `exact.tile_offset`
    original   (K,) int32: the centroid of each column; n_columns (1,) int32 of them count
    bounds     (3,) float32: max ||c - cq||, max ||c||, max ||cq|| over all centroids, rounded up; with codes (4,): the
               last is the unit of all codes
    width      D rounded up to a multiple of 64, or of 128 codes
    tile       centroids of one swizzled tile, 0: row-major
    codes      the same columns in 8 bits, where these are screened first (`cascade.py`)
    """

    centroids: Tensor
    values: Tensor
    original: Tensor
    n_columns: Tensor
    bounds: Tensor
    width: int
    tile: int
    codes: QuantizedCentroids | None = None


class CentroidWorkspace:
    """Memory for the float16 columns of a pass; made once per fit."""

    def __init__(self, n_clusters: int, n_features: int, tile: int, device: torch.device, *, scan: int = _SCAN) -> None:
        """scan: centroids that a program reads at once, a power of two."""
        self.tile, self.width, self.scan = tile, width_of(n_features), scan
        # zeroed once: columns without a centroid are read, too, with scores that are masked
        n_values = allocated(n_clusters, tile) * self.width
        self.halves = torch.zeros(n_values, dtype=torch.float16, device=device)
        self.hashes = torch.empty(n_clusters, dtype=torch.int64, device=device)
        # the first centroid of every bucket of hashes; there are so many buckets that few are shared by chance
        heads = 16 * padded(n_clusters)
        self.heads = torch.full((heads,), n_clusters, dtype=torch.int32, device=device)
        self.norms = torch.empty((3, n_clusters), dtype=torch.float32, device=device)
        self.is_first = torch.empty(n_clusters, dtype=torch.int32, device=device)
        # how many of each `scan` consecutive centroids are the first of their equals: gives the index of a column
        # without a launch of its own
        self.firsts = torch.empty(-(-n_clusters // scan), dtype=torch.int32, device=device)
        self.original = torch.empty(n_clusters, dtype=torch.int32, device=device)
        self.n_columns = torch.empty(1, dtype=torch.int32, device=device)
        self.bounds = torch.empty(3, dtype=torch.float32, device=device)

    def quantize(self, centroids: Tensor) -> QuantizedCentroids:
        """Write the float16 copies of the distinct centroids, their bounds, and which centroid each column is."""
        k, d = centroids.shape
        size = padded(max(d, self.width))
        shape = {"SCAN": self.scan, "P": size, "num_warps": warps_for(size)}
        last = len(self.heads) - 1
        launch(_fingerprint, k, centroids, self.hashes, self.heads, self.norms, self.firsts, k, d, last, **shape)
        launch(_first_of_equals, k, centroids, self.hashes, self.heads, self.is_first, self.firsts, d, last, **shape)
        launch(
            _write_columns,
            k,
            *(centroids, self.is_first, self.firsts, self.norms, self.heads),
            *(self.original, self.n_columns, self.bounds, self.halves),
            *(k, last, d, self.width),
            TILE=self.tile,
            **shape,
        )
        return self.columns(centroids)

    def columns(self, centroids: Tensor) -> QuantizedCentroids:
        """What `quantize` has written of these centroids."""
        columns = (self.halves, self.original, self.n_columns, self.bounds)
        return QuantizedCentroids(centroids, *columns, self.width, self.tile)


@triton.jit
def _length(values, n_features):
    """The length, rounded up: the sum of D squares in float32 and the root lose less than (D + 8) 2^-22 of it."""
    return tl.sqrt(tl.sum(values * values)) * (1.0 + (n_features + 8) * 2.0**-22)


@triton.jit
def _bucket(fingerprint, last):
    """The bucket of a hash; the number of buckets is a power of two, `last` the largest index."""
    return (fingerprint >> 20) & last


@triton.jit(do_not_specialize=["n_clusters", "last"])
def _fingerprint(
    centroids_ptr,
    hashes_ptr,
    heads_ptr,
    norms_ptr,
    firsts_ptr,
    n_clusters,
    n_features,
    last,
    SCAN: tl.constexpr,
    P: tl.constexpr,
):
    """A hash of the bits of each centroid, the first centroid of its bucket, and the lengths for the bounds."""
    k = tl.program_id(0).to(tl.int64)
    if k < tl.cdiv(n_clusters, SCAN):
        tl.store(firsts_ptr + k, 0)
    feature = tl.arange(0, P)
    values = tl.load(centroids_ptr + k * n_features + feature, mask=feature < n_features, other=0.0)
    bits = values.to(tl.int32, bitcast=True).to(tl.int64)
    mixed = (bits + 0x632BE5AB) * (2 * feature.to(tl.int64) + 0x9E3779B1)
    mixed = (mixed ^ (mixed >> 29)) * 0x5851F42D4C957F2D
    fingerprint = tl.sum(mixed)
    tl.store(hashes_ptr + k, fingerprint)
    tl.atomic_min(heads_ptr + _bucket(fingerprint, last), k.to(tl.int32), sem="relaxed")
    half = values.to(tl.float16).to(tl.float32)
    tl.store(norms_ptr + k, _length(values - half, n_features))
    tl.store(norms_ptr + n_clusters + k, _length(values, n_features))
    tl.store(norms_ptr + 2 * n_clusters + k, _length(half, n_features))


@triton.jit(do_not_specialize=["last"])
def _first_of_equals(
    centroids_ptr,
    hashes_ptr,
    heads_ptr,
    is_first_ptr,
    firsts_ptr,
    n_features,
    last,
    SCAN: tl.constexpr,
    P: tl.constexpr,
):
    """1 where no earlier centroid has the same bits. An earlier one with the same hash is compared bit by bit.

    Equal centroids share a bucket, so that the first of a bucket is the first of its equals. Any other looks at that
    one; if its hash is another one, the bucket is shared by chance, or holds what an interrupted pass left there, and
    all earlier hashes are searched.
    """
    k = tl.program_id(0)
    fingerprint = tl.load(hashes_ptr + k)
    head = tl.load(heads_ptr + _bucket(fingerprint, last))
    twin = tl.where(tl.load(hashes_ptr + head) == fingerprint, head, k)
    by_chance = (head < k) & (twin == k)
    for start in range(0, tl.where(by_chance, k, 0), SCAN):
        other = start + tl.arange(0, SCAN)
        hashes = tl.load(hashes_ptr + other, mask=other < k, other=0)
        twin = tl.minimum(twin, tl.min(tl.where((hashes == fingerprint) & (other < k), other, k)))
    feature = tl.arange(0, P)
    mask = feature < n_features
    ours = tl.load(centroids_ptr + k.to(tl.int64) * n_features + feature, mask=mask, other=0.0)
    theirs = tl.load(centroids_ptr + twin.to(tl.int64) * n_features + feature, mask=mask, other=0.0)
    differing = tl.sum((ours != theirs).to(tl.int32))
    is_first = ((twin == k) | (differing > 0)).to(tl.int32)
    tl.store(is_first_ptr + k, is_first)
    tl.atomic_add(firsts_ptr + k // SCAN, is_first, sem="relaxed")


@triton.jit
def _write_bounds(norms_ptr, bounds_ptr, n_clusters, SCAN: tl.constexpr):
    """The maxima of the lengths over all centroids."""
    most_lost, longest, longest_half = 0.0, 0.0, 0.0
    for start in range(0, n_clusters, SCAN):
        k = start + tl.arange(0, SCAN)
        inside = k < n_clusters
        most_lost = tl.maximum(most_lost, tl.max(tl.load(norms_ptr + k, mask=inside, other=0.0)))
        longest = tl.maximum(longest, tl.max(tl.load(norms_ptr + n_clusters + k, mask=inside, other=0.0)))
        halves = tl.load(norms_ptr + 2 * n_clusters + k, mask=inside, other=0.0)
        longest_half = tl.maximum(longest_half, tl.max(halves))
    tl.store(bounds_ptr, most_lost)
    tl.store(bounds_ptr + 1, longest)
    tl.store(bounds_ptr + 2, longest_half)


@triton.jit
def _firsts_before(is_first_ptr, firsts_ptr, k, SCAN: tl.constexpr):
    """How many centroids before this one are the first of their equals."""
    found = 0
    for start in range(0, k // SCAN, 64):
        block = start + tl.arange(0, 64)
        found += tl.sum(tl.load(firsts_ptr + block, mask=block < k // SCAN, other=0))
    other = k // SCAN * SCAN + tl.arange(0, SCAN)
    return found + tl.sum(tl.load(is_first_ptr + other, mask=other < k, other=0))


@triton.jit(do_not_specialize=["n_clusters", "last"])
def _write_columns(
    centroids_ptr,
    is_first_ptr,
    firsts_ptr,
    norms_ptr,
    heads_ptr,
    original_ptr,
    n_columns_ptr,
    bounds_ptr,
    halves_ptr,
    n_clusters,
    last,
    n_features,
    width,
    SCAN: tl.constexpr,
    P: tl.constexpr,
    TILE: tl.constexpr,
):
    """The distinct centroids in order, each with its float16 copy; their number and the bounds.

    Also empties the buckets for the next pass: K programs of 32 each reach all 16 x padded(K) of them.
    """
    k = tl.program_id(0)
    bucket = k * 32 + tl.arange(0, 32)
    tl.store(heads_ptr + bucket, tl.zeros((32,), tl.int32) + n_clusters, mask=bucket <= last)
    is_first = tl.load(is_first_ptr + k)
    column = _firsts_before(is_first_ptr, firsts_ptr, k, SCAN)
    if k == n_clusters - 1:
        tl.store(n_columns_ptr, column + is_first)
        _write_bounds(norms_ptr, bounds_ptr, n_clusters, SCAN)
    if is_first > 0:
        tl.store(original_ptr + column, k)
        feature = tl.arange(0, P)
        source = centroids_ptr + k.to(tl.int64) * n_features + feature
        values = tl.load(source, mask=feature < n_features, other=0.0)
        target = halves_ptr + tile_offset(column.to(tl.int64), feature, width, TILE, 8)
        tl.store(target, values.to(tl.float16), mask=feature < width)


# --------------------------------------------------------- whether centroids are others


@triton.jit(do_not_specialize=["n_values"])
def _compare_bits(ours_ptr, theirs_ptr, differ_ptr, n_values):
    at = tl.program_id(0).to(tl.int64) * _COMPARED + tl.arange(0, _COMPARED)
    ours = tl.load(ours_ptr + at, mask=at < n_values, other=0.0).to(tl.int32, bitcast=True)
    theirs = tl.load(theirs_ptr + at, mask=at < n_values, other=0.0).to(tl.int32, bitcast=True)
    if tl.max((ours != theirs).to(tl.int32)) > 0:
        tl.store(differ_ptr, 1)


def compare_bits(ours: Tensor, theirs: Tensor, differ: Tensor) -> None:
    """Set `differ` (1,) int32 to 1 if centroids of one shape, contiguous float32, have other bits; else it stays.

    A kernel of ours, since it is compiled with the others of a fit: torch loads one when it is first started, and
    comparing would take it two.
    """
    n_values = ours.numel()
    launch(_compare_bits, triton.cdiv(n_values, _COMPARED.value), ours, theirs, differ, n_values, num_warps=4)

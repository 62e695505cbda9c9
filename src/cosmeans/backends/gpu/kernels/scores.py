"""Canonical scores of rows: with the centroid of their label, with one more centroid, and with all of them.

Meaning: `sphere.scores`, `sphere.chords`, `sphere.inertia_limbs`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.exact import ENTRIES_TO_MULTIPLY, load_unit, padded, rint64, tree_sum, warps_for
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import Batch

_PRODUCTS = 1 << 26  # entries of a float64 product held at once: 512 MB


@triton.jit
def _own_scores(
    rows_ptr,
    norms_ptr,
    centroids_ptr,
    labels_ptr,
    out_ptr,
    squared_ptr,
    stride,
    n_features,
    P: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    RAISE: tl.constexpr,
    CHORDS: tl.constexpr,
):
    """The score with the centroid of the label, 0 for label -1.

    RAISE: the larger of `out` and the score with centroid 0. CHORDS: the squared chord as well (rule 11).
    """
    row = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    label = 0
    if not RAISE:
        label = tl.load(labels_ptr + row)
    k = tl.maximum(label, 0).to(tl.int64)
    values = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS)
    centroid = tl.load(centroids_ptr + k * n_features + feature, mask=feature < n_features, other=0.0)
    score = tree_sum(values.to(tl.float64) * centroid.to(tl.float64), P) + 0.0
    score = tl.where(label >= 0, score, 0.0)
    if RAISE:
        score = tl.maximum(score, tl.load(out_ptr + row))
    tl.store(out_ptr + row, score)
    if CHORDS:
        chord = (values - centroid).to(tl.float64)  # the float32 difference, so that its square is exact
        tl.store(squared_ptr + row, tl.where(label >= 0, tree_sum(chord * chord, P), 0.0))


def _launch_scores(
    batch: Batch,
    centroids: Tensor,
    labels: Tensor,
    out: Tensor,
    squared: Tensor | None = None,
    *,
    raising: bool = False,
) -> None:
    rows, size = batch.rows, padded(batch.rows.shape[1])
    norms = rows if batch.norms is None else batch.norms
    launch(
        _own_scores,
        len(batch),
        *(rows, norms, centroids, labels, out, out if squared is None else squared, rows.stride(0), rows.shape[1]),
        P=size,
        HAS_NORMS=batch.norms is not None,
        RAISE=raising,
        CHORDS=squared is not None,
        num_warps=warps_for(size, ENTRIES_TO_MULTIPLY),
    )


def own_scores(batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
    """Canonical scores with the centroids of the labels, (B,) float64; 0 for label -1."""
    out = torch.empty(len(batch), dtype=torch.float64, device=batch.rows.device)
    _launch_scores(batch, centroids, labels.contiguous(), out)  # labels may be a column of a table
    return out


def own_chords(batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and squared chords, (B,) float64 each; 0 for label -1."""
    out, squared = (torch.empty(len(batch), dtype=torch.float64, device=batch.rows.device) for _ in range(2))
    _launch_scores(batch, centroids, labels, out, squared)
    return out, squared


_BLOCK = tl.constexpr(1024)
_LIMB = tl.constexpr(2.0**30)


@triton.jit
def _limb(left):
    """The whole part, and the rest in units of 2^-30: both exact."""
    whole = tl.floor(left)
    return whole.to(tl.int64), (left - whole) * _LIMB


@triton.jit(do_not_specialize=["n_rows"])
def _inertia_limbs(squared_ptr, weights_ptr, limbs_ptr, n_rows, WEIGHTED: tl.constexpr):
    """`sphere.inertia_limbs`: each program adds up a block of rows, and atomics add the blocks."""
    row = tl.program_id(0).to(tl.int64) * _BLOCK + tl.arange(0, _BLOCK)
    inside = row < n_rows
    left = tl.load(squared_ptr + row, mask=inside, other=0.0)
    if WEIGHTED:
        left = left * tl.load(weights_ptr + row, mask=inside, other=0.0)
    first, left = _limb(left)
    second, left = _limb(left)
    third, left = _limb(left)
    fourth = rint64(left)
    tl.atomic_add(limbs_ptr, tl.sum(first), sem="relaxed")
    tl.atomic_add(limbs_ptr + 1, tl.sum(second), sem="relaxed")
    tl.atomic_add(limbs_ptr + 2, tl.sum(third), sem="relaxed")
    tl.atomic_add(limbs_ptr + 3, tl.sum(fourth), sem="relaxed")


def inertia_limbs(squared: Tensor, weights: Tensor | None) -> Tensor:
    """`sphere.inertia_limbs`, (4,) int64, in one kernel: starting a dozen takes longer than an epoch of a small fit."""
    limbs = torch.zeros(4, dtype=torch.int64, device=squared.device)
    launch(
        _inertia_limbs,
        triton.cdiv(len(squared), _BLOCK.value),
        *(squared, squared if weights is None else weights, limbs, len(squared)),
        WEIGHTED=weights is not None,
        num_warps=4,
        enable_fp_fusion=False,  # the product with a weight must be rounded before its whole part is subtracted
    )
    return limbs


def improve(batch: Batch, centroid: Tensor, best: Tensor) -> None:
    """Raise best (B,) to the score with this centroid (D,) where that is larger."""
    _launch_scores(batch, centroid, best, best, raising=True)


def cosines(batch: Batch, centroids: Tensor) -> Tensor:
    """Cosines (B, K) float32: float64 products, and canonical scores where their error could change the rounding."""
    out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device=batch.rows.device)
    wide = centroids.to(torch.float64)
    step = max(1, _PRODUCTS // max(wide.shape))
    for start in range(0, len(batch), step):
        span = slice(start, start + step)
        unit = sphere.unit_rows(batch.rows[span], None if batch.norms is None else batch.norms[span])
        products = unit.to(torch.float64) @ wide.T
        error = unit.shape[1] * 2.0**-52
        low, high = (products - error).to(torch.float32), (products + error).to(torch.float32)
        out[span] = low
        # -0.0 == 0.0, so a product near zero is always among these, and its sign is right, too
        row, k = ((low != high) | (products.abs() <= error)).nonzero(as_tuple=True)
        for first in range(0, len(row), step):
            r, c = row[first : first + step], k[first : first + step]
            out[start + r, c] = sphere.scores(unit[r], centroids[c]).to(torch.float32)
    if batch.keep is not None:
        out[~batch.keep] = 0.0
    return out

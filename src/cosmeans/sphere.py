"""The mathematics on the unit sphere, in plain torch: what every backend must reproduce bit by bit.

Equation numbers refer to docs/algorithm.md and docs/proofs.md. Three laws hold everywhere below:
products have two float32 factors (exact in float64, so fused multiply-add changes nothing),
sums over D and K are the tree of `tree_sum` (never a library sum, whose order is not defined),
and only +, -, x, /, sqrt and comparisons decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# |n^2 - 1| up to this counts as unit length: makes rule 1 idempotent (normalised rows are within 2^-23)
UNIT_TOLERANCE = 2.0**-20
# below float32's smallest normal number; machines that flush subnormals to zero agree with those that don't
SMALLEST_NORMAL = 2.0**-126
MAX_SCALE, MIN_SCALE, SUM_BITS = 40, 20, 62
UNIT_ROUNDOFF = 2.0**-24


def tree_sum(terms: Tensor) -> Tensor:
    """Sum float64 terms over the last dimension in the order of eq. 1 (absent partners are skipped)."""
    while (size := terms.shape[-1]) > 1:
        half = 1 << (size - 1).bit_length() - 1
        head = terms[..., :half].clone()
        head[..., : size - half] += terms[..., half:]
        terms = head
    return terms[..., 0]


def sqrt(values: Tensor) -> Tensor:
    """Correctly rounded square root. torch.sqrt on the CPU is not: 1 % of float64 results are off by a bit."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sqrt(values.numpy()))
    return torch.sqrt(values)


def as_float32(rows: Tensor) -> Tensor:
    """Rows as float32 with entries below 2^-126 (and -0.0) as +0.0, the first half of rule 1."""
    rows = rows.to(torch.float32)
    return torch.where(rows.abs() < SMALLEST_NORMAL, rows.new_zeros(()), rows)


def squared_norms(rows: Tensor) -> Tensor:
    """Squared length of every row, (N,) float64: 0 for a zero row, NaN or infinite for a bad one (eq. 2)."""
    wide = as_float32(rows).to(torch.float64)
    return tree_sum(wide * wide)


def usable(squared: Tensor) -> Tensor:
    """Whether a row of this squared length has a direction: it is neither zero nor NaN nor infinite."""
    return (squared > 0) & (squared < torch.inf)


def divisors(squared: Tensor, tolerance: float = UNIT_TOLERANCE) -> Tensor:
    """What rule 1 divides by: the length, or 1 within the tolerance, for zero rows and for bad rows."""
    good = usable(squared)
    near_unit = (squared - 1.0).abs() <= tolerance
    return torch.where(good & ~near_unit, sqrt(torch.where(good, squared, 1.0)), 1.0)


def all_unit(squared: Tensor) -> bool:
    """Whether rule 1 takes every row as it is stored; the device is asked once. NaN and infinity: no."""
    least, largest = torch.stack(torch.aminmax(squared)).tolist()
    return bool(least >= 1.0 - UNIT_TOLERANCE and largest <= 1.0 + UNIT_TOLERANCE)


def first_not_unit(squared: Tensor) -> int | None:
    """The first row that rule 1 does not take as it is, NaN and infinity included; None: it takes every row."""
    if all_unit(squared):
        return None
    return int((~((squared - 1.0).abs() <= UNIT_TOLERANCE)).to(torch.int8).argmax())


@dataclass(frozen=True, slots=True)
class Lengths:
    """What rule 1 finds in a batch. divisors (B,) float64, None: all are 1; usable: every row has a direction."""

    divisors: Tensor | None
    usable: bool


def lengths(squared: Tensor) -> Lengths:
    """From the squared lengths of the rows; a device is asked twice at most."""
    if all_unit(squared):
        return Lengths(None, usable=True)
    found = divisors(squared)
    scaled, all_usable = torch.stack(((found != 1.0).any(), usable(squared).all())).tolist()
    return Lengths(found if scaled else None, bool(all_usable))


def unit_rows(rows: Tensor, norms: Tensor | None) -> Tensor:
    """Rule 1, second half: rows divided by what `divisors` gave, (N, D) float32 (eq. 3)."""
    rows = as_float32(rows)
    if norms is None:
        return rows
    return as_float32((rows.to(torch.float64) / norms[:, None]).to(torch.float32))


def normalise(vectors: Tensor) -> Tensor:
    """Rule 1, whole: vectors of unit length in float32; a zero vector stays zero."""
    return unit_rows(vectors, divisors(squared_norms(vectors)))


def scores(rows: Tensor, centroids: Tensor) -> Tensor:
    """Canonical scores of pairs: unit rows (..., D) with centroids (..., D) that broadcast, float64 (eq. 4)."""
    return tree_sum(rows.to(torch.float64) * centroids.to(torch.float64)) + 0.0


def squared_chords(rows: Tensor, centroids: Tensor) -> Tensor:
    """Squared length of row - centroid for unit rows (..., D) with centroids (..., D), float64 (rule 11).

    The difference is rounded to float32, and its square is exact. 2 - 2 cos would lose all digits of close rows.
    """
    difference = (rows - centroids).to(torch.float64)
    return tree_sum(difference * difference)


def inertia_limbs(squared: Tensor, weights: Tensor | None) -> Tensor:
    """Sum of w times the squared chords (B,) as four integers that add up in any order, (4,) int64 (rule 11).

    Units are 1, 2^-30, 2^-60 and 2^-90. weights (B,) float64; None: all are 1.
    """
    left = squared if weights is None else weights * squared
    limbs = []
    for _ in range(3):
        whole = torch.floor(left)
        limbs.append(whole.to(torch.int64).sum())
        left = (left - whole) * 2.0**30  # both exact
    return torch.stack([*limbs, torch.round(left).to(torch.int64).sum()])


def joined_limbs(limbs: list[int], exponent: int) -> float:
    """The sum in float64, smallest limb first. exponent: weights had been multiplied by 2^exponent."""
    total = 0.0
    for power, limb in ((-90, limbs[3]), (-60, limbs[2]), (-30, limbs[1]), (0, limbs[0])):
        total += math.ldexp(float(limb), power)
    return math.ldexp(total, -exponent)


def clipped(cosines: Tensor) -> Tensor:
    """Cosines as they are given out, in [-1, 1], in place: scores may exceed 1 by rounding, and have no angle then."""
    return cosines.clamp_(-1.0, 1.0)


def clipped_mean(cosine: float) -> float:
    """The same for a mean, one number; NaN stays."""
    return 1.0 if cosine > 1.0 else -1.0 if cosine < -1.0 else cosine


def fixed_point_scale(total_weight: int) -> int:
    """s of rule 4: sums of term(w, q) over rows of this total weight stay below 2^62."""
    return min(MAX_SCALE, SUM_BITS - int(total_weight).bit_length())


def fixed_point(values: Tensor, scale: int) -> Tensor:
    """q = rint(x 2^s), ties to even, int64. Exact before the rounding: x has 24 bits."""
    return torch.round(values.to(torch.float64) * 2.0**scale).to(torch.int64)


def term(weights: Tensor | None, q: Tensor) -> Tensor:
    """What a row of weight w adds: floor(w) q + rint((w - floor w) q), int64 (eq. 5); w times q for integers."""
    if weights is None:
        return q
    whole = torch.floor(weights)
    fraction = torch.round((weights - whole) * q.to(torch.float64))
    return whole.to(torch.int64) * q + fraction.to(torch.int64)


def rounded_sums(direction: Tensor) -> Tensor:
    """u of eq. 6: int64 to float64 to float32, rounding to nearest both times."""
    return direction.to(torch.float64).to(torch.float32)


@dataclass(frozen=True, slots=True)
class Update:
    """centroids (K, D); `degenerate` (K,) bool: clusters without direction, which kept their centroid."""

    centroids: Tensor
    degenerate: Tensor


def update_centroids(direction: Tensor, previous: Tensor) -> Update:
    """Point every centroid along the integer sum of its rows; without direction it stays (eq. 6).

    Source: Dhillon & Modha 2001, concept vectors. One integer test covers empty and cancelling clusters.
    """
    degenerate = (direction == 0).all(dim=1)
    centroids = torch.where(degenerate[:, None], previous, normalise(rounded_sums(direction)))
    return Update(centroids, degenerate)


def similarity(direction: Tensor, centroids: Tensor, total: int) -> Tensor:
    """Mean cosine of the summed rows with these centroids, a float64 scalar (eq. 7)."""
    return mean_of(tree_sum(rounded_sums(direction).to(torch.float64) * centroids.to(torch.float64)), total)


def mean_of(own: Tensor, total: int) -> Tensor:
    """Eq. 7 from its terms per cluster, (K,) float64; NaN where nothing weighs anything."""
    return tree_sum(own) / torch.tensor(float(total), dtype=torch.float64, device=own.device)


def squared_shift(new: Tensor, old: Tensor) -> Tensor:
    """Largest squared chord any centroid moved, a float64 scalar (rule 7)."""
    return squared_chords(new, old).amax()


def screen_error(n_features: int) -> float:
    """E of eq. 8 for an IEEE float32 product of unit vectors, in any order of adding.

    D u |x| |c| (Jeannerod & Rump 2013) with |x|, |c| <= 1 + 2^-20, and 2^-46 for the canonical score's own
    rounding.
    """
    length = 1.0 + 2 * UNIT_TOLERANCE
    return n_features * UNIT_ROUNDOFF * length * length + 2.0**-46

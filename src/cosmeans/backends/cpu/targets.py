"""The distinct centroids of one pass ("columns"), in the forms that screens and decisions need."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import canonical, norms, vectors
from cosmeans.backends.cpu.threads import spread

# canonical scores of two centroids, 2^-46 each
CANONICAL = 2.0**-45


class Targets(NamedTuple):
    """U columns, each one of K centroids c. Compiled loops take this as one argument.

    shifted    (U, D) float32: fl(c - g)
    centroids  (K, D) float32, as given; ordered (K, W): as `canonical.ordered` gives them
    ids        (U,) int32: which centroid each column is
    halves     (U,) float64: |c|^2 / 2, off by 2^-48 at most
    origin     (D,) float32: g
    longest    upper bound on |c - g|
    error      of a float32 product of a unit row with a column of `shifted`, from <x, c - g>
    chord_error  of half a squared chord |x - c|^2 in float32, relative to it
    base_error   of <x, x / 2 - g> in float64, for a unit row x
    """

    shifted: np.ndarray
    centroids: np.ndarray
    ordered: np.ndarray
    ids: np.ndarray
    halves: np.ndarray
    origin: np.ndarray
    longest: float
    error: float
    chord_error: float
    base_error: float

    @classmethod
    def of(cls, centroids: np.ndarray, ids: np.ndarray, origin: np.ndarray) -> Targets:
        """Columns centroids[ids] around g = origin. The error is not finite where a centroid isn't."""
        n_features = centroids.shape[1]
        chosen = centroids[ids]
        shifted = chosen - origin
        squared, longest = np.empty(len(ids), np.float64), float(lengths(shifted).max())
        spread(norms.squared_norms, chosen, squared, size=len(ids))
        return cls(
            shifted, centroids, canonical.ordered(centroids), ids, squared / 2, origin, longest,
            dot_error(n_features, longest),
            chord_error(n_features),
            (n_features + 8) * 2.0**-52,
        )  # fmt: skip

    def along(self, middle: np.ndarray) -> np.ndarray:
        """<m, c - g> of every column, (U,) float64; off by `along_error` at most."""
        out = np.empty(len(self.ids), np.float64)
        spread(vectors.along, self.centroids, self.ids, self.origin, middle, out, size=len(self.ids))
        return out


def along_error(middle: np.ndarray, longest: float) -> float:
    """How far `Targets.along` may be from the truth, for columns no longer than `longest`.

    (D + 2) 2^-53 |m| |c - g|: a rounding of the difference, of the product, and D - 1 of the sum in any order.
    """
    length = math.sqrt(float(np.dot(middle, middle.astype(np.float64)))) * (1.0 + 2.0**-20)
    return (len(middle) + 4) * 2.0**-53 * length * longest


def dot_error(n_features: int, longest: float) -> float:
    """How far a float32 product of a unit row with fl(c - g), in any order, is from <x, c - g>.

    (D + 1) u |x| |c - g|: D u for the product (Jeannerod & Rump 2013), u for rounding c - g.
    """
    return (n_features + 1) * sphere.UNIT_ROUNDOFF * longest * (1.0 + 2.0**-18) + CANONICAL


def chord_error(n_features: int) -> float:
    """How far half a squared chord in float32, summed in any order, is from the truth, relative to what it gave.

    Every term is rounded once as a difference (which counts twice), once as a square and in at most D - 1 additions;
    all are positive, so the sum is off by (1 + u)^(D + 2) - 1 of itself at most.
    """
    most = math.expm1((n_features + 4) * sphere.UNIT_ROUNDOFF)
    return most / (1.0 - most) / 2.0 if most < 0.5 else 2.0**60


def lengths(rows: np.ndarray, less: np.ndarray | None = None) -> np.ndarray:
    """Upper bound on the length of every row, or of every row less another, (N,) float64."""
    out = np.empty(len(rows))
    nothing = np.zeros((1, rows.shape[1]), np.float32)
    spread(vectors.lengths, rows, nothing if less is None else less, out, size=len(rows))
    return out

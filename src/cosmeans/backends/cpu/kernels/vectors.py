"""Products, chords and lengths of float32 vectors, in any order of adding: their errors are bounded in `targets`."""

from __future__ import annotations

import math

import numpy as np

from cosmeans.backends.cpu.kernels.compiling import INNER, njit


@njit(**INNER)
def above(value):
    """A float32 that is not below this float64."""
    return np.nextafter(np.float32(value), np.float32(np.inf))


@njit(**INNER, fastmath={"reassoc", "contract"})
def dot(row, centroid):
    """float32 dot product in any order: its error is bounded by sphere.screen_error."""
    total = np.float32(0.0)
    for d in range(row.shape[0]):
        total += row[d] * centroid[d]
    return total


@njit(**INNER, fastmath={"reassoc", "contract"})
def squared_chord(row, centroid):
    """|row - centroid|^2 in float32, in any order: its error is bounded by `targets.chord_error`."""
    total = np.float32(0.0)
    for d in range(row.shape[0]):
        difference = row[d] - centroid[d]
        total += difference * difference
    return total


@njit(**INNER, fastmath={"reassoc", "contract"})
def base_of(row, origin):
    """<x, x / 2 - g> in float64, in any order: its error is bounded by `Targets.base_error`."""
    total = 0.0
    for d in range(row.shape[0]):
        value = np.float64(row[d])
        total += value * (0.5 * value - np.float64(origin[d]))
    return total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def lengths(rows, less, out, start, stop):
    """Upper bounds on the lengths of rows - less, (N,) float64. less: (N, D) or one row (1, D)."""
    for i in range(start, stop):
        j = i if less.shape[0] > 1 else 0
        total = 0.0
        for d in range(rows.shape[1]):
            difference = np.float64(rows[i, d]) - np.float64(less[j, d])
            total += difference * difference
        out[i] = math.sqrt(total) * (1.0 + 2.0**-20)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def along(centroids, index, origin, middle, out, start, stop):
    """<middle, c - origin> of centroids c = centroids[index[j]], start <= j < stop, in float64."""
    for j in range(start, stop):
        centroid = centroids[index[j]]
        total = 0.0
        for d in range(centroid.shape[0]):
            total += np.float64(middle[d]) * (np.float64(centroid[d]) - np.float64(origin[d]))
        out[j] = total

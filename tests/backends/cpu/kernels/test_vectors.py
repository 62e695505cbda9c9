"""What float32 loses of chords, and float64 of sums, is within the bounds that labels are proved by."""

from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from cosmeans.backends.cpu.kernels import vectors
from cosmeans.backends.cpu.targets import CANONICAL, Targets, along_error
from generators import normal, unit_rows


@njit
def squared_chords(rows, centroids, out):
    for i in range(rows.shape[0]):
        out[i] = vectors.squared_chord(rows[i], centroids[i])


@njit
def bases(rows, origin, out):
    for i in range(rows.shape[0]):
        out[i] = vectors.base_of(rows[i], origin)


def exact(first, second):
    """Sum of products of two vectors."""
    return sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("d", [1, 2, 9, 64, 300])
@pytest.mark.parametrize("near", [1.0, 1e-3, 1e-6, 1e-9])
def test_scores_from_chords_are_within_their_error(d, near):
    """In fractions: rows near their centroids lose a part of the squared chord, and next to nothing else."""
    centroids, origin = unit_rows(12, d, 1), unit_rows(1, d, 2)[0]
    rows = (centroids + near * normal(12, d, 3)).astype(np.float32)
    rows /= np.float32(max(1.0, np.linalg.norm(rows, axis=1).max()))
    targets = Targets.of(centroids, np.arange(12, dtype=np.int32), origin)
    squared, base = np.empty(12), np.empty(12)
    squared_chords(rows, centroids, squared)
    bases(rows, origin, base)
    for i, (row, centroid) in enumerate(zip(rows, centroids, strict=True)):
        shared = exact(row, row) / 2 - exact(row, origin)
        assert abs(Fraction(base[i]) - shared) <= targets.base_error
        value = exact(row, centroid) - exact(row, origin) - shared
        told = Fraction(targets.halves[i]) - Fraction(squared[i]) / 2
        assert abs(told - value) <= Fraction(targets.chord_error * squared[i]) + Fraction(CANONICAL)


def test_a_chord_may_lose_nearly_all_that_its_bound_allows():
    """A large square first, then small ones that are each rounded away, as far as the order of adding lets them be."""
    rows = np.full((1, 4), 2.0**-13, np.float32)
    rows[0, 0] = 1.0
    squared = np.empty(1)
    squared_chords(rows, np.zeros((1, 4), np.float32), squared)
    targets = Targets.of(rows, np.zeros(1, np.int32), np.zeros(4, np.float32))
    lost = abs(exact(rows[0], rows[0]) - Fraction(squared[0])) / 2
    assert targets.chord_error * squared[0] / 20 < lost <= targets.chord_error * squared[0]


@pytest.mark.parametrize("d", [1, 7, 100])
def test_parts_along_the_middle_are_within_their_error(d):
    centroids, origin, middle = unit_rows(9, d, 1), normal(1, d, 2)[0], normal(1, d, 3)[0]
    ids = np.array([3, 0, 8, 5], np.int32)
    targets = Targets.of(centroids, ids, origin)
    longest = float(np.linalg.norm(centroids[ids].astype(float) - origin, axis=1).max()) * 1.001
    for j, told in zip(ids, targets.along(middle), strict=True):
        difference = [Fraction(float(c)) - Fraction(float(g)) for c, g in zip(centroids[j], origin, strict=True)]
        value = sum(Fraction(float(m)) * part for m, part in zip(middle, difference, strict=True))
        assert abs(Fraction(told) - value) <= along_error(middle, longest)

"""Compiled loops of the CPU backend (numba: instructions are chosen at run time, one wheel fits AVX2, AVX-512, NEON).

Each kernel works on a range of rows, releases the GIL, and is called by `threads.spread`. Canonical arithmetic
is compiled without fast-math: no contraction, no reordering (`sphere` is its meaning). Only `dot`, whose bound
holds for any order, may be reordered.
"""

from __future__ import annotations

import math

import numpy as np

from cosmeans.backends.cpu.canonical import clean, room_for, score_of, score_one, stride_of, widen
from cosmeans.backends.cpu.compiling import INNER, JIT, njit

UNIT_TOLERANCE = 2.0**-20


@njit(**INNER)
def above(value):
    """A float32 that is not below this float64."""
    return np.nextafter(np.float32(value), np.float32(np.inf))


@njit(**INNER)
def _tree(terms, size):
    """Sum terms[:size] in the order of sphere.tree_sum; terms is overwritten."""
    half = 1
    while half < size:
        half *= 2
    while size > 1:
        half //= 2
        for i in range(size - half):
            terms[i] += terms[half + i]
        size = half
    return terms[0]


@njit(**JIT)
def squared_norms(rows, out, start, stop):
    """sphere.squared_norms of float32 rows."""
    terms = np.empty(rows.shape[1], np.float64)
    for i in range(start, stop):
        for d in range(rows.shape[1]):
            value = np.float64(clean(rows[i, d]))
            terms[d] = value * value
        out[i] = _tree(terms, rows.shape[1])


@njit(**JIT)
def unit_rows(rows, norms, out, start, stop):
    """sphere.unit_rows of float32 rows."""
    for i in range(start, stop):
        n = norms[i]
        for d in range(rows.shape[1]):
            out[i, d] = clean(np.float32(np.float64(clean(rows[i, d])) / n))


@njit(**JIT)
def own_scores(rows, centroids, labels, out, start, stop):
    """Canonical score of each row with the centroid of its label, one of `canonical.ordered`; 0 for label -1."""
    q = stride_of(rows.shape[1])
    wide, room, score = room_for(1, centroids.shape[1]), room_for(1, q), np.empty(1, np.float64)
    for i in range(start, stop):
        label = labels[i]
        out[i] = score_of(rows[i], centroids[label], q, wide, room, score) if label >= 0 else 0.0


@njit(**JIT)
def own_chords(rows, ordered, centroids, labels, scores, squared, start, stop):
    """Canonical score and squared chord of each row with the centroid of its label (rule 11); 0 for label -1.

    ordered: the centroids by `canonical.ordered`.
    """
    size = rows.shape[1]
    q = stride_of(size)
    wide, room, score = room_for(1, ordered.shape[1]), room_for(1, q), np.empty(1, np.float64)
    terms = np.empty(size, np.float64)
    for i in range(start, stop):
        if labels[i] < 0:
            scores[i] = squared[i] = 0.0
            continue
        row, centroid = rows[i], centroids[labels[i]]
        scores[i] = score_of(row, ordered[labels[i]], q, wide, room, score)
        for d in range(size):
            chord = np.float32(clean(row[d]) - centroid[d])
            terms[d] = np.float64(chord) * np.float64(chord)
        squared[i] = _tree(terms, size)


@njit(**INNER)
def _fill_units(row, n, factor, units):
    """q of rule 4 for a row of length n, or a part of it. x 2^s is exact in float32 too."""
    if n == 1.0:
        for d in range(row.shape[0]):
            units[d] = np.int64(np.rint(clean(row[d]) * np.float32(factor)))
    else:
        for d in range(row.shape[0]):
            value = clean(np.float32(np.float64(clean(row[d])) / n))
            units[d] = np.int64(np.rint(value * np.float32(factor)))


@njit(**JIT)
def move(rows, at, norms, weights, changed, before, after, scale, direction, start, stop):
    """Take changed rows out of one sum and add them to another, for features start <= d < stop.

    rows      (., D) float32, as they lie; at (C,): where the changed ones stand among them
    norms     (C,) float64, 1 where nothing is divided; weights (C,)
    changed   (C,): index into `before` and `after`
    direction (K, D) int64. Threads share features, not rows: no two write the same entry.
    """
    factor = 2.0**scale
    units = np.empty(stop - start, np.int64)
    for c in range(changed.shape[0]):
        old, new = before[changed[c]], after[changed[c]]
        _fill_units(rows[at[c], start:stop], norms[c], factor, units)
        w = weights[c]
        if w != 1.0:
            whole = math.floor(w)
            for d in range(stop - start):
                units[d] = np.int64(whole) * units[d] + np.int64(np.rint((w - whole) * np.float64(units[d])))
        if old >= 0:
            total = direction[old, start:stop]
            for d in range(stop - start):
                total[d] -= units[d]
        if new >= 0:
            total = direction[new, start:stop]
            for d in range(stop - start):
                total[d] += units[d]


@njit(**JIT)
def update(direction, previous, centroids, lost, own, shift, start, stop):
    """sphere.update_centroids of centroids start <= k < stop, with the terms of the figures.

    Writes centroids (K, D); lost (K,) bool; own (K,): tree of the rounded sums with the previous centroid (eq. 7);
    shift (K,): squared chord from the previous centroid. A zero sum stays where it was.
    """
    size = direction.shape[1]
    sums = np.empty(size, np.float32)
    terms = np.empty(size, np.float64)
    for k in range(start, stop):
        total, before, centroid = direction[k], previous[k], centroids[k]
        lost[k] = True
        for d in range(size):
            lost[k] &= total[d] == 0
        for d in range(size):
            sums[d] = np.float32(np.float64(total[d]))
        for d in range(size):
            terms[d] = np.float64(sums[d]) * np.float64(before[d])
        own[k] = _tree(terms, size)
        for d in range(size):
            terms[d] = np.float64(sums[d]) * np.float64(sums[d])
        squared = _tree(terms, size)
        n = 1.0 if abs(squared - 1.0) <= UNIT_TOLERANCE or lost[k] else math.sqrt(squared)
        for d in range(size):
            centroid[d] = before[d] if lost[k] else clean(np.float32(np.float64(sums[d]) / n))
            chord = np.float32(centroid[d] - before[d])
            terms[d] = np.float64(chord) * np.float64(chord)
        shift[k] = _tree(terms, size)


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


@njit(**JIT)
def improve(rows, centroid, ordered, slack, best, start, stop):
    """Raise best to the canonical score with one more centroid, where float32 can't exclude that it is larger.

    ordered: the centroid as `canonical.ordered` gives it, (W,)
    """
    q = stride_of(rows.shape[1])
    wide, room, score = room_for(1, ordered.shape[0]), room_for(1, q), np.empty(1, np.float64)
    for i in range(start, stop):
        if np.float64(dot(rows[i], centroid)) + slack >= best[i]:
            best[i] = max(best[i], score_of(rows[i], ordered, q, wide, room, score))


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


@njit(**JIT)
def round_cosines(products, rows, centroids, error, out, start, stop):
    """float32 of canonical scores from float64 products; canonical where the bound can't decide the rounding.

    centroids: of `canonical.ordered`
    """
    q = stride_of(rows.shape[1])
    width = centroids.shape[1]
    wide, room, score = room_for(1, width), room_for(1, q), np.empty(1, np.float64)
    for i in range(start, stop):
        widened = False
        for j in range(products.shape[1]):
            low, high = np.float32(products[i, j] - error), np.float32(products[i, j] + error)
            if low != high or low == 0.0:
                if not widened:
                    widen(rows[i], q, wide, 0, 1)
                    widened = True
                score_one(wide, centroids[j], q, width // q, room, score)
                low = np.float32(score[0])
            out[i, j] = low

"""Canonical scores of rows, and what is made of them: chords, cosines, best scores so far."""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import (
    clean,
    order,
    room_for,
    score_one,
    stride_of,
    widen,
    width_of,
)
from cosmeans.backends.cpu.kernels.compiling import JIT, njit
from cosmeans.backends.cpu.kernels.tree import tree
from cosmeans.backends.cpu.kernels.vectors import dot


@njit(**JIT)
def scores(rows, centroids, labels, out, start, stop):
    """Canonical score of each row with the centroid of its label, one of `canonical.ordered`; 0 for label -1."""
    q = stride_of(rows.shape[1])
    width = centroids.shape[1]
    wide, room, score = room_for(1, width), room_for(1, q), np.empty(1, np.float64)
    for i in range(start, stop):
        if labels[i] < 0:
            out[i] = 0.0
            continue
        widen(rows[i], q, wide, 0, 1)
        score_one(wide, centroids[labels[i]], q, width // q, room, score)
        out[i] = score[0]


@njit(**JIT)
def chords(rows, ordered, centroids, labels, found, squared, start, stop):
    """Canonical score and squared chord of each row with the centroid of its label (rule 11); 0 for label -1.

    ordered: the centroids by `canonical.ordered`.
    """
    size = rows.shape[1]
    q, width = stride_of(size), ordered.shape[1]
    wide, room, score = room_for(1, width), room_for(1, q), np.empty(1, np.float64)
    terms = np.empty(size, np.float64)
    for i in range(start, stop):
        if labels[i] < 0:
            found[i] = squared[i] = 0.0
            continue
        row, centroid = rows[i], centroids[labels[i]]
        widen(row, q, wide, 0, 1)
        score_one(wide, ordered[labels[i]], q, width // q, room, score)
        found[i] = score[0]
        for d in range(size):
            chord = np.float32(clean(row[d]) - centroid[d])
            terms[d] = np.float64(chord) * np.float64(chord)
        squared[i] = tree(terms, size)


@njit(**JIT)
def cosines(products, rows, centroids, error, out, start, stop):
    """float32 of canonical scores from float64 products; canonical where the bound can't decide the rounding.

    centroids: (K, D), as they are; few of them are needed in the order of `canonical`.
    """
    q, width = stride_of(rows.shape[1]), width_of(rows.shape[1])
    wide, room, score = room_for(1, width), room_for(1, q), np.empty(1, np.float64)
    ordered = np.empty(width, np.float32)
    for i in range(start, stop):
        widened = False
        for j in range(products.shape[1]):
            low, high = np.float32(products[i, j] - error), np.float32(products[i, j] + error)
            if low != high or low == 0.0:
                if not widened:
                    widen(rows[i], q, wide, 0, 1)
                    widened = True
                order(centroids[j], q, ordered)
                score_one(wide, ordered, q, width // q, room, score)
                low = np.float32(score[0])
            out[i, j] = low


@njit(**JIT)
def improve(rows, centroid, ordered, slack, best, start, stop):
    """Raise best to the canonical score with one more centroid, where float32 can't exclude that it is larger.

    ordered: the centroid as `canonical.ordered` gives it, (W,)
    """
    q = stride_of(rows.shape[1])
    width = ordered.shape[0]
    wide, room, score = room_for(1, width), room_for(1, q), np.empty(1, np.float64)
    for i in range(start, stop):
        if np.float64(dot(rows[i], centroid)) + slack >= best[i]:
            widen(rows[i], q, wide, 0, 1)
            score_one(wide, ordered, q, width // q, room, score)
            best[i] = max(best[i], score[0])

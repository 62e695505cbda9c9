"""Centroids from integer sums (rule 5), with the terms of an epoch's figures."""

from __future__ import annotations

import math

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import clean
from cosmeans.backends.cpu.kernels.compiling import JIT, njit
from cosmeans.backends.cpu.kernels.tree import tree
from cosmeans.sphere import UNIT_TOLERANCE


@njit(**JIT)
def update(direction, previous, centroids, lost, scores, shift, start, stop):
    """sphere.update_centroids of centroids start <= k < stop, with the terms of the figures.

    Writes centroids (K, D); lost (K,) bool; scores (K,): tree of the rounded sums with the previous centroid (eq. 7);
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
        scores[k] = tree(terms, size)
        for d in range(size):
            terms[d] = np.float64(sums[d]) * np.float64(sums[d])
        squared = tree(terms, size)
        n = 1.0 if abs(squared - 1.0) <= UNIT_TOLERANCE or lost[k] else math.sqrt(squared)
        for d in range(size):
            centroid[d] = before[d] if lost[k] else clean(np.float32(np.float64(sums[d]) / n))
            chord = np.float32(centroid[d] - before[d])
            terms[d] = np.float64(chord) * np.float64(chord)
        shift[k] = tree(terms, size)

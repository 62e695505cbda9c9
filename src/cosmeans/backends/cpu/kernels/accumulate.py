"""Integer sums of rows (rule 4): rows leave the sum of one cluster and join that of another."""

from __future__ import annotations

import math

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import clean
from cosmeans.backends.cpu.kernels.compiling import INNER, JIT, njit


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
def accumulate(rows, at, norms, weights, changed, before, after, scale, direction, start, stop):
    """Take changed rows out of one sum and add them to another, for features start <= d < stop.

    rows      (., D) float32, as they are stored; at (C,): the index of each changed one among them
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

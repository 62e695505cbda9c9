"""Squared lengths of rows, and rows of unit length (rule 1)."""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import clean
from cosmeans.backends.cpu.kernels.compiling import JIT, njit
from cosmeans.backends.cpu.kernels.tree import tree


@njit(**JIT)
def squared_norms(rows, out, start, stop):
    """sphere.squared_norms of float32 rows."""
    terms = np.empty(rows.shape[1], np.float64)
    for i in range(start, stop):
        for d in range(rows.shape[1]):
            value = np.float64(clean(rows[i, d]))
            terms[d] = value * value
        out[i] = tree(terms, rows.shape[1])


@njit(**JIT)
def unit_rows(rows, norms, out, start, stop):
    """sphere.unit_rows of float32 rows."""
    for i in range(start, stop):
        n = norms[i]
        for d in range(rows.shape[1]):
            out[i, d] = clean(np.float32(np.float64(clean(rows[i, d])) / n))

"""A reproducible sample of rows."""

from __future__ import annotations

import numpy as np

_PURPOSE = 0x5E9  # the second half of the Philox key: other draws from the same seed never meet these


def sample_rows(mask: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n of the rows where mask (N,) holds, in rising order; all of them if they are no more.

    Each row draws a word of Philox and the smallest words win: the same on every machine and NumPy version.
    """
    rows = np.flatnonzero(mask)
    if len(rows) <= n:
        return rows
    words = np.random.Philox(key=(seed, _PURPOSE)).random_raw(len(rows))
    return np.sort(rows[np.argsort(words, kind="stable")[:n]])

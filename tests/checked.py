"""The compiled loops with numba's check of every index: a small fit of each kind. Run with NUMBA_BOUNDSCHECK=1.

python checked.py       says what is done; at last a planted bad index, which must raise IndexError
"""

from __future__ import annotations

import sys
import warnings

import numpy as np


def fits():
    """Fits that go through all loops: rows of unit length or not, left out or not, weights, ties, lost clusters."""
    from cosmeans import KMeans
    from generators import near_ties, normal, unit_rows

    shapes = [(1100, 28, 33), (300, 5, 7), (90, 1, 3)]
    cases = [(unit_rows(n, d), unit_rows(k, d, 1)) for n, d, k in shapes] + [near_ties(400, 28, 20, 1e-7)]
    cases += [(normal(300, 28), np.repeat(unit_rows(3, 28, 1), 3, axis=0))]
    for x, first in cases:
        bad = x.copy()
        bad[0], bad[7], bad[-1] = np.nan, 0.0, -np.inf
        for strategy in ("auto", "float32", "split", "pca", "int8"):
            for rows, weights in ((x, None), (bad, np.arange(len(x)) % 3 * 0.75)):
                kmeans = KMeans(len(first), init=first, strategy=strategy, epochs=3, verbose=0, nonfinite="skip")
                kmeans.fit(rows, sample_weight=weights).transform(rows[:20])
                kmeans.set_params(init="k-means++").reset().fit(rows, sample_weight=weights)


def without_registers():
    """The same loops with the products of libraries."""
    from cosmeans.backends.cpu.kernels import fused

    fused.multiplies_bytes = fused.multiplies_shorts = lambda n_features: False
    fused.multiplies_floats = lambda: False


def plant():
    """A label beyond the last centroid, handed to a loop itself."""
    from cosmeans.backends.cpu.kernels import canonical, scores
    from generators import unit_rows

    centroids = canonical.ordered(unit_rows(3, 8))
    scores.scores(unit_rows(4, 8), centroids, np.array([0, 1, 2, 3], np.int32), np.empty(4), 0, 4)


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    warnings.simplefilter("ignore")
    say("fits")
    fits()
    say("without registers")
    without_registers()
    fits()
    say("planted")
    try:
        plant()
    except IndexError:
        say("raised")


if __name__ == "__main__":
    main()

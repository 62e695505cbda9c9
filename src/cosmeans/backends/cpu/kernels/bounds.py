"""Which labels the bounds of the pass before still prove (eq. 11)."""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels.compiling import JIT, njit
from cosmeans.backends.cpu.kernels.vectors import above, dot

DONE, LIGHT, FULL = 0, 1, 2
# one step of a stored float32 bound, rounded outward, so that it still bounds after many passes
BOUND_STEP = 2.0**-22


@njit(**JIT)
def scan(keep, block, targets, farthest, heavy, verdict, start, stop):
    """t of every row with its assigned column, and whether the bound of the pass before still proves its label.

    block     `types.Block`; bound: as the pass before left it
    farthest  upper bound on how far any centroid beyond the first `heavy` columns has moved since
    Writes block.assigned and block.rest; verdict (B,): LIGHT rows need the heavy columns, FULL rows all, DONE rows
    none (their labels and bounds are written).
    """
    rest, bound, labels, assigned = block.rest, block.bound, block.labels, block.assigned
    for i in range(start, stop):
        if not keep[i]:
            labels[i] = -1
            verdict[i] = DONE
            continue
        j = block.column[i]
        rest[i] = -np.inf
        assigned[i] = -np.inf
        verdict[i] = FULL
        if j < 0:
            continue
        assigned[i] = np.float64(dot(block.rows[i], targets.shifted[j])) - np.float64(block.lost[i])
        kept = np.float64(bound[i]) + farthest
        if assigned[i] - targets.error > kept + BOUND_STEP:
            rest[i] = above(kept + BOUND_STEP)
            verdict[i] = LIGHT
            if heavy == 0:
                verdict[i] = DONE
                labels[i] = targets.ids[j]
                bound[i] = rest[i]

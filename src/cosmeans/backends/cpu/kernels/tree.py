"""The sum of eq. 1: the one order in which canonical arithmetic adds."""

from __future__ import annotations

from cosmeans.backends.cpu.kernels.compiling import INNER, njit


@njit(**INNER)
def tree(terms, size):
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

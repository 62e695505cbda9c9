"""The screen for rows that lean one way: a float32 product of differences from their middle (eq. 16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import encode, fused
from cosmeans.backends.cpu.kernels.gemm import Product
from cosmeans.backends.cpu.screens.screen import Codes, Columns, looser
from cosmeans.backends.cpu.targets import CANONICAL, Targets, along_error, lengths
from cosmeans.backends.cpu.threads import spread


@dataclass(frozen=True, slots=True)
class _Facts:
    """longest |c - g|, largest |bias|: upper bounds; along: the error of a bias before it is rounded."""

    longest: float
    bias: float
    along: float


class CentredScreen:
    """The product of what rows and centroids differ from a middle m: for rows that all lean the same way.

        <x, c - g> = <x - m, c - g> + <m, c - g>

    The first term is a float32 product, whose error shrinks with |x - m|; the second is computed in float64.
    """

    name = "float32, centred"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)
    kept_bytes = 0

    def __init__(
        self, product: Product, middle: np.ndarray, pack: Callable[[np.ndarray], np.ndarray | None] = fused.packed
    ) -> None:
        self.product, self.middle, self.pack = product, middle, pack

    def columns(self, targets: Targets) -> Columns:
        along = targets.along(self.middle)
        longest, nothing = float(lengths(targets.shifted).max()), np.zeros(len(along), np.float32)
        facts = _Facts(longest, float(np.abs(along).max()), along_error(self.middle, longest))
        packed = self.pack(targets.shifted)
        ones = np.ones(len(along), np.float32)
        return Columns(targets.shifted, ones, along.astype(np.float32), nothing, facts, packed)

    def rows(
        self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns, lost: np.ndarray | None = None
    ) -> Codes:
        """slack: (D + 2) u |x - m| |c - g| for the product and for rounding both factors; a rounding of the bias, and
        one of the sum; what float64 loses of the bias; canonical scores.
        """
        size, n_features = rows.shape
        codes, length = np.empty_like(rows), np.empty(size, np.float64)
        spread(encode.centred, rows, keep, self.middle, codes, length, size=size)
        facts = columns.facts
        product = length * facts.longest
        rounding = (n_features + 2) * sphere.UNIT_ROUNDOFF * (1.0 + 2.0**-18) * product
        rounding += 4 * sphere.UNIT_ROUNDOFF * (product + facts.bias)
        slack = np.nextafter((rounding + facts.along + CANONICAL).astype(np.float32), np.float32(np.inf))
        nothing = np.zeros(size, np.float32)
        return Codes(codes, np.ones(size, np.float32), nothing, looser(slack, lost, facts.longest))

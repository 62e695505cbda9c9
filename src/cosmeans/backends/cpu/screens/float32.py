"""The screen that multiplies in float32: what it can't tell apart is left to chords and canonical scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cosmeans.backends.cpu.kernels import fused
from cosmeans.backends.cpu.kernels.gemm import Product
from cosmeans.backends.cpu.screens.screen import Codes, Columns, looser
from cosmeans.backends.cpu.targets import Targets


class Float32Screen:
    """The product itself: what can't be told apart afterwards gets canonical scores."""

    name = "float32"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)
    kept_bytes = 0

    def __init__(self, product: Product, pack: Callable[[np.ndarray], np.ndarray | None] = fused.packed) -> None:
        self.product, self.pack = product, pack

    def columns(self, targets: Targets) -> Columns:
        packed = self.pack(targets.shifted)
        slack = np.nextafter(np.float32(targets.error * (1.0 + 2.0**-20)), np.float32(np.inf))
        return Columns(targets.shifted, None, None, None, (slack, targets.longest), packed)

    def rows(
        self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns, lost: np.ndarray | None = None
    ) -> Codes:
        """slack: for a row of unit length; what it is more for a head is a part of it."""
        size, (least, longest) = len(rows), columns.facts
        slack = looser(np.full(size, least, np.float32), lost, longest + np.float64(least))
        return Codes(rows, np.ones(size, np.float32), np.zeros(size, np.float32), slack)

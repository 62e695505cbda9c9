"""Screens: cheap products that bound every score of a row from above. `kernels.certify` says what is done with them.

A screen encodes rows and columns (centroids less a vector g) and gives what bounds t = <x, c - g>:

    t_ij <= s_ij factor_j scale_i + bias_j + tail_i width_j + slack_i          (docs/proofs.md, eq. 10)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from cosmeans.backends.cpu.kernels.gemm import Product
from cosmeans.backends.cpu.targets import Targets

_CLOSE, _MOST = 1 / 16, 0.9  # rows lean if so many are no farther than that from their mean


@dataclass(frozen=True, slots=True)
class Columns:
    """Encoded centroids, U columns: codes (U, .); factor, bias, width (U,) float32, or None; the rest bounds slack.

    panels  the same codes as `fused` multiplies them, where it does
    """

    codes: np.ndarray
    factor: np.ndarray | None
    bias: np.ndarray | None
    width: np.ndarray | None
    facts: Any = None
    panels: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Codes:
    """Encoded rows of one block: codes (B, .), scale, tail, slack (B,) float32."""

    codes: np.ndarray
    scale: np.ndarray
    tail: np.ndarray
    slack: np.ndarray


class Screen(Protocol):
    """One way of multiplying cheaply."""

    name: str
    dtype: Any
    lowest: Any
    """A value below every product."""
    product: Product

    @property
    def kept_bytes(self) -> int:
        """Of the rows, from pass to pass."""
        ...

    def columns(self, targets: Targets) -> Columns:
        """Encode the columns of a pass."""
        ...

    def rows(
        self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns, lost: np.ndarray | None = None
    ) -> Codes:
        """Encode unit rows (B, D) float32; start: index of the first in its source.

        lost (B,) float32: `Narrow.lost`, of rows that are heads; bounds hold for the rows whose heads they are, in this
        pass and in every other one that codes are kept for.

        keep (B,) bool: rows left out may hold NaN, and give numbers that are finite and mean nothing.
        """
        ...


def looser(bound: np.ndarray, lost: np.ndarray | None, times: float | np.ndarray = 1.0) -> np.ndarray:
    """bound + lost * times, (B,) float32, rounded up; the bound itself where nothing was lost."""
    if lost is None:
        return bound
    more = bound + lost.astype(np.float64) * times
    return np.where(lost > 0, np.nextafter(more.astype(np.float32), np.float32(np.inf)), bound)


def product(screen: Screen, codes: np.ndarray, columns: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """codes (G, .) times columns (L, .), in memory that is used again."""
    out: np.ndarray = scratch[: len(codes) * len(columns)].view(screen.dtype).reshape(len(codes), len(columns))
    screen.product.multiply(codes, columns, out)
    return out


def middle_of(sample: np.ndarray) -> np.ndarray:
    """Mean of some unit rows, float32 (D,): a vector as good as any other, and shorter residuals if rows lean.

    Of no rows: 0.
    """
    if len(sample) == 0:
        return np.zeros(sample.shape[1], np.float32)
    return torch.from_numpy(sample).to(torch.float64).mean(0).to(torch.float32).numpy()


class Middle(NamedTuple):
    """The mean of some unit rows, and whether most rows are so close to it that float32 products lose what counts."""

    vector: np.ndarray
    leans: bool

    @classmethod
    def of(cls, sample: np.ndarray) -> Middle:
        """Of unit rows (S, D) float32."""
        vector = middle_of(sample)
        squares = np.square(sample - vector, dtype=np.float32).sum(axis=1)
        return cls(vector, bool(len(sample) and np.quantile(squares, _MOST) < _CLOSE**2))

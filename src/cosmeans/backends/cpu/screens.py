"""Screens: cheap products that bound every score of a row from above. `decide.py` says what is done with them.

A screen encodes rows and columns (centroids less a vector g) and gives what bounds t = <x, c - g>:

    t_ij <= s_ij factor_j scale_i + bias_j + tail_i width_j + slack_i          (docs/algorithm.md, eq. 10)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from cosmeans import sphere
from cosmeans.backends.cpu import encode, fused
from cosmeans.backends.cpu.gemm import INT8, Product
from cosmeans.backends.cpu.targets import CANONICAL, Targets, along_error, lengths
from cosmeans.backends.cpu.threads import spread

# float32 arithmetic of eq. 10: at most 8 roundings, relative to the sizes of its terms; twice that
_ARITHMETIC = 16 * sphere.UNIT_ROUNDOFF
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

    def rows(self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns) -> Codes:
        """Encode unit rows (B, D) float32; start: index of the first in its source.

        keep (B,) bool: rows left out may hold NaN, and give numbers that are finite and mean nothing.
        """
        ...


class Float32Screen:
    """The product itself: what can't be told apart afterwards is settled canonically."""

    name = "float32"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)
    kept_bytes = 0

    def __init__(self, product: Product) -> None:
        self.product = product

    def columns(self, targets: Targets) -> Columns:
        packed = fused.panels(targets.shifted) if fused.multiplies_floats() else None
        return Columns(targets.shifted, None, None, None, np.float32(targets.error * (1.0 + 2.0**-20)), packed)

    def rows(self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns) -> Codes:
        size = len(rows)
        slack = np.full(size, np.nextafter(columns.facts, np.float32(np.inf)), np.float32)
        return Codes(rows, np.ones(size, np.float32), np.zeros(size, np.float32), slack)


@dataclass(frozen=True, slots=True)
class _CentredFacts:
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

    def __init__(self, product: Product, middle: np.ndarray) -> None:
        self.product, self.middle = product, middle

    def columns(self, targets: Targets) -> Columns:
        along = targets.along(self.middle)
        longest, nothing = float(lengths(targets.shifted).max()), np.zeros(len(along), np.float32)
        facts = _CentredFacts(longest, float(np.abs(along).max()), along_error(self.middle, longest))
        packed = fused.panels(targets.shifted) if fused.multiplies_floats() else None
        ones = np.ones(len(along), np.float32)
        return Columns(targets.shifted, ones, along.astype(np.float32), nothing, facts, packed)

    def rows(self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns) -> Codes:
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
        slack = (rounding + facts.along + CANONICAL).astype(np.float32)
        nothing = np.zeros(size, np.float32)
        return Codes(codes, np.ones(size, np.float32), nothing, np.nextafter(slack, np.float32(np.inf)))


@dataclass(frozen=True, slots=True)
class _Int8Facts:
    """longest |c - g|, longest encoded column and what that lost, largest |bias|: upper bounds; along: its error."""

    longest: float
    encoded: float
    lost: float
    bias: float
    along: float


class Int8Rows:
    """8-bit copies of the first rows around a middle, D + 12 bytes each, made when they are first asked for.

    Where there is no memory for those of n_rows, there are fewer. empty: as `numpy.empty`
    """

    def __init__(self, n_rows: int, n_features: int, empty: Callable[..., np.ndarray] = np.empty) -> None:
        while True:
            try:
                self._make(n_rows, n_features, empty)
                return
            except MemoryError:
                if n_rows == 0:
                    raise
                n_rows //= 2

    def _make(self, n_rows: int, n_features: int, empty: Callable[..., np.ndarray]) -> None:
        self.codes = empty((n_rows, n_features), np.int8)
        self.scale = np.zeros(n_rows, np.float32)  # 0: not made yet
        self.length = empty(n_rows, np.float32)
        self.residual = empty(n_rows, np.float32)

    @property
    def n_bytes(self) -> int:
        return sum(part.nbytes for part in (self.codes, self.scale, self.length, self.residual))

    def block(self, rows: np.ndarray, keep: np.ndarray, middle: np.ndarray, span: slice) -> tuple[np.ndarray, ...]:
        parts = (self.codes[span], self.scale[span], self.length[span], self.residual[span])
        if not parts[1].all():
            spread(encode.to_int8, rows, keep, middle, *parts, size=len(rows))
        return parts


def int8_bytes(n_features: int) -> int:
    """Bytes of one row's 8-bit copy."""
    return n_features + 12


class Int8Screen:
    """Integer products of 8-bit copies: exact, so only what the copies lost is bounded (Cauchy and Schwarz).

    Copies of the first n_kept rows stay from pass to pass; those of the others are made again.
    """

    name = "int8"
    dtype: Any = np.int32
    lowest = np.int32(-(2**31))
    product = INT8

    def __init__(self, middle: np.ndarray, n_kept: int) -> None:
        self.middle = middle
        self.kept = Int8Rows(n_kept, len(middle))

    @property
    def kept_bytes(self) -> int:
        return self.kept.n_bytes

    def columns(self, targets: Targets) -> Columns:
        size, n_features = targets.shifted.shape
        codes = np.empty((size, n_features), np.int8)
        scale, length, residual = np.empty((3, size), np.float32)
        nothing, every = np.zeros(n_features, np.float32), np.ones(size, np.bool_)
        spread(encode.to_int8, targets.shifted, every, nothing, codes, scale, length, residual, size=size)
        bias, longest = targets.along(self.middle), float(lengths(targets.shifted).max())
        facts = _Int8Facts(
            longest,
            float(length.max()),
            float(residual.max()),
            float(np.abs(bias).max()),
            along_error(self.middle, longest),
        )
        packed = fused.panels(codes) if fused.multiplies_bytes(n_features) else None
        return Columns(codes, scale, bias.astype(np.float32), residual, facts, packed)

    def rows(self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns) -> Codes:
        size = len(rows)
        if start + size <= len(self.kept.scale):
            codes, scale, length, residual = self.kept.block(rows, keep, self.middle, slice(start, start + size))
        else:
            codes = np.empty(rows.shape, np.int8)
            scale, length, residual = np.empty((3, size), np.float32)
            spread(encode.to_int8, rows, keep, self.middle, codes, scale, length, residual, size=size)
        facts = columns.facts
        # the last term: u |c - g| for rounding c - g, against what is encoded of the row
        sizes = length * np.float64(facts.encoded + facts.lost + facts.longest) + facts.bias
        slack = residual * np.float64(facts.longest) * (1 + 2.0**-18) + sizes * _ARITHMETIC + facts.along + CANONICAL
        return Codes(codes, scale, length, np.nextafter(slack.astype(np.float32), np.float32(np.inf)))


def product(screen: Screen, codes: np.ndarray, columns: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """codes (G, .) times columns (L, .), in memory that is used again."""
    out: np.ndarray = scratch[: len(codes) * len(columns)].view(screen.dtype).reshape(len(codes), len(columns))
    screen.product.multiply(codes, columns, out)
    return out


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


def middle_of(sample: np.ndarray) -> np.ndarray:
    """Mean of some unit rows, float32 (D,): a vector as good as any other, and shorter residuals if rows lean.

    Of no rows: 0.
    """
    if len(sample) == 0:
        return np.zeros(sample.shape[1], np.float32)
    return torch.from_numpy(sample).to(torch.float64).mean(0).to(torch.float32).numpy()

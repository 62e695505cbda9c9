"""The screen of 8-bit copies around a middle: exact integer products, and what the copies lost (eq. 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import encode, fused
from cosmeans.backends.cpu.kernels.gemm import INT8
from cosmeans.backends.cpu.screens.screen import Codes, Columns, looser
from cosmeans.backends.cpu.targets import CANONICAL, Targets, along_error, lengths
from cosmeans.backends.cpu.threads import spread

# float32 arithmetic of eq. 10: at most 8 roundings, relative to the sizes of its terms; twice that
_ARITHMETIC = 16 * sphere.UNIT_ROUNDOFF


@dataclass(frozen=True, slots=True)
class _Facts:
    """longest |c - g|, longest encoded column and what that lost, largest |bias|: upper bounds; along: its error."""

    longest: float
    encoded: float
    lost: float
    bias: float
    along: float


class Int8Rows:
    """8-bit copies of the first rows around a middle, D + 12 bytes each, made when they are first asked for.

    Where there is no memory for those of n_rows, there are fewer. allocate: as `numpy.empty`
    """

    def __init__(self, n_rows: int, n_features: int, allocate: Callable[..., np.ndarray] = np.empty) -> None:
        while True:
            try:
                self._make(n_rows, n_features, allocate)
                return
            except MemoryError:
                if n_rows == 0:
                    raise
                n_rows //= 2

    def _make(self, n_rows: int, n_features: int, allocate: Callable[..., np.ndarray]) -> None:
        self.codes = allocate((n_rows, n_features), np.int8)
        self.scale = np.zeros(n_rows, np.float32)  # 0: not made yet
        self.length = allocate(n_rows, np.float32)
        self.residual = allocate(n_rows, np.float32)

    @property
    def n_bytes(self) -> int:
        return sum(part.nbytes for part in (self.codes, self.scale, self.length, self.residual))

    def block(
        self, rows: np.ndarray, keep: np.ndarray, middle: np.ndarray, span: slice, lost: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        parts = (self.codes[span], self.scale[span], self.length[span], self.residual[span])
        if not parts[1].all():
            _encode(rows, keep, middle, lost, parts)
        return parts


def _encode(
    rows: np.ndarray, keep: np.ndarray, middle: np.ndarray, lost: np.ndarray | None, into: tuple[np.ndarray, ...]
) -> None:
    """Copies of rows, or of heads: what these lost belongs to what the copy lost."""
    spread(encode.to_int8, rows, keep, middle, *into, size=len(rows))
    into[3][:] = looser(into[3], lost)


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

    def __init__(
        self,
        middle: np.ndarray,
        n_kept: int,
        pack: Callable[[np.ndarray], np.ndarray | None] = fused.packed,
        allocate: Callable[..., np.ndarray] = np.empty,
    ) -> None:
        self.middle, self.pack = middle, pack
        self.kept = Int8Rows(n_kept, len(middle), allocate)

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
        facts = _Facts(
            longest,
            float(length.max()),
            float(residual.max()),
            float(np.abs(bias).max()),
            along_error(self.middle, longest),
        )
        return Columns(codes, scale, bias.astype(np.float32), residual, facts, self.pack(codes))

    def rows(
        self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns, lost: np.ndarray | None = None
    ) -> Codes:
        size = len(rows)
        if start + size <= len(self.kept.scale):
            codes, scale, length, residual = self.kept.block(rows, keep, self.middle, slice(start, start + size), lost)
        else:
            codes = np.empty(rows.shape, np.int8)
            scale, length, residual = np.empty((3, size), np.float32)
            _encode(rows, keep, self.middle, lost, (codes, scale, length, residual))
        facts = columns.facts
        # the last term: u |c - g| for rounding c - g, against what is encoded of the row
        sizes = length * np.float64(facts.encoded + facts.lost + facts.longest) + facts.bias
        slack = residual * np.float64(facts.longest) * (1 + 2.0**-18) + sizes * _ARITHMETIC + facts.along + CANONICAL
        return Codes(codes, scale, length, np.nextafter(slack.astype(np.float32), np.float32(np.inf)))

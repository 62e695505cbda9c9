"""The screen by principal directions: a quarter of the coordinates, and what the lengths of the rest allow.

What that leaves open is bounded once more, one product at a time, with the quarter that follows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from cosmeans import sphere
from cosmeans.backends.cpu import encode, fused
from cosmeans.backends.cpu.gemm import Gemm, Product
from cosmeans.backends.cpu.screens import CANONICAL, Codes, Columns, lengths
from cosmeans.backends.cpu.threads import spread

_SHARE = 4  # one direction of so many; measured at 8, 4 and 2 on five embeddings: 4 leaves the least work
_NOTHING = 2.0**-44  # more than float64 rounding leaves of a squared length of one
_MARGIN = 0.04  # of t: how far below the best a bound is worth having in later passes


def pca_bytes(n_features: int) -> int:
    """Bytes of one row's coordinates and lengths."""
    return 2 * directions(n_features)[1] + 12


def directions(n_features: int) -> tuple[int, int]:
    """How many directions are multiplied for all columns, and how many there are."""
    leading = max(1, n_features // _SHARE)
    return leading, min(n_features, 2 * leading)


class Coordinates(NamedTuple):
    """Rows or columns x = P a + r: coordinates a (B, Q); upper bounds, float32 (B,).

    tail   on |r| with the leading directions alone
    rest   on |r| with all of them
    lost   on |P^T r| with all of them, and so with the leading ones
    """

    codes: np.ndarray
    tail: np.ndarray
    rest: np.ndarray
    lost: np.ndarray


class Basis:
    """Principal directions of a sample, leading ones first: P (D, Q) float64, and how far P^T P is from the identity.

    leading: how many of them are multiplied for all columns. P can be any matrix at all: one that fits the rows badly,
    or is not orthogonal, makes the bounds larger, never false.
    """

    def __init__(self, sample: np.ndarray) -> None:
        wide = torch.from_numpy(sample).to(torch.float64)
        _, vectors = torch.linalg.eigh(wide.T @ wide)  # ascending
        self.leading, size = directions(sample.shape[1])
        self.directions: np.ndarray = vectors.flip(1)[:, :size].contiguous().numpy()
        gram = self.directions.T @ self.directions
        self.skew = float(np.linalg.norm(gram - np.eye(len(gram)))) + _NOTHING

    def error(self) -> float:
        """How far float32 products P^T x are from the true ones, for |x| = 1.

        (D + 1) u |x| |p| for each direction p: D u for the product, u for rounding p.
        """
        size = float(np.linalg.norm(self.directions))
        return (len(self.directions) + 2) * sphere.UNIT_ROUNDOFF * size * (1.0 + 2.0**-18)

    def split(self, rows: np.ndarray, multiply: Gemm, dtype: torch.dtype) -> Coordinates:
        """Coordinates of rows (B, D), rounded to this type; multiply: a float32 product, in any order."""
        size = len(rows)
        within = np.empty((size, self.directions.shape[1]), np.float32)
        multiply(rows, np.ascontiguousarray(self.directions.T, np.float32), within)
        codes = torch.from_numpy(within).to(dtype)
        near = codes.to(torch.float32).numpy()
        bounds = np.empty((3, size), np.float32)
        spread(encode.outside, rows, within, near, self.leading, self.error(), self.skew, *bounds, size=size)
        return Coordinates(codes.numpy(), *bounds)


class _Facts(NamedTuple):
    """longest |c - g|; how far coordinates b of columns s may be from P^T s, at most; coordinates beyond the leading
    ones (U, .), and what lies outside of all (U,)."""

    longest: float
    off: float
    following: np.ndarray
    rest: np.ndarray


class PcaScreen:
    """A product of D/4 columns instead of D; Cauchy and Schwarz bound what lies outside them (eq. 12).

        <x, s> <= <a, b> + |r_x| |r_s| + |P^T r_x| |b| + |a| |P^T s - b|,   x = P a + r_x,  s = P b + r_s

    The same holds with all of P, for less that lies outside. Coordinates of all rows stay from pass to pass, in
    float16.
    """

    name = "pca"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)

    def __init__(self, product: Product, basis: Basis, n_rows: int) -> None:
        self.product, self.basis = product, basis
        self._codes = np.empty((n_rows, basis.directions.shape[1]), np.float16)
        self._tail = np.zeros(n_rows, np.float32)  # 0: not made yet
        self._rest, self._lost = np.empty((2, n_rows), np.float32)

    @property
    def kept_bytes(self) -> int:
        return self._codes.nbytes + 3 * self._tail.nbytes

    def columns(self, shifted: np.ndarray) -> Columns:
        codes, tail, rest, _ = self.basis.split(shifted, self.product.multiply, torch.float32)
        leading = self.basis.leading
        first, following = np.ascontiguousarray(codes[:, :leading]), np.ascontiguousarray(codes[:, leading:])
        longest = float(lengths(shifted).max())
        facts = _Facts(longest, self.basis.error() * longest, following, rest)
        packed = fused.panels(first) if fused.multiplies_floats() else None
        return Columns(first, None, None, tail, facts, packed)

    def rows(self, rows: np.ndarray, start: int, columns: Columns) -> Codes:
        span = slice(start, start + len(rows))
        if not self._tail[span].all():
            made = self.basis.split(rows, self.product.multiply, torch.float16)
            self._codes[span], self._rest[span], self._lost[span] = made.codes, made.rest, made.lost
            self._tail[span] = made.tail  # last: it says that they are there
        return self._coded(self._codes[span], self._tail[span], self._rest[span], self._lost[span], columns)

    def reached(self, sample: np.ndarray, shifted: np.ndarray) -> float:
        """The share of products whose bound reaches the largest of its row: they would need more than D/4 columns."""
        columns = self.columns(shifted)
        coded = self._coded(*self.basis.split(sample, self.product.multiply, torch.float16), columns)
        largest = (sample @ shifted.T).max(axis=1)
        assert columns.width is not None
        products = coded.codes[:, : self.basis.leading] @ columns.codes.T
        upper = products + np.outer(coded.tail, columns.width) + coded.slack[:, None]
        return float((upper >= largest[:, None]).mean())

    def _coded(
        self, codes: np.ndarray, tail: np.ndarray, rest: np.ndarray, lost: np.ndarray, columns: Columns
    ) -> Codes:
        """slack: |P^T r_x| |b| and |a| |P^T s - b|; float32 products and the arithmetic of eq. 10: Q + 40 roundings."""
        longest, off, following, outside = columns.facts
        longest *= 1.01  # |b| and |r_s| are not longer, nor |a| and |r_x| than 1.01
        rounding = (codes.shape[1] + 40) * sphere.UNIT_ROUNDOFF * 1.01 * longest + 1.01 * off + CANONICAL
        slack = _above(lost.astype(np.float64) * longest + rounding)
        wide = torch.from_numpy(codes).to(torch.float32).numpy()
        finer = (following, rest, outside, _MARGIN)
        return Codes(wide, np.ones(len(codes), np.float32), tail, slack, finer)


def _above(values: np.ndarray) -> np.ndarray:
    """float32 that are not below these float64."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))

"""The screen by principal directions: three eighths of the coordinates, and what the lengths of the rest allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import encode, fused
from cosmeans.backends.cpu.kernels.gemm import Product
from cosmeans.backends.cpu.screens.screen import Codes, Columns, looser
from cosmeans.backends.cpu.targets import CANONICAL, Targets, lengths
from cosmeans.backends.cpu.threads import spread

_SHARE = 3 / 8  # of the directions; with a quarter, four times as many products have to be made in full
_TOGETHER = 16  # directions are taken in such groups, if there are so many
_NOTHING = 2.0**-44  # more than float64 rounding leaves of a squared length of one


def pca_bytes(n_features: int) -> int:
    """Bytes of one row's coordinates and lengths."""
    return 2 * directions(n_features) + 12


def directions(n_features: int) -> int:
    share = int(n_features * _SHARE)
    return max(1, share // _TOGETHER * _TOGETHER or share)


class Coordinates(NamedTuple):
    """Rows or columns x = P a + r: a = scale * codes, codes (B, Q) int16 and scale (B,) float32.

    tail, lost  (B,) float32: upper bounds on |r| and on |P^T r|
    """

    codes: np.ndarray
    scale: np.ndarray
    tail: np.ndarray
    lost: np.ndarray

    @classmethod
    def empty(cls, n_rows: int, size: int, allocate: Callable[..., np.ndarray] = np.empty) -> Coordinates:
        """Room for those of some rows; a scale of 0 says that they are not made yet."""
        tail, lost = allocate((2, n_rows), np.float32)
        return cls(allocate((n_rows, size), np.int16), np.zeros(n_rows, np.float32), tail, lost)

    def of(self, span: slice) -> Coordinates:
        """Those of some rows, in the same memory."""
        return Coordinates(*(part[span] for part in self))


class Basis:
    """Directions P (D, Q) float64, and how far P^T P is from the identity.

    P can be any matrix at all: one that fits the rows badly, or is not orthogonal, makes bounds larger, never false.
    """

    def __init__(self, directions: np.ndarray, pack: Callable[[np.ndarray], np.ndarray | None] = fused.packed) -> None:
        gram = directions.T @ directions
        self.directions = directions
        self.skew = float(np.linalg.norm(gram - np.eye(len(gram)), 2)) * (1.0 + 2.0**-20) + _NOTHING
        self.length = float(np.linalg.norm(directions))
        self.stretch = 1.01 * math.sqrt(1.0 + self.skew)
        """Upper bound on the length of coordinates, and of what they leave, of a vector of length 1."""
        self._across = np.ascontiguousarray(directions.T, np.float32)
        self.pack, self.packed = pack, pack(self._across)

    @classmethod
    def of(cls, sample: np.ndarray, pack: Callable[[np.ndarray], np.ndarray | None] = fused.packed) -> Basis:
        """The leading principal directions of some rows (S, D)."""
        wide = torch.from_numpy(sample).to(torch.float64)
        _, vectors = torch.linalg.eigh(wide.T @ wide)  # ascending
        return cls(vectors[:, -directions(sample.shape[1]) :].contiguous().numpy(), pack)

    def split(self, rows: np.ndarray, keep: np.ndarray | None, product: Product, into: Coordinates) -> None:
        """Coordinates of rows (B, D); product: of float32, in any order; keep (B,) bool, None: all of them.

        A product with one direction p is off by (D + 1) u |x| |p|: D u for the product, u for rounding p.
        """
        size, n_features = rows.shape
        within = np.empty((size, self.directions.shape[1]), np.float32)
        if self.packed is not None:
            spread(fused.products, rows, self.packed, within, size=size)
        else:
            product.multiply(rows, self._across, within)
        error = (n_features + 2) * sphere.UNIT_ROUNDOFF * self.length * (1.0 + 2.0**-18)
        keep = np.ones(size, np.bool_) if keep is None else keep
        spread(encode.to_int16, rows, keep, within, error, self.skew, *into, size=size)


class _Facts(NamedTuple):
    """longest |c - g|, longest |P^T r| of a column: upper bounds."""

    longest: float
    lost: float


class PcaScreen:
    """A product of Q columns instead of D; Cauchy and Schwarz bound what is outside them (eq. 12).

        <x, s> <= <a, b> + |r_x| |r_s| + |P^T r_x| |b| + |a| |P^T r_s|,   x = P a + r_x,  s = P b + r_s

    Coordinates of all rows stay from pass to pass, in 16 bits. They are multiplied as integers where the processor
    adds pairs of such products, else as float32.
    """

    name = "pca"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)

    def __init__(
        self, product: Product, basis: Basis, n_rows: int, allocate: Callable[..., np.ndarray] = np.empty
    ) -> None:
        self.product, self.basis = product, basis
        self._kept = Coordinates.empty(n_rows, basis.directions.shape[1], allocate)

    @property
    def kept_bytes(self) -> int:
        return sum(part.nbytes for part in self._kept)

    def columns(self, targets: Targets) -> Columns:
        shifted = targets.shifted
        made = Coordinates.empty(len(shifted), self.basis.directions.shape[1])
        self.basis.split(shifted, None, self.product, made)
        facts = _Facts(float(lengths(shifted).max()), float(made.lost.max()))
        packed = self.basis.pack(made.codes)
        bias = np.zeros(len(shifted), np.float32)
        return Columns(_numbers(made.codes, packed), made.scale, bias, made.tail, facts, packed)

    def rows(
        self, rows: np.ndarray, keep: np.ndarray, start: int, columns: Columns, lost: np.ndarray | None = None
    ) -> Codes:
        """What heads lost is counted with |P^T r|, which is taken times the length of a column, too."""
        made = self._kept.of(slice(start, start + len(rows)))
        if not made.scale.all():
            self.basis.split(rows, keep, self.product, made)
            made.lost[:] = looser(made.lost, lost)
        return self._coded(made, columns)

    def reached(self, sample: np.ndarray, targets: Targets) -> float:
        """The share of products whose bound reaches the largest of its row: they would have to be made in full."""
        columns, shifted = self.columns(targets), targets.shifted
        made = Coordinates.empty(len(sample), self.basis.directions.shape[1])
        self.basis.split(sample, None, self.product, made)
        coded = self._coded(made, columns)
        assert columns.factor is not None
        assert columns.width is not None
        largest, upper = np.empty((2, len(sample), len(shifted)), np.float32)
        self.product.multiply(sample, shifted, largest)
        ours, others = made.codes * made.scale[:, None], columns.codes * columns.factor[:, None]
        self.product.multiply(ours, others, upper)
        upper += np.outer(coded.tail, columns.width) + coded.slack[:, None]
        return float((upper >= largest.max(axis=1, keepdims=True)).mean())

    def _coded(self, made: Coordinates, columns: Columns) -> Codes:
        """slack: the last two terms; the product, if in float32, and the arithmetic of eq. 10: Q + 40 roundings."""
        longest, lost = columns.facts
        longest, lost = longest * self.basis.stretch, lost * self.basis.stretch
        rounding = (made.codes.shape[1] + 40) * sphere.UNIT_ROUNDOFF * self.basis.stretch * longest + CANONICAL
        slack = made.lost.astype(np.float64) * longest + lost + rounding
        codes = _numbers(made.codes, columns.panels)
        return Codes(codes, made.scale, made.tail, np.nextafter(slack.astype(np.float32), np.float32(np.inf)))


def _numbers(codes: np.ndarray, packed: np.ndarray | None) -> np.ndarray:
    """Codes as they are multiplied: as float32 where nothing multiplies 16-bit integers."""
    return codes if packed is not None else codes.astype(np.float32)

"""The screen by principal directions: a quarter of the coordinates, and what the lengths of the rest allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cosmeans import sphere
from cosmeans.backends.cpu import fused
from cosmeans.backends.cpu.gemm import Product
from cosmeans.backends.cpu.screens import CANONICAL, Codes, Columns, lengths

_SHARE = 4  # one direction of so many; measured at 8, 4 and 2 on five embeddings: 4 leaves the least work
_NOTHING = 2.0**-44  # more than float64 rounding leaves of a squared length of one
_OUTWARD = 1.0 + 2.0**-20


def pca_bytes(n_features: int) -> int:
    """Bytes of one row's coordinates."""
    return 2 * directions(n_features) + 8


def directions(n_features: int) -> int:
    return max(1, n_features // _SHARE)


class Basis:
    """Leading principal directions of a sample: P (D, Q) float64, and how far P^T P is from the identity."""

    def __init__(self, sample: np.ndarray) -> None:
        wide = torch.from_numpy(sample).to(torch.float64)
        _, vectors = torch.linalg.eigh(wide.T @ wide)  # ascending
        self.directions: np.ndarray = vectors[:, -directions(sample.shape[1]) :].contiguous().numpy()
        gram = self.directions.T @ self.directions
        self.skew = float(np.linalg.norm(gram - np.eye(len(gram)))) + _NOTHING

    def split(self, rows: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """rows (B, D) = codes P^T + r: codes (B, Q); upper bounds, float64, on |r| and on |P^T r|, (B,).

        |r|^2 = |x|^2 - 2 <codes, P^T x> + |P codes|^2, and P^T r = P^T x - codes - (P^T P - I) codes. P can be any
        matrix at all: one that fits the rows badly, or is not orthogonal, makes the bounds larger, never false.
        """
        wide = rows.astype(np.float64)
        within = wide @ self.directions
        codes = within.astype(dtype)
        near = codes.astype(np.float64)
        squared = np.einsum("ij,ij->i", near, near)
        rest = np.einsum("ij,ij->i", wide, wide) - 2.0 * np.einsum("ij,ij->i", near, within)
        tail = np.sqrt(np.maximum(rest + squared * (1.0 + self.skew), 0.0) + _NOTHING)
        lost = np.linalg.norm(within - near, axis=1) + self.skew * np.sqrt(squared) + _NOTHING
        return codes, tail * _OUTWARD, lost * _OUTWARD


class PcaScreen:
    """A product of Q columns instead of D; Cauchy and Schwarz bound what lies outside them (eq. 12).

        <x, s> <= <a, b> + |r_x| |r_s| + |P^T r_x| |b|,   x = P a + r_x,  s = P b + r_s

    Coordinates of all rows stay from pass to pass, in float16.
    """

    name = "pca"
    dtype: Any = np.float32
    lowest = np.float32(-np.inf)

    def __init__(self, product: Product, basis: Basis, n_rows: int) -> None:
        self.product, self.basis = product, basis
        self._codes = np.empty((n_rows, basis.directions.shape[1]), np.float16)
        self._tail = np.zeros(n_rows, np.float32)  # 0: not made yet
        self._lost = np.empty(n_rows, np.float32)

    @property
    def kept_bytes(self) -> int:
        return self._codes.nbytes + self._tail.nbytes + self._lost.nbytes

    def columns(self, shifted: np.ndarray) -> Columns:
        codes, tail, _ = self.basis.split(shifted, np.float32)
        size = len(shifted)
        longest = float(lengths(shifted).max())
        packed = fused.panels(codes) if fused.multiplies_floats() else None
        return Columns(codes, np.ones(size, np.float32), np.zeros(size, np.float32), _above(tail), longest, packed)

    def rows(self, rows: np.ndarray, start: int, columns: Columns) -> Codes:
        span = slice(start, start + len(rows))
        if not self._tail[span].all():
            codes, tail, lost = self.basis.split(rows, np.float16)
            self._codes[span], self._tail[span], self._lost[span] = codes, _above(tail), _above(lost)
        return self._coded(self._codes[span], self._tail[span], self._lost[span], columns)

    def reached(self, sample: np.ndarray, shifted: np.ndarray) -> float:
        """The share of products whose bound reaches the largest of its row: they would have to be made in full."""
        columns = self.columns(shifted)
        codes, tail, lost = self.basis.split(sample, np.float16)
        coded = self._coded(codes, _above(tail), _above(lost), columns)
        largest = (sample @ shifted.T).max(axis=1)
        assert columns.width is not None
        upper = coded.codes @ columns.codes.T + np.outer(coded.tail, columns.width) + coded.slack[:, None]
        return float((upper >= largest[:, None]).mean())

    def _coded(self, codes: np.ndarray, tail: np.ndarray, lost: np.ndarray, columns: Columns) -> Codes:
        """slack: |P^T r_x| |b|; b rounded, the float32 product and the arithmetic of eq. 10: Q + 40 roundings."""
        longest = columns.facts * 1.01  # |b| and |r_s| are not longer, nor |a| and |r_x| than 1.01
        rounding = (codes.shape[1] + 40) * sphere.UNIT_ROUNDOFF * 1.01 * longest + CANONICAL
        slack = _above(lost.astype(np.float64) * longest + rounding)
        return Codes(codes.astype(np.float32), np.ones(len(codes), np.float32), tail, slack)


def _above(values: np.ndarray) -> np.ndarray:
    """float32 that are not below these float64."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))

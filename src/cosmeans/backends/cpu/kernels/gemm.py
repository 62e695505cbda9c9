"""Matrix products of libraries: float32 by torch or NumPy, integers by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Gemm = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
TILE_BYTES = 2 << 20  # products of one tile: they stay in the cache until they are certified
_TILE_ROWS = (128, 2048)  # fewer rows make a product slow


@dataclass(frozen=True, slots=True)
class Product:
    """A way of multiplying, and the bytes of one product at which it is fast.

    all_cores: it takes all of them for one tile after another, where the others take one each for a tile of its own
    """

    multiply: Gemm
    tile_bytes: int
    all_cores: bool


def tile_rows(tile_bytes: int, width: int) -> int:
    """Rows of a tile against so many columns."""
    fewest, most = _TILE_ROWS
    return min(most, max(fewest, tile_bytes // (4 * width)))


def torch_gemm(rows: np.ndarray, centroids: np.ndarray, out: np.ndarray) -> None:
    """out (B, K) = rows (B, D) @ centroids (K, D)^T."""
    with torch.autocast("cpu", enabled=False):
        torch.mm(torch.from_numpy(rows), torch.from_numpy(centroids).t(), out=torch.from_numpy(out))


def numpy_gemm(rows: np.ndarray, centroids: np.ndarray, out: np.ndarray) -> None:
    """out (B, K) = rows (B, D) @ centroids (K, D)^T."""
    with np.errstate(all="ignore"):  # rows to be skipped may hold NaN; nobody reads their scores
        np.matmul(rows, centroids.T, out=out)


def int8_gemm(rows: np.ndarray, centroids: np.ndarray, out: np.ndarray) -> None:
    """out (B, K) int32 = rows (B, D) int8 @ centroids (K, D)^T int8."""
    if rows.shape[1] == 1:  # torch 2.13 misreads the layout of one feature and returns something else
        np.multiply(rows, centroids.T, out=out, dtype=np.int32)
        return
    _INT_MM(torch.from_numpy(rows), torch.from_numpy(centroids).t(), out=torch.from_numpy(out))


# torch has no public product of 8-bit integers with 32-bit sums (2.13: `mm` of int8 returns int8, quantized modules
# round what they return). This one may go: without it there are no 8-bit products of libraries
_INT_MM: Any = getattr(torch, "_int_mm", None)
INT8 = Product(int8_gemm, TILE_BYTES, all_cores=False)


def is_exact(gemm: Gemm, n_features: int) -> bool:
    """rows @ identity must return the rows bit for bit; a product in bfloat16 or tf32 does not.

    Settings that lower precision are global and can change at any time, so this is asked once per fit, on a
    product large enough for the library to take its usual path. It can refuse, never prove.
    """
    size = min(n_features, 256)
    rows = np.random.default_rng(0).random((64, size), dtype=np.float32)
    out = np.empty_like(rows)
    gemm(rows, np.eye(size, dtype=np.float32), out)
    return bool((out == rows).all())


def int8_is_exact(gemm: Gemm, n_features: int) -> bool:
    """Whether products of the largest codes come out: some emulations saturate at 16 bits."""
    if gemm is int8_gemm and _INT_MM is None:
        return False
    rows = np.random.default_rng(0).choice(np.array([-127, 126, 127], np.int8), (64, n_features))
    out = np.empty((len(rows), len(rows)), np.int32)
    gemm(rows, rows, out)
    wide = rows.astype(np.float64)
    return bool((out == wide @ wide.T).all())  # float64 holds these integers exactly


FLOAT32 = (Product(torch_gemm, TILE_BYTES, all_cores=False), Product(numpy_gemm, 4 * TILE_BYTES, all_cores=True))

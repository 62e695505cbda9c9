"""Matrix products: float32 by torch or NumPy, whichever is faster here, and integers where the machine has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from cosmeans.errors import PrecisionError

Gemm = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
_ROUNDS = 3
# NumPy's product takes all cores for one tile at a time, torch's one core for each tile: worth a little
_MUCH_FASTER = 1.15


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
    torch._int_mm(torch.from_numpy(rows), torch.from_numpy(centroids).t(), out=torch.from_numpy(out))


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


def choose_gemm(n_clusters: int, n_features: int, trial: bool = True) -> Gemm:
    """The faster product for this shape among those that are float32 products now; without a trial, the first."""
    usable = [gemm for gemm in (torch_gemm, numpy_gemm) if is_exact(gemm, n_features)]
    if not usable:
        raise PrecisionError(
            "float32 matrix products lose bits in both torch and NumPy on this machine, so labels could not be "
            "proved. Reset torch.set_float32_matmul_precision and torch.backends.mkldnn settings to their "
            'defaults, or use backend="reference".'
        )
    if not trial:
        return usable[0]
    ranking = _ranking(min(n_clusters, 1024), n_features, torch.get_num_threads())
    return next(gemm for gemm in ranking if gemm in usable)


@lru_cache(maxsize=64)
def _ranking(n_clusters: int, n_features: int, threads: int) -> tuple[Gemm, ...]:
    """Both products, fastest first, from a few milliseconds of trial. `threads` is part of the key only."""
    rng = np.random.default_rng(0)
    rows = rng.random((512, n_features), dtype=np.float32)
    centroids = rng.random((n_clusters, n_features), dtype=np.float32)
    out = np.empty((512, n_clusters), np.float32)
    best = {}
    for gemm in (torch_gemm, numpy_gemm):
        gemm(rows, centroids, out)
        best[gemm] = min(_seconds(gemm, rows, centroids, out) for _ in range(_ROUNDS))
    best[torch_gemm] /= _MUCH_FASTER
    return tuple(sorted(best, key=best.__getitem__))


@lru_cache(maxsize=64)
def int8_is_exact(n_features: int) -> bool:
    """Whether products of the largest codes come out: some emulations saturate at 16 bits."""
    if not hasattr(torch, "_int_mm"):
        return False
    rows = np.random.default_rng(0).choice(np.array([-127, 126, 127], np.int8), (64, n_features))
    out = np.empty((len(rows), len(rows)), np.int32)
    int8_gemm(rows, rows, out)
    wide = rows.astype(np.float64)
    return bool((out == wide @ wide.T).all())  # float64 holds these integers exactly


@lru_cache(maxsize=64)
def int8_gain(n_clusters: int, n_features: int, threads: int) -> float:
    """How many times faster than in float32 integers are multiplied here, exactly; 0 where they aren't.

    Processors without integer products (VNNI, dot-product instructions) emulate them, slowly.
    """
    if not int8_is_exact(n_features):
        return 0.0
    rng = np.random.default_rng(0)
    rows = rng.choice(np.array([-127, 126, 127], np.int8), (512, n_features))
    columns = rng.choice(np.array([-127, 127], np.int8), (min(n_clusters, 1024), n_features))
    out = np.empty((512, len(columns)), np.int32)
    int8_gemm(rows, columns, out)
    wide, narrow = rows.astype(np.float32), columns.astype(np.float32)
    float32 = np.empty(out.shape, np.float32)
    gemm = _ranking(len(columns), n_features, threads)[0]
    integers = min(_seconds(int8_gemm, rows, columns, out) for _ in range(_ROUNDS))
    return min(_seconds(gemm, wide, narrow, float32) for _ in range(_ROUNDS)) / integers


def _seconds(gemm: Gemm, rows: np.ndarray, centroids: np.ndarray, out: np.ndarray) -> float:
    started = time.perf_counter()
    gemm(rows, centroids, out)
    return time.perf_counter() - started

"""Matrix products: float32 by torch or NumPy, whichever is faster here, and integers where the machine has them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from cosmeans.backends.cpu.threads import each
from cosmeans.calls import usable_threads
from cosmeans.errors import PrecisionError

Gemm = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
TILE_BYTES = 2 << 20  # products of one tile: they stay in the cache until they are decided
_TILE_ROWS = (128, 2048)  # fewer rows make a product slow
_ROUNDS, _TRIAL_ROUNDS = 12, 5
_GAIN_ROWS = 128  # a product of a millisecond: mostly, nothing interrupts it
_TRIAL_TILES = 3  # one after another in each thread: what lasts, not what a core does at its best
# what NumPy's must gain: its threads all wait while labels are decided, and are in the way for some time after
_NUMPY_GAIN = 1.04
_TRIAL_COLUMNS = 4096
_FEW_COLUMNS = 1024  # enough to compare kinds of numbers


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
    torch._int_mm(torch.from_numpy(rows), torch.from_numpy(centroids).t(), out=torch.from_numpy(out))


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


def choose_gemm(n_clusters: int, n_features: int, trial: bool = True) -> Product:
    """The faster product for this shape among those that are float32 products now; without a trial, the first."""
    usable = [product for product in _float32_products() if is_exact(product.multiply, n_features)]
    if not usable:
        raise PrecisionError(
            "float32 matrix products lose bits in both torch and NumPy on this machine, so labels could not be "
            "proved. Reset torch.set_float32_matmul_precision and torch.backends.mkldnn settings to their "
            'defaults, or use backend="reference".'
        )
    if not trial or len(usable) == 1:
        return usable[0]
    return usable[_fastest(min(n_clusters, _TRIAL_COLUMNS), n_features, usable_threads())]


def _float32_products() -> tuple[Product, Product]:
    return Product(torch_gemm, TILE_BYTES, all_cores=False), Product(numpy_gemm, 4 * TILE_BYTES, all_cores=True)


@lru_cache(maxsize=64)
def _fastest(n_clusters: int, n_features: int, threads: int) -> int:
    """Which product is faster as it will be used: 0: torch's, in all threads at once; 1: NumPy's, tile by tile.

    Alone, a thread multiplies up to a quarter faster than beside another that shares its memory.
    """
    rng = np.random.default_rng(0)
    centroids = rng.random((n_clusters, n_features), dtype=np.float32)
    ways: list[Callable[[], object]] = []
    counted = []
    for product in _float32_products():
        size, beside = tile_rows(product.tile_bytes, n_clusters), 1 if product.all_cores else threads
        rows = rng.random((size, n_features), dtype=np.float32)
        outs = [np.empty((size, n_clusters), np.float32) for _ in range(beside)]
        turns = [partial(product.multiply, rows, centroids, out) for _ in range(_TRIAL_TILES) for out in outs]
        ways.append(partial(each if beside > 1 else _in_turn, _call, turns))
        counted.append(size * len(turns))
    torch_seconds, numpy_seconds = interleaved(ways, _TRIAL_ROUNDS)
    return int(numpy_seconds / counted[1] * _NUMPY_GAIN < torch_seconds / counted[0])


def _call(work: Callable[[], object]) -> object:
    return work()


def _in_turn(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [work(item) for item in items]


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


def int8_gain(n_clusters: int, n_features: int, threads: int) -> float:
    """How many times faster than in float32 integers are multiplied here, exactly; 0 where they aren't.

    Processors without integer products (VNNI, dot-product instructions) emulate them, slowly. Tried in one thread of
    the pool: where other processes take cores away, threads that wait for one another measure those. NumPy takes all
    of its cores even so, each of which counts. Numbers of clusters that are much the same share a trial: centroids that
    become equal don't make a fit try again, and perhaps change its mind.
    """
    if not int8_is_exact(n_features):
        return 0.0
    step = 1 << max(0, n_clusters.bit_length() - 4)
    return tried_gain(min(-(-n_clusters // step) * step, _FEW_COLUMNS), n_features, threads)


@lru_cache(maxsize=64)
def tried_gain(n_columns: int, n_features: int, threads: int) -> float:
    rng = np.random.default_rng(0)
    rows = rng.choice(np.array([-127, 126, 127], np.int8), (_GAIN_ROWS, n_features))
    columns = rng.choice(np.array([-127, 127], np.int8), (n_columns, n_features))
    wide, narrow = rows.astype(np.float32), columns.astype(np.float32)
    integers, floats = np.empty((len(rows), len(columns)), np.int32), np.empty((len(rows), len(columns)), np.float32)
    ways: list[Callable[[], object]] = [partial(int8_gemm, rows, columns, integers)]
    ways += [partial(product.multiply, wide, narrow, floats) for product in _float32_products()]
    ((in_8_bits, by_torch, by_numpy),) = each(partial(interleaved, rounds=_ROUNDS), [ways])
    return min(by_torch, by_numpy * threads) / in_8_bits


def interleaved(ways: list[Callable[[], object]], rounds: int) -> list[float]:
    """The least seconds of each way; turn by turn, so that what else the machine does hits all of them."""
    best = [math.inf] * len(ways)
    for _ in range(rounds):
        for n, way in enumerate(ways):
            started = time.perf_counter()
            way()
            best[n] = min(best[n], time.perf_counter() - started)
    return best

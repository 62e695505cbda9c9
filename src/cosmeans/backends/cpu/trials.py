"""Trials: which products are exact here, and which are faster. What one finds holds for this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cosmeans.backends.cpu.kernels import gemm
from cosmeans.backends.cpu.kernels.gemm import FLOAT32, Product, int8_gemm, is_exact, tile_rows
from cosmeans.backends.cpu.threads import each
from cosmeans.calls import usable_threads
from cosmeans.errors import PrecisionError

_ROUNDS, _TRIAL_ROUNDS = 12, 5
_GAIN_ROWS = 128  # a product of a millisecond: mostly, nothing interrupts it
_TRIAL_TILES = 3  # one after another in each thread: what lasts, not what a core does at its best
# what NumPy's must gain: its threads all wait while labels are certified, and are in the way for some time after
_NUMPY_GAIN = 1.04
_TRIAL_COLUMNS = 4096
_FEW_COLUMNS = 1024  # enough to compare kinds of numbers


def choose_gemm(
    n_clusters: int, n_features: int, trial: bool = True, products: tuple[Product, ...] = FLOAT32
) -> Product:
    """The faster product for this shape among those that are float32 products now; without a trial, the first."""
    usable = [product for product in products if is_exact(product.multiply, n_features)]
    if not usable:
        raise PrecisionError(
            "float32 matrix products lose bits in both torch and NumPy on this machine, so labels could not be "
            "proved. Reset torch.set_float32_matmul_precision and torch.backends.mkldnn settings to their "
            'defaults, or use backend="reference".'
        )
    if not trial or len(usable) == 1:
        return usable[0]
    return usable[_fastest(min(n_clusters, _TRIAL_COLUMNS), n_features, usable_threads())]


@lru_cache(maxsize=64)
def _fastest(n_clusters: int, n_features: int, threads: int) -> int:
    """Which product is faster as it will be used: 0: torch's, in all threads at once; 1: NumPy's, tile by tile.

    Alone, a thread multiplies up to a quarter faster than with another one that shares its memory.
    """
    rng = np.random.default_rng(0)
    centroids = rng.random((n_clusters, n_features), dtype=np.float32)
    ways: list[Callable[[], object]] = []
    counted = []
    for product in FLOAT32:
        size, at_once = tile_rows(product.tile_bytes, n_clusters), 1 if product.all_cores else threads
        rows = rng.random((size, n_features), dtype=np.float32)
        outs = [np.empty((size, n_clusters), np.float32) for _ in range(at_once)]
        turns = [partial(product.multiply, rows, centroids, out) for _ in range(_TRIAL_TILES) for out in outs]
        ways.append(partial(each if at_once > 1 else _in_turn, _call, turns))
        counted.append(size * len(turns))
    torch_seconds, numpy_seconds = interleaved(ways, _TRIAL_ROUNDS)
    return int(numpy_seconds / counted[1] * _NUMPY_GAIN < torch_seconds / counted[0])


def _call(work: Callable[[], object]) -> object:
    return work()


def _in_turn(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [work(item) for item in items]


@lru_cache(maxsize=64)
def int8_is_exact(n_features: int) -> bool:
    """Whether products of 8-bit integers are exact here."""
    return gemm.int8_is_exact(int8_gemm, n_features)


def int8_gain(n_clusters: int, n_features: int, threads: int) -> float:
    """How many times faster than in float32 integers are multiplied here, exactly; 0 where they aren't.

    Processors without integer products (VNNI, dot-product instructions) emulate them, slowly. Tried in one thread of
    the pool: where other processes take cores away, threads that wait for one another measure those. NumPy takes all
    of its cores even so, each of which counts.
    """
    return _tried_gain(columns_of_trial(n_clusters), n_features, threads) if int8_is_exact(n_features) else 0.0


def columns_of_trial(n_clusters: int) -> int:
    """Numbers of clusters that are much the same share a trial.

    So centroids that become equal don't make a fit try again, and perhaps change its mind.
    """
    step = 1 << max(0, n_clusters.bit_length() - 4)
    return min(-(-n_clusters // step) * step, _FEW_COLUMNS)


@lru_cache(maxsize=64)
def _tried_gain(n_columns: int, n_features: int, threads: int) -> float:
    rng = np.random.default_rng(0)
    rows = rng.choice(np.array([-127, 126, 127], np.int8), (_GAIN_ROWS, n_features))
    columns = rng.choice(np.array([-127, 127], np.int8), (n_columns, n_features))
    wide, narrow = rows.astype(np.float32), columns.astype(np.float32)
    integers, floats = np.empty((len(rows), len(columns)), np.int32), np.empty((len(rows), len(columns)), np.float32)
    ways: list[Callable[[], object]] = [partial(int8_gemm, rows, columns, integers)]
    ways += [partial(product.multiply, wide, narrow, floats) for product in FLOAT32]
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

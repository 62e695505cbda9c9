"""First centroids: counter-based random words, integer masses, integer prefix sums in row order (eq. 13).

Nothing here depends on the device, the batches or the order of a floating-point sum.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import InspectedRows, RowsByIndex, Session
from cosmeans.data import Batch
from cosmeans.distinct import DistinctRows, block_rows
from cosmeans.observer import Observer

_WORD = 1 << 64
_SAMPLE_PER_CLUSTER = 256  # k-means++ reads all rows K times; beyond 256 rows a cluster it reads a sample
_WORDS_AT_ONCE = 1 << 20  # 8 MB
_SECOND_BLOCK = 64  # draws


class Purpose(IntEnum):
    """The second half of every Philox key: draws for different ends never meet."""

    RANDOM = 1
    PLUS_PLUS = 2
    SAMPLE = 3
    SUBSET = 4


def draw_below(bound: int, seed: int, purpose: Purpose, counter: int, run: int) -> int:
    """An integer in [0, bound): a Philox word times the bound, over 2^64.

    No word is rejected, so the draw falls on the same share of the bound whatever the bound is.
    """
    generator = np.random.Philox(key=(seed, int(purpose)), counter=(counter, run, 0, 0))
    return int(generator.random_raw()) * bound >> 64


def draw_many(bound: int, seed: int, purpose: Purpose, counters: range, run: int) -> np.ndarray:
    """`draw_below` for each of these consecutive counters, (C,) uint64; bound below 2^64.

    Making a generator for each would take most of the time.
    """
    # a counter is one block of four words, of which a draw takes the first
    generator = np.random.Philox(key=(seed, int(purpose)), counter=(counters.start, run, 0, 0))
    return _high_words(generator.random_raw(4 * len(counters))[::4], bound)


def _high_words(words: np.ndarray, factor: int) -> np.ndarray:
    """The high words of 64-bit words times a factor below 2^64, from products of their halves."""
    shift, half = np.uint64(32), np.uint64((1 << 32) - 1)
    a, b, c, d = words >> shift, words & half, np.uint64(factor >> 32), np.uint64(factor & int(half))
    left, right = a * d, b * c
    middle = (b * d >> shift) + (left & half) + (right & half)
    high: np.ndarray = a * c + (left >> shift) + (right >> shift) + (middle >> shift)
    return high


def subset(n_rows: int, size: int, seed: int, run: int = 0) -> np.ndarray:
    """`size` row indices, ascending, each at most once: those of the smallest Philox words, ties by index.

    Nested: a larger size holds the rows of a smaller one. Words are made in blocks, and few more than `size` kept.
    """
    if size >= n_rows:
        return np.arange(n_rows)
    enough = size + 8 * math.isqrt(size) + 64  # words expected below the limit: fewer than `size` are as good as never
    while True:
        limit = min(_WORD * enough // n_rows, _WORD - 1)
        words, indices = _small_words(n_rows, limit, seed, run)
        if len(words) >= size:
            return np.sort(indices[np.argsort(words, kind="stable")[:size]])
        enough *= 2


def _small_words(n_rows: int, limit: int, seed: int, run: int) -> tuple[np.ndarray, np.ndarray]:
    """The words of rows that are at most `limit`, and the indices of the rows, ascending."""
    words, indices = [], []
    for start in range(0, n_rows, _WORDS_AT_ONCE):
        generator = np.random.Philox(key=(seed, int(Purpose.SUBSET)), counter=(start // 4, run, 0, 0))
        block = generator.random_raw(min(_WORDS_AT_ONCE, n_rows - start))
        chosen = np.flatnonzero(block <= np.uint64(limit))
        words.append(block[chosen])
        indices.append(chosen + start)
    return np.concatenate(words), np.concatenate(indices)


class _Draws:
    """Rows in proportion to integer masses: the first whose inclusive prefix sum exceeds the draw."""

    def __init__(self, rows: RowsByIndex, masses: Tensor | None, seed: int, purpose: Purpose, run: int) -> None:
        self.key = (seed, purpose)
        self.run = run
        self.shift = rows.scale
        self.prefix = None if masses is None else torch.cumsum(masses, 0).cpu().numpy()
        self.bound = rows.n_rows << rows.scale if self.prefix is None else int(self.prefix[-1])

    def take(self, counters: range) -> np.ndarray:
        """The row of each of these consecutive draws, int64."""
        drawn = draw_many(self.bound, *self.key, counters, self.run).astype(np.int64)  # sums stay below 2^62
        if self.prefix is None:
            return drawn >> self.shift
        return np.searchsorted(self.prefix, drawn, side="right")


def random_rows(rows: RowsByIndex, n_clusters: int, seed: int, run: int = 0) -> Tensor:
    """K rows of different content, drawn in proportion to their weights: (K, D).

    Rows left out and contents taken already are passed over. After 32 K + 1000 draws the rest comes from row
    order; with fewer than K distinct rows the first ones are repeated.
    """
    found = DistinctRows(rows, n_clusters)
    _draw(found, 32 * n_clusters + 1000, seed, run)
    step = block_rows(rows.n_features)
    for start in range(0, rows.n_rows, step):
        if not found.missing:
            break
        found.offer(np.arange(start, min(start + step, rows.n_rows)))
    return found.centroids()


def random_rows_soon(rows: RowsByIndex, n_clusters: int, seed: int) -> Tensor | None:
    """The `random_rows` of the first run, if about as many draws as rows wanted find them; else None."""
    found = DistinctRows(rows, n_clusters)
    _draw(found, 2 * n_clusters + 64, seed, 0)
    return None if found.missing else found.centroids()


def _draw(found: DistinctRows, n_draws: int, seed: int, run: int) -> None:
    """Offer the rows of draws 0, 1, ... until enough are found, or so many draws were made.

    The first block holds as many as are wanted, which is mostly enough, or nearly; the next ones grow, since where
    many draws are passed over, so will many of the others be.
    """
    rows = found.rows
    if rows.n_rows == 0:
        return
    draws = _Draws(rows, rows.masses(), seed, Purpose.RANDOM, run)
    offered: set[int] = set()
    counter, step, most = 0, 0, block_rows(rows.n_features)
    while found.missing and counter < n_draws:
        stop = min(n_draws, counter + max(step, found.missing))
        drawn = [index for index in dict.fromkeys(draws.take(range(counter, stop)).tolist()) if index not in offered]
        offered.update(drawn)
        found.offer(np.array(drawn, dtype=np.int64))
        counter, step = stop, min(max(_SECOND_BLOCK, 2 * step), most)


def plus_plus(session: Session, n_clusters: int, seed: int, run: int = 0, observer: Observer | None = None) -> Tensor:
    """k-means++ on the sphere: each next centroid is a row drawn in proportion to 1 - cos to the nearest so far.

    1 - cos is half the squared chord, so this is the D^2 rule of Arthur & Vassilvitskii 2007. The masses are
    integers, rint((1 - cos) 2^(s-1)), and 0 where 1 - cos < 2^-20. Of more than 256 K rows, it runs on a sample of
    256 K, drawn in proportion to their weights. Where no row it reads is apart from the centroids so far, the start
    is that of `random_rows`.
    """
    rows = session.rows
    centroids = [random_rows(rows, 1, seed, run)]
    batches, indices = _sampled(rows, n_clusters, seed, run)
    best = [torch.full((len(batch),), -2.0, dtype=torch.float64, device=rows.device) for batch in batches]
    for j in range(1, n_clusters):
        parts = [torch.zeros(1, dtype=torch.int64, device=rows.device)]
        for batch, nearest in zip(batches, best, strict=True):
            session.improve(batch, centroids[-1][0], nearest)
            parts.append(_distance_masses(batch, nearest, rows.scale))
        prefix = torch.cumsum(torch.cat(parts), 0).cpu().numpy()
        if prefix[-1] == 0:
            return random_rows(rows, n_clusters, seed, run)
        r = draw_below(int(prefix[-1]), seed, Purpose.PLUS_PLUS, j, run)
        index = int(np.searchsorted(prefix[1:], r, side="right"))
        centroids.append(rows.take(indices[index : index + 1]))
        if observer is not None:
            observer.seeding(j + 1, n_clusters)
            if observer.stop_requested:
                raise KeyboardInterrupt
    return torch.cat(centroids)


def _sampled(rows: InspectedRows, n_clusters: int, seed: int, run: int) -> tuple[list[Batch], Tensor]:
    """The batches that k-means++ reads, and the row index of each of their rows."""
    size = _SAMPLE_PER_CLUSTER * n_clusters
    if rows.n_rows <= size:  # their weights, and so a multiple of these, have no say
        return list(rows.batches()), torch.arange(rows.n_rows, dtype=torch.int64, device="cpu")
    drawn = torch.from_numpy(_Draws(rows, rows.masses(), seed, Purpose.SAMPLE, run).take(range(size)))
    indices = drawn[rows.kept(drawn)]
    return [Batch(i * 4096, rows.take(part)) for i, part in enumerate(indices.split(4096))], indices


def _distance_masses(batch: Batch, best: Tensor, scale: int) -> Tensor:
    distance = (1.0 - best).clamp_min(0.0)
    q = torch.where(distance < 2.0**-20, torch.zeros_like(distance), torch.round(distance * 2.0 ** (scale - 1)))
    masses = sphere.term(batch.weights, q.to(torch.int64))
    return masses if batch.keep is None else torch.where(batch.keep, masses, torch.zeros_like(masses))

"""First centroids: counter-based random words, integer masses, integer prefix sums in row order (rule 6).

Nothing here depends on the device, the batches or the order of a floating-point sum.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Backend, Observer, RowsByIndex, RowSource
from cosmeans.data import Batch
from cosmeans.errors import InputError

_WORD = 1 << 64
_SAMPLE_PER_CLUSTER = 256  # k-means++ reads all rows K times; beyond 256 rows a cluster it reads a sample


class Purpose(IntEnum):
    """The second half of every Philox key: draws for different ends never meet."""

    RANDOM = 1
    PLUS_PLUS = 2
    SAMPLE = 3
    SUBSET = 4


def draw_below(bound: int, seed: int, purpose: Purpose, counter: int, run: int) -> int:
    """A uniform integer in [0, bound) from Philox words (Lemire 2019: multiply, reject the uneven rest)."""
    generator = np.random.Philox(key=(seed, int(purpose)), counter=(counter, run, 0, 0))
    uneven = _WORD % bound
    while True:
        product = int(generator.random_raw()) * bound
        if product % _WORD >= uneven:
            return product >> 64


def draw_many(bound: int, seed: int, purpose: Purpose, counters: range, run: int) -> list[int]:
    """`draw_below` for each of these consecutive counters; making a generator for each would take most of the time."""
    if not counters:
        return []
    # a counter is one block of four words, of which a draw takes the first
    generator = np.random.Philox(key=(seed, int(purpose)), counter=(counters.start, run, 0, 0))
    high, low = _products(generator.random_raw(4 * len(counters))[::4], bound)
    drawn: list[int] = high.tolist()
    for i in np.flatnonzero(low < np.uint64(_WORD % bound)).tolist():
        drawn[i] = draw_below(bound, seed, purpose, counters[i], run)
    return drawn


def _products(words: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The high and the low words of 64-bit words times a factor below 2^64, from products of their halves."""
    shift, half = np.uint64(32), np.uint64((1 << 32) - 1)
    a, b, c, d = words >> shift, words & half, np.uint64(factor >> 32), np.uint64(factor & int(half))
    lowest, left, right = b * d, a * d, b * c
    middle = (lowest >> shift) + (left & half) + (right & half)
    high = a * c + (left >> shift) + (right >> shift) + (middle >> shift)
    return high, (middle << shift) | (lowest & half)


def subset(n_rows: int, size: int, seed: int, run: int = 0) -> np.ndarray:
    """`size` row indices, ascending, each at most once: those of the smallest Philox words, ties by index.

    Nested: a larger size holds the rows of a smaller one.
    """
    words = np.random.Philox(key=(seed, int(Purpose.SUBSET)), counter=(0, run, 0, 0)).random_raw(n_rows)
    return np.sort(np.argsort(words, kind="stable")[:size])


class _Draws:
    """Rows in proportion to integer masses: the first whose inclusive prefix sum exceeds the draw."""

    def __init__(self, rows: RowsByIndex, masses: Tensor | None, seed: int, purpose: Purpose, run: int) -> None:
        self.key = (seed, purpose)
        self.run = run
        self.shift = rows.scale
        self.prefix = None if masses is None else torch.cumsum(masses, 0).cpu().numpy()
        self.bound = rows.n_rows << rows.scale if self.prefix is None else int(self.prefix[-1])

    def take(self, counters: range) -> list[int]:
        """The row of each of these consecutive draws."""
        drawn = draw_many(self.bound, *self.key, counters, self.run)
        if self.prefix is None:
            return [r >> self.shift for r in drawn]
        places: list[int] = np.searchsorted(self.prefix, np.array(drawn, dtype=np.int64), side="right").tolist()
        return places


def random_rows(rows: RowsByIndex, n_clusters: int, seed: int, run: int = 0) -> Tensor:
    """K rows of different content, drawn in proportion to their weights: (K, D).

    Rows left out and contents taken already are passed over. After 32 K + 1000 draws the rest comes from row
    order; with fewer than K distinct rows the first ones are repeated.
    """
    draws = _Draws(rows, rows.masses(), seed, Purpose.RANDOM, run)
    seeds = _DistinctRows(rows, n_clusters)
    counter, last = 0, 32 * n_clusters + 1000
    while seeds.missing and counter < last:
        stop = min(last, counter + seeds.missing)
        seeds.offer(draws.take(range(counter, stop)))
        counter = stop
    index = 0
    while seeds.missing and index < rows.n_rows:
        stop = min(rows.n_rows, index + seeds.missing)
        seeds.offer(list(range(index, stop)))
        index = stop
    return seeds.centroids()


class _DistinctRows:
    """Rows taken in turn, each content once. Fingerprints tell most rows apart; equal ones are compared in full."""

    def __init__(self, rows: RowsByIndex, wanted: int) -> None:
        self.rows, self.wanted = rows, wanted
        self.seen: dict[int, list[int]] = {}  # rows taken, by fingerprint
        self.contents: dict[int, bytes] = {}  # of rows that had to be compared
        self.asked: set[int] = set()
        self.taken: list[int] = []

    @property
    def missing(self) -> int:
        return self.wanted - len(self.taken)

    def offer(self, indices: list[int]) -> None:
        """At most `missing` rows, in order; read together, since each reading may wait for a device."""
        fresh = [i for i in dict.fromkeys(indices) if i not in self.asked and self.rows.kept(i)]
        self.asked.update(fresh)
        prints = fingerprints(self._take(fresh)).tolist()
        if len(self.seen.keys() | prints) == len(self.seen) + len(prints):  # mostly: no two are alike
            self.seen |= {key: [index] for key, index in zip(prints, fresh, strict=True)}
            self.taken += fresh
            return
        often = Counter(prints)
        alike = [i for i, key in zip(fresh, prints, strict=True) if often[key] > 1 or key in self.seen]
        if alike:
            taken = [i for key in often for i in self.seen.get(key, ()) if i not in self.contents]
            values = self._take(alike + taken).cpu().numpy()
            self.contents |= {i: row.tobytes() for i, row in zip(alike + taken, values, strict=True)}
        for index, key in zip(fresh, prints, strict=True):
            twins = self.seen.setdefault(key, [])
            if not any(self.contents[twin] == self.contents[index] for twin in twins):
                twins.append(index)
                self.taken.append(index)

    def _take(self, indices: list[int]) -> Tensor:
        return self.rows.take(torch.tensor(indices, dtype=torch.int64))

    def centroids(self) -> Tensor:
        found = len(self.taken)
        if found == 0:
            raise InputError("No row can be a first centroid: all are zero, skipped or of weight zero.")
        return self.rows.take(torch.tensor([self.taken[i % found] for i in range(self.wanted)], dtype=torch.int64))


def fingerprints(rows: Tensor) -> Tensor:
    """(B,) int64, the same for rows of the same bits: a weighted sum of these, modulo 2^64."""
    weights = torch.from_numpy(np.random.Philox(key=0).random_raw(rows.shape[1]).view(np.int64)).to(rows.device)
    return (rows.contiguous().view(torch.int32) * weights).sum(dim=1)


def plus_plus(
    rows: RowSource,
    n_clusters: int,
    seed: int,
    backend: Backend,
    run: int = 0,
    observer: Observer | None = None,
) -> Tensor:
    """k-means++ on the sphere: each next centroid is a row drawn in proportion to 1 - cos to the nearest so far.

    1 - cos is half the squared chord, so this is the D^2 rule of Arthur & Vassilvitskii 2007. The masses are
    integers, rint((1 - cos) 2^(s-1)), and 0 where 1 - cos < 2^-20. Where the total weight exceeds 256 K, it
    runs on a sample of 256 K rows drawn with their weights. Where no row it reads lies apart from the centroids
    so far, the start is that of `random_rows`.
    """
    centroids = [random_rows(rows, 1, seed, run)]
    batches, indices = _sampled(rows, n_clusters, seed, run)
    best = [torch.full((len(batch),), -2.0, dtype=torch.float64, device=rows.device) for batch in batches]
    for j in range(1, n_clusters):
        parts = [torch.zeros(1, dtype=torch.int64, device=rows.device)]
        for batch, nearest in zip(batches, best, strict=True):
            backend.improve(batch, centroids[-1][0], nearest)
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


def _sampled(rows: RowSource, n_clusters: int, seed: int, run: int) -> tuple[list[Batch], Tensor]:
    """The batches that k-means++ reads, and the row index of each of their rows."""
    size = _SAMPLE_PER_CLUSTER * n_clusters
    masses = rows.masses()
    total = rows.n_rows if masses is None else int(masses.sum()) >> rows.scale
    if total <= size:
        return list(rows.batches()), torch.arange(rows.n_rows)
    draws = _Draws(rows, masses, seed, Purpose.SAMPLE, run)
    indices = torch.tensor([index for index in draws.take(range(size)) if rows.kept(index)], dtype=torch.int64)
    return [Batch(i * 4096, rows.take(part)) for i, part in enumerate(indices.split(4096))], indices


def _distance_masses(batch: Batch, best: Tensor, scale: int) -> Tensor:
    distance = (1.0 - best).clamp_min(0.0)
    q = torch.where(distance < 2.0**-20, torch.zeros_like(distance), torch.round(distance * 2.0 ** (scale - 1)))
    masses = sphere.term(batch.weights, q.to(torch.int64))
    return masses if batch.keep is None else torch.where(batch.keep, masses, torch.zeros_like(masses))

"""The numbers of a report: every row's place, every cluster's size, fit, typical and worst rows, and neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Session
from cosmeans.data import NO_LABEL, Batch
from cosmeans.scoring import own_scores

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_NEAREST = 5
_BLOCK_VALUES = 1 << 22  # cosines in memory at once, whatever N and K


@dataclass(frozen=True, slots=True)
class Placed:
    """The cluster of every row.

    labels      (N,) int64; -1 for rows left out
    similarity  (N,) float64, canonical score with its own centroid; 0 for rows left out
    zero, bad   rows left out: without direction, and with NaN or infinity
    first_left_out  index of the first row left out, -1 if there is none
    """

    labels: np.ndarray
    similarity: np.ndarray
    zero: int
    bad: int
    first_left_out: int

    @property
    def kept(self) -> np.ndarray:
        return np.asarray(self.labels != NO_LABEL)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Every cluster over these rows; mean, spread and quantiles are 0 where it has none.

    size       (K,) int64
    mean       (K,) mean similarity; spread (K,) its standard deviation over the rows
    quantiles  (K, 5) of the similarity, at QUANTILES
    best       (K, m) its closest rows, best first, ties by index; -1: no more rows
    worst      (K, m) its worst-fitting rows, worst first, none that is in `best`; -1: no more rows
    """

    size: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    quantiles: np.ndarray
    best: np.ndarray
    worst: np.ndarray


@dataclass(frozen=True, slots=True)
class Nearest:
    """The most similar centroids of each of B vectors: `cluster` (B, m) and `cosine` (B, m) float32, best first."""

    cluster: np.ndarray
    cosine: np.ndarray


def place(session: Session, centroids: Tensor) -> Placed:
    """Labels and similarities of all rows under these centroids."""
    labels = session.assign(centroids)
    own = own_scores(session, centroids, labels)
    bad, first = 0, -1
    for batch in session.rows.batches():
        if batch.keep is not None and not bool(batch.keep.all()):
            left = ~batch.keep
            taken = batch.rows[left.to(batch.rows.device)]
            bad += int((~torch.isfinite(sphere.as_float32(taken)).all(dim=1)).sum())
            first = batch.start + int(left.to(torch.int8).argmax()) if first < 0 else first
    numbers = labels.cpu().numpy().astype(np.int64)
    zero = int((numbers == NO_LABEL).sum()) - bad
    return Placed(numbers, own.cpu().numpy(), zero, bad, first)


def describe(placed: Placed, n_clusters: int, n_examples: int) -> Clusters:
    """Size, fit and examples of every cluster."""
    kept = np.flatnonzero(placed.kept)
    labels, similarity = placed.labels[kept], placed.similarity[kept]
    size = np.bincount(labels, minlength=n_clusters)
    rows_or_one = np.maximum(size, 1)
    mean = np.bincount(labels, similarity, n_clusters) / rows_or_one
    # deviations from the mean, not a difference of squares: no cancellation in tight clusters
    variance = np.bincount(labels, (similarity - mean[labels]) ** 2, n_clusters) / rows_or_one
    rising = kept[np.lexsort((kept, similarity, labels))]
    falling = kept[np.lexsort((kept, -similarity, labels))]
    starts = np.concatenate(([0], np.cumsum(size)))
    n_best = np.minimum(size, n_examples)
    return Clusters(
        size=size,
        mean=mean,
        spread=np.sqrt(variance),
        quantiles=_quantiles(placed.similarity[rising], starts, size),
        best=_heads(falling, starts, n_best, n_examples),
        worst=_heads(rising, starts, np.minimum(size - n_best, n_examples), n_examples),
    )


def nearest(vectors: Tensor, centroids: Tensor, session: Session, skip: np.ndarray, m: int = N_NEAREST) -> Nearest:
    """The m most similar centroids of unit vectors (B, D), lowest index at a tie; `skip` (B,): one never named.

    Canonical cosines in blocks: never more than a few million in memory.
    """
    m = min(m, len(centroids) - 1)
    clusters = np.empty((len(vectors), m), np.int64)
    cosines = np.empty((len(vectors), m), np.float32)
    step = max(1, _BLOCK_VALUES // len(centroids))
    for start in range(0, len(vectors), step):
        span = slice(start, min(start + step, len(vectors)))
        block = session.cosines(Batch(0, vectors[span]), centroids).cpu().numpy()
        every = np.arange(len(block))
        block[every, skip[span]] = -np.inf
        for rank in range(m):
            best = block.argmax(axis=1)  # the first of equal maxima
            clusters[span, rank], cosines[span, rank] = best, block[every, best]
            block[every, best] = -np.inf
    return Nearest(clusters, cosines)


def fence(similarity: np.ndarray) -> float:
    """Values below this are outliers: the lower quartile minus 1.5 times the interquartile range (Tukey 1977)."""
    low, high = np.quantile(similarity, (0.25, 0.75))
    return float(low - 1.5 * (high - low))


def _quantiles(values: np.ndarray, starts: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Linear between neighbours, as numpy.quantile, for every segment of values that rise within it."""
    out = np.zeros((len(size), len(QUANTILES)))
    full = np.flatnonzero(size)
    for column, share in enumerate(QUANTILES):
        position = share * (size[full] - 1)
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, size[full] - 1)
        low, high = values[starts[full] + below], values[starts[full] + above]
        out[full, column] = low + (position - below) * (high - low)
    return out


def _heads(ordered: np.ndarray, starts: np.ndarray, count: np.ndarray, width: int) -> np.ndarray:
    """The first `count` entries of every segment, (K, width), -1 beyond."""
    out = np.full((len(count), width), -1, np.int64)
    for rank in range(width):
        has = np.flatnonzero(count > rank)
        out[has, rank] = ordered[starts[has] + rank]
    return out

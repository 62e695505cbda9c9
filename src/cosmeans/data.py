"""The tensors that flow through a fit, with names.

Shape letters everywhere: N rows, D dimensions, K clusters, B rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

NO_LABEL = -1


class Narrow(NamedTuple):
    """What the rows of a batch have lost, where they are heads: rows that were rounded to float16.

    lost   (B,) float32: no less than |unit row - unit head|; 0: the head is the row; inf: the head says nothing
    exact  (indices into the batch, int64) -> rows as they are stored, (S, D)
    """

    lost: Tensor
    exact: Callable[[Tensor], Tensor]

    def cut(self, span: slice) -> Narrow:
        return Narrow(self.lost[span], lambda index: self.exact(index + span.start))


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a source, as they lie; `sphere.unit_rows(batch.rows, batch.norms)` is what they mean.

    start    index of the first row in its source
    rows     (B, D) float16, bfloat16, float32 or float64, on the CPU integers too; never written to
    norms    (B,) float64: what rule 1 divides each row by; None: every row is taken as it lies
    keep     (B,) bool: False for rows without direction or to be skipped; None: all are kept
    weights  (B,) float64, scaled by a power of two (rule 4); None: every weight is 1
    narrow   what the rows lost, if they are heads; None: they are exact
    """

    start: int
    rows: Tensor
    norms: Tensor | None = None
    keep: Tensor | None = None
    weights: Tensor | None = None
    narrow: Narrow | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return self.rows.shape[0]

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + len(self))

    def chunks(self, size: int) -> Iterator[Batch]:
        """The batch in chunks of at most `size` rows: views of it, in order."""
        if size >= len(self):
            yield self
            return
        for first in range(0, len(self), size):
            span = slice(first, first + size)
            norms, keep, weights = (None if t is None else t[span] for t in (self.norms, self.keep, self.weights))
            narrow = None if self.narrow is None else self.narrow.cut(span)
            yield Batch(self.start + first, self.rows[span], norms, keep, weights, narrow=narrow)


@dataclass(frozen=True, slots=True)
class Task:
    """What a session is opened for, besides its rows.

    fit         whether many passes follow, or one
    weights     (N,), checked; None: every weight is 1
    batch_size  rows of a batch; None: chosen by memory
    zero_rows   "warn" | "skip" | "error"
    nonfinite   "error" | "skip"
    """

    n_clusters: int
    fit: bool = True
    weights: Tensor | None = None
    batch_size: int | None = None
    zero_rows: str = "warn"
    nonfinite: str = "error"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows under some centroids. All tensors are the caller's to keep.

    centroids   (K, D) float32
    labels      (N,) int32; -1 for rows left out
    counts      (K,) int64
    similarity  mean cosine (rule 6)
    own         what `scoring.own_chords` gives, where the pass that made the labels found it; else None
    """

    centroids: Tensor
    labels: Tensor
    counts: Tensor
    similarity: float
    own: OwnChords | None = None

    def clone(self) -> Labelled:
        """The same in memory of its own."""
        return replace(self, centroids=self.centroids.clone(), labels=self.labels.clone(), counts=self.counts.clone())


class OwnChords(NamedTuple):
    """Rows and their own centroids: canonical scores (N,) float64, 0 for label -1; and the inertia (rule 11)."""

    scores: Tensor
    inertia: float


@dataclass(frozen=True, slots=True)
class CostCounters:
    """What labels cost a backend that counts it; batches add up.

    dots      dot products of a row with a centroid that were computed, in any precision
    skipped   those of all rows with all centroids that a bound made unnecessary
    kept      bytes that the backend holds of the rows from pass to pass
    strategy  how it went about this pass, in words
    """

    dots: int
    skipped: int
    kept: int
    strategy: str

    def __add__(self, other: CostCounters) -> CostCounters:
        return CostCounters(self.dots + other.dots, self.skipped + other.skipped, other.kept, other.strategy)


def store(values: Tensor, into: Tensor) -> None:
    """Copy what was found of a batch to where it stays, on the same device.

    NumPy on the CPU: torch would wake its threads, which wait awake for milliseconds, in the way of what follows.
    """
    if into.device.type == "cpu":
        into.numpy()[:] = values.numpy()
    else:
        into.copy_(values)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The labels of one batch.

    labels   (B,) int32; -1 for rows not kept
    settled  rows that the screen could not certify and canonical scores decided
    counters what they cost; None: not counted
    """

    labels: Tensor
    settled: int | Tensor
    counters: CostCounters | None = None

    def write(self, into: Tensor) -> None:
        """Copy the labels to where they stay."""
        store(self.labels, into)


@dataclass(frozen=True, slots=True)
class ClusterSums:
    """What a pass adds up; integers, so any order of adding gives the same bits.

    direction  (K, D) int64: sum of term(w, q) over the rows of each cluster (rule 4)
    count      (K,) int64: rows of each cluster
    scale      s: an entry x of a unit row counts as q = rint(x 2^s)
    """

    direction: Tensor
    count: Tensor
    scale: int

    @classmethod
    def zeros(cls, n_clusters: int, n_features: int, scale: int, device: torch.device | str) -> ClusterSums:
        return cls(
            torch.zeros((n_clusters, n_features), dtype=torch.int64, device=device),
            torch.zeros(n_clusters, dtype=torch.int64, device=device),
            scale,
        )

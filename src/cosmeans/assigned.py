"""Rows under a fitted model: their labels and canonical scores, from which evaluating and using clusters start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans import lloyd
from cosmeans.contracts import Backend, RowSource
from cosmeans.data import Batch
from cosmeans.estimator import KMeans
from cosmeans.group import Alone
from cosmeans.inputs import Kind

_TILE_VALUES = 1 << 24  # cosines held at once: 64 MB of float32


@dataclass(frozen=True, slots=True)
class Assigned:
    """Rows, and what a model says of them.

    labels      (N,) int32, -1 for rows left out
    scores      (N,) float64: canonical score of each row with its centroid, 0 for rows left out
    similarity  mean cosine (rule 6), as `KMeans.score` gives it
    """

    rows: RowSource
    backend: Backend
    kind: Kind
    centroids: Tensor
    labels: Tensor
    scores: Tensor
    similarity: float

    def host(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels as int64 and scores as float64, in NumPy."""
        return self.labels.cpu().numpy().astype(np.int64), self.scores.cpu().numpy()

    def sizes(self) -> np.ndarray:
        """Rows of each cluster, (K,) int64."""
        labels = self.host()[0]
        return np.bincount(labels[labels >= 0], minlength=len(self.centroids))


def assign_rows(model: KMeans, X: Any) -> Assigned:
    """Label rows X, anything that `KMeans.fit` takes, by a fitted model.

    Raises what `KMeans.predict` raises.
    """
    rows, kind, backend, observer, centroids = model._open_fitted(X)
    with observer:
        labels, similarity = lloyd.score(rows, centroids, backend, Alone(), observer)
    scores = lloyd.own_scores(rows, centroids, labels, backend)
    return Assigned(rows, backend, kind, centroids, labels, scores, similarity)


def tiles(rows: RowSource, n_columns: int) -> Iterator[Batch]:
    """Every row once, in batches small enough to hold n_columns cosines a row."""
    step = max(1, _TILE_VALUES // n_columns)
    for batch in rows.batches():
        for start in range(0, len(batch), step):
            yield _cut(batch, slice(start, start + step))


def _cut(batch: Batch, span: slice) -> Batch:
    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[span]

    return Batch(batch.start + span.start, batch.rows[span], part(batch.norms), part(batch.keep), part(batch.weights))

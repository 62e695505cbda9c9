"""Rows under a fitted model: their labels and canonical scores, from which evaluating and using clusters start."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans._estimator.fitted_state import state_of
from cosmeans._estimator.inputs import Kind
from cosmeans._estimator.opening import open_fitted
from cosmeans.contracts import Session
from cosmeans.errors import InputTypeError
from cosmeans.estimator import KMeans
from cosmeans.scoring import own_scores


@dataclass(frozen=True, slots=True)
class Assigned:
    """Rows in an open session, and what a model says of them.

    labels      (N,) int32, -1 for rows left out
    scores      (N,) float64: canonical score of each row with its centroid, 0 for rows left out
    similarity  mean cosine (rule 6), as `KMeans.score` gives it
    """

    session: Session
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


def loaded(model: KMeans[Any] | str | os.PathLike[str]) -> KMeans[Any]:
    """The model, read if it is the folder of a saved one."""
    return KMeans.load(model) if isinstance(model, str | os.PathLike) else model


def checked_copy(model: Any, name: str = "model", attribute: str | None = None) -> KMeans[Any]:
    """A copy of a fitted model: one state of it, whatever is fitted meanwhile.

    Raises InputTypeError for what is not a KMeans, NoFitError for one without centroids (or without the attribute
    named).
    """
    if not isinstance(model, KMeans):
        raise InputTypeError(
            f"{name} must be a fitted KMeans, got a {type(model).__name__}. Load a saved one with KMeans.load(folder)."
        )
    copied = copy.copy(model)
    state_of(copied)
    if attribute is not None:
        getattr(copied, attribute)
    return copied


@contextmanager
def assign_rows(
    model: KMeans[Any], X: Any, check: Callable[[int], None] | None = None, labelling: str = "labelling rows"
) -> Iterator[Assigned]:
    """Label rows X, anything that `KMeans.fit` takes, by a fitted model; their session is open inside the block.

    check      called with N before any work: raises for what else was given and doesn't fit the rows
    labelling  what people read meanwhile

    Raises what `KMeans.predict` raises.
    """
    with open_fitted(checked_copy(model), X, check=check, labelling=labelling) as (session, kind, centroids):
        found = session.measure(centroids)
        own = found.own
        scores = own_scores(session, centroids, found.labels) if own is None else own.scores
        yield Assigned(session, kind, centroids, found.labels, scores, found.similarity)


def labels_and_scores(model: KMeans[Any], X: Any, labelling: str = "labelling rows") -> tuple[np.ndarray, np.ndarray]:
    """`Assigned.host` of rows X, where nothing else is asked of them."""
    with assign_rows(model, X, labelling=labelling) as assigned:
        return assigned.host()

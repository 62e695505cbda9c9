"""Spherical k-means: assign every row to its most similar centroid, point every centroid along its rows, again.

Source: Lloyd 1982; Dhillon & Modha 2001 for the sphere. No device, file or rank appears here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Backend, Group, Observer, RowSource
from cosmeans.data import NO_LABEL, ClusterSums
from cosmeans.options import FitOptions
from cosmeans.relocate import relocate
from cosmeans.result import FitResult, History, Iteration, StopReason


def fit(
    rows: RowSource,
    centroids: Tensor,
    options: FitOptions,
    backend: Backend,
    group: Group,
    observer: Observer,
) -> FitResult:
    """Iterate from these centroids until they stand still, or tol, or epochs; labels belong to what is returned.

    A pure function of rows, centroids, epochs, tol and empty_clusters: everything else is speed.
    """
    backend.begin(rows)
    state = _State.start(rows, centroids)
    history = History()
    stop = StopReason.EPOCHS
    for epoch in range(1, options.epochs + 1):
        started = time.perf_counter()
        observer.epoch(epoch, options.epochs)
        changed, settled = sweep(rows, centroids, state, backend, observer)
        if observer.stop_requested:
            stop = StopReason.INTERRUPTED
            break
        sums = group.sum(state.sums)
        update = sphere.update_centroids(sums.direction, centroids)
        new, moved = relocate(
            update.centroids, update.lost, rows, backend, centroids, state.labels, options.empty_clusters
        )
        squared_shift = float(sphere.squared_shift(new, centroids))
        history.iterations.append(
            Iteration(
                similarity=float(sphere.similarity(sums.direction, centroids, rows.total)),
                shift=squared_shift**0.5,
                changed=changed,
                settled=settled,
                moved=moved,
                imbalance=imbalance(sums.count),
                largest=int(sums.count.max()),
                empty=int((sums.count == 0).sum()),
                seconds=time.perf_counter() - started,
            )
        )
        observer.iteration(history.iterations[-1])
        fixed = torch.equal(new, centroids)
        centroids = new
        if fixed or (options.tol > 0 and squared_shift <= options.tol**2):
            stop = StopReason.FIXED_POINT if fixed else StopReason.TOLERANCE
            break
    if stop is not StopReason.FIXED_POINT:
        observer.epoch(len(history) + 1, 0)
        sweep(rows, centroids, state, backend, observer, to_the_end=True)
    sums = group.sum(state.sums)
    final = float(sphere.similarity(sums.direction, centroids, rows.total))
    return FitResult(centroids, state.labels, sums.count, final, history, stop)


def score(
    rows: RowSource, centroids: Tensor, backend: Backend, group: Group, observer: Observer
) -> tuple[Tensor, float]:
    """Labels (N,) int32 and mean similarity of rows under these centroids (rule 6), in one pass."""
    state = _State.start(rows, centroids)
    observer.epoch(1, 0)
    sweep(rows, centroids, state, backend, observer, to_the_end=True)
    sums = group.sum(state.sums)
    return state.labels, float(sphere.similarity(sums.direction, centroids, rows.total))


def predict(rows: RowSource, centroids: Tensor, backend: Backend, observer: Observer) -> Tensor:
    """Labels (N,) int32 of rows under these centroids, in one pass."""
    labels = _no_labels(rows, centroids)
    prepared = backend.prepare(centroids)
    observer.epoch(1, 0)
    for batch in rows.batches():
        labels[batch.span] = backend.assign(batch, prepared, labels[batch.span]).labels
        observer.batch(len(batch))
    return labels


def own_scores(rows: RowSource, centroids: Tensor, labels: Tensor, backend: Backend) -> Tensor:
    """Canonical score of every row with its own centroid, (N,) float64."""
    return torch.cat([backend.scores(batch, centroids, labels[batch.span]) for batch in rows.batches()])


def _no_labels(rows: RowSource, centroids: Tensor) -> Tensor:
    return torch.full((rows.n_rows,), NO_LABEL, dtype=torch.int32, device=centroids.device)


@dataclass(slots=True)
class _State:
    """The labels of the last pass and the sums that belong to them."""

    labels: Tensor
    sums: ClusterSums

    @classmethod
    def start(cls, rows: RowSource, centroids: Tensor) -> _State:
        n_clusters, n_features = centroids.shape
        sums = ClusterSums.zeros(n_clusters, n_features, rows.scale, centroids.device)
        return cls(_no_labels(rows, centroids), sums)


def sweep(
    rows: RowSource,
    centroids: Tensor,
    state: _State,
    backend: Backend,
    observer: Observer,
    to_the_end: bool = False,
) -> tuple[int, int]:
    """One pass: assign every batch and move the rows that changed. Returns (changed, settled)."""
    prepared = backend.prepare(centroids)
    changed = settled = 0
    for batch in rows.batches():
        if observer.stop_requested and not to_the_end:
            break
        before = state.labels[batch.span]
        assignment = backend.assign(batch, prepared, before)
        changed += int(backend.accumulate(batch, before, assignment.labels, state.sums))
        settled += int(assignment.settled)
        state.labels[batch.span] = assignment.labels
        observer.batch(len(batch))
    return changed, settled


def imbalance(count: Tensor) -> float:
    """K * sum(size^2) / (sum size)^2: 1 when all clusters are of one size, K when one holds every row."""
    sizes = count.to(torch.float64)
    total = float(sizes.sum())
    return len(sizes) * float((sizes * sizes).sum()) / (total * total)

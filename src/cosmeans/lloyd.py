"""Spherical k-means: assign every row to its most similar centroid, point every centroid along its rows, repeat.

Source: Lloyd 1982; Dhillon & Modha 2001 for the sphere. What computes an epoch, and where the rows are, is the
session's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from cosmeans.compile_clock import Stopwatch
from cosmeans.contracts import Session
from cosmeans.epoch import Epoch, EpochStats
from cosmeans.observer import Observer
from cosmeans.options import FitOptions
from cosmeans.relocate import relocate
from cosmeans.result import EpochCost, FitResult, History, Iteration, Progress, StopReason


def _forget(progress: Progress) -> None:
    """Keep no progress."""


def fit(
    session: Session,
    centroids: Tensor,
    options: FitOptions,
    observer: Observer,
    before: Sequence[Iteration] = (),
    keep: Callable[[Progress], None] = _forget,
) -> FitResult:
    """Iterate from these centroids until none moves, or tol, or epochs; labels belong to the centroids returned.

    A pure function of rows, centroids, epochs, tol and empty_clusters: everything else is speed.
    before: the epochs that ended with these centroids, in an earlier process. keep: called with the progress after
    every epoch, and at the end.
    """
    run = _iterate(session, Progress(centroids, tuple(before)), options, observer, keep)
    final = session.finish(run.centroids, at_rest=run.stop is StopReason.FIXED_POINT)
    history, costs = History(run.iterations), tuple(run.costs)
    return FitResult(final.centroids, final.labels, final.counts, final.similarity, history, run.stop, costs, final.own)


def improve(session: Session, centroids: Tensor, options: FitOptions, observer: Observer) -> Tensor:
    """The centroids that `fit` would return, without the pass that labels the rows under them."""
    return _iterate(session, Progress(centroids), options, observer, _forget).centroids.clone()


def labelled(session: Session, ended: Progress) -> FitResult:
    """The result of a fit that has ended, of which only the centroids are left: one pass labels the rows."""
    assert ended.stop is not None
    final = session.measure(ended.centroids)
    history = History(ended.iterations)
    return FitResult(final.centroids, final.labels, final.counts, final.similarity, history, ended.stop, (), final.own)


@dataclass(slots=True)
class _Run:
    """The epochs so far: the centroids that the last one ended with, and why it is the last."""

    centroids: Tensor
    stop: StopReason = StopReason.INTERRUPTED  # unless an epoch says otherwise
    iterations: list[Iteration] = field(default_factory=list)
    costs: list[EpochCost] = field(default_factory=list)


def _iterate(
    session: Session, start: Progress, options: FitOptions, observer: Observer, keep: Callable[[Progress], None]
) -> _Run:
    run, stopwatch = _Run(start.centroids, iterations=[*start.iterations]), Stopwatch()
    for epoch in session.epochs(start.centroids, options.epochs - len(start.iterations)):
        stats, relocated = epoch.stats(), 0
        run.centroids = epoch.update.centroids
        if stats.degenerate and options.empty_clusters != "keep":
            run.centroids, relocated = relocate(session, epoch, options.empty_clusters)
            session.restart(run.centroids)
            stats = stats.ending_with(run.centroids, epoch.centroids)
        run.iterations.append(_iteration(stats, len(run.centroids), relocated))
        if start.iterations and epoch.number == 1:  # there are no labels of the epoch before
            run.iterations[-1] = replace(run.iterations[-1], changed=None)
        run.costs.append(_cost(epoch, stats, stopwatch.lap()))
        observer.iteration(run.iterations[-1], run.costs[-1])
        if stop := _stop_reason(stats, options, len(run.iterations)):
            run.stop = stop
            break
        keep(Progress(run.centroids, tuple(run.iterations)))
    if run.iterations:
        keep(Progress(run.centroids, tuple(run.iterations), run.stop))
    return run


def _stop_reason(stats: EpochStats, options: FitOptions, epochs: int) -> StopReason | None:
    if not stats.moved:
        return StopReason.FIXED_POINT
    if options.tol > 0 and stats.squared_shift <= options.tol**2:
        return StopReason.TOLERANCE
    return StopReason.EPOCHS if epochs == options.epochs else None


def _iteration(stats: EpochStats, n_clusters: int, relocated: int) -> Iteration:
    return Iteration(
        similarity=stats.similarity,
        shift=stats.squared_shift**0.5,
        changed=stats.changed,
        moved=relocated,
        imbalance=imbalance(stats.squared_sizes, stats.assigned, n_clusters),
        largest=stats.largest,
        empty=stats.empty,
    )


def imbalance(squared_sizes: float, rows: int, n_clusters: int) -> float:
    """K * sum(size^2) / (sum size)^2: 1 when all clusters are of one size, K when one holds every row."""
    return n_clusters * squared_sizes / (float(rows) * rows) if rows else 1.0


def _cost(epoch: Epoch, stats: EpochStats, seconds: float) -> EpochCost:
    counted = epoch.counters
    if counted is None:
        return EpochCost(seconds, stats.settled)
    return EpochCost(seconds, stats.settled, counted.strategy, counted.dots, counted.skipped, counted.kept)

"""Spherical k-means: assign every row to its most similar centroid, point every centroid along its rows, again.

Source: Lloyd 1982; Dhillon & Modha 2001 for the sphere. No device, file or rank appears here.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Backend, Group, Observer, Recorder, RowSource
from cosmeans.data import NO_LABEL, ClusterSums, Work
from cosmeans.options import FitOptions
from cosmeans.relocate import relocate
from cosmeans.result import EpochCost, FitResult, History, Iteration, StopReason
from cosmeans.sphere import Figures, Outcome


def fit(
    rows: RowSource,
    centroids: Tensor,
    options: FitOptions,
    backend: Backend,
    group: Group,
    observer: Observer,
) -> FitResult:
    """Iterate from these centroids until they stand still, or tol, or epochs; labels belong to what is returned.

    A pure function of rows, centroids, epochs, tol and empty_clusters: everything else is speed. A backend that
    looks ahead has the next epochs queued before the figures of this one are read; if they end the fit or move a
    cluster, what ran ahead is dropped.
    """
    run = _Run.start(rows, centroids, backend, group, observer)
    centroids, history, costs, stop = _iterate(run, centroids, options)
    if run.state.under is not centroids:
        observer.epoch(len(history) + 1, 0)
    last = run.end(centroids)
    labels, counts = run.lasting(run.state.labels), run.lasting(group.sum(run.state.sums).count)
    return FitResult(
        run.lasting(centroids), labels, counts, last.read().similarity, History(history), stop, tuple(costs)
    )


def improve(
    rows: RowSource, centroids: Tensor, options: FitOptions, backend: Backend, group: Group, observer: Observer
) -> Tensor:
    """The centroids that `fit` would return, without the pass that labels the rows under them."""
    run = _Run.start(rows, centroids, backend, group, observer)
    return run.lasting(_iterate(run, centroids, options)[0])


def _iterate(
    run: _Run, centroids: Tensor, options: FitOptions
) -> tuple[Tensor, list[Iteration], list[EpochCost], StopReason]:
    """Epochs until one of them is the last. The pass that labels the rows in the end is like one more epoch."""
    history: list[Iteration] = []
    costs: list[EpochCost] = []
    stop: StopReason | None = None
    ahead: deque[_Epoch] = deque()
    depth = run.backend.lookahead
    started = time.perf_counter()
    while stop is None:
        start = ahead[-1].outcome.update.centroids if ahead else centroids
        while len(ahead) <= depth and (number := len(history) + len(ahead) + 1) <= options.epochs + 1:
            run.observer.epoch(number, options.epochs if number <= options.epochs else 0)
            epoch = run.launch(start)
            if epoch is None:
                break
            ahead.append(epoch)
            start = epoch.outcome.update.centroids
        if not ahead:
            stop = StopReason.INTERRUPTED
            break
        epoch = ahead.popleft()
        new, figures, moved = _finish(epoch, run, options)
        if moved:
            ahead.clear()
        # clusters that move once tend to move again, and what ran ahead is lost each time
        depth = 0 if moved else min(depth + 1, run.backend.lookahead)
        seconds = time.perf_counter() - started
        started += seconds
        history.append(_iteration(figures, len(centroids), moved))
        costs.append(_cost(figures, epoch.outcome.work, seconds))
        run.observer.iteration(history[-1], costs[-1])
        stop = _stop_reason(figures, options, len(history))
        # at a fixed point the labels at hand, under centroids of the same bits, are the last ones
        under = run.state.under
        centroids = under if stop is StopReason.FIXED_POINT and under is not None else new
    return centroids, history, costs, stop


@dataclass(frozen=True, slots=True)
class _Epoch:
    """An epoch on its way: the centroids its rows were assigned to, and what followed."""

    before: Tensor
    outcome: Outcome


@dataclass(slots=True)
class _Run:
    """What one fit works with, and what it has so far.

    recorder  the backend, if it lends the place where this fit works and plays its epochs back
    latest    the epoch launched last
    ending    a pass now ends whatever is requested
    """

    rows: RowSource
    backend: Backend
    group: Group
    observer: Observer
    state: _State
    recorder: Recorder | None = None
    latest: _Epoch | None = None
    ending: bool = False

    @classmethod
    def start(cls, rows: RowSource, centroids: Tensor, backend: Backend, group: Group, observer: Observer) -> _Run:
        backend.begin(rows)
        recorder = backend if isinstance(backend, Recorder) and group.alone else None
        loan = recorder.lend(rows, centroids) if recorder else None
        if loan is None:
            return cls(rows, backend, group, observer, _State.start(rows, centroids))
        return cls(loan.rows, backend, group, observer, _State(loan.labels, loan.sums), recorder)

    def lasting(self, values: Tensor) -> Tensor:
        """Values that stay when the place lent serves another fit."""
        return values if self.recorder is None else values.clone()

    def launch(self, centroids: Tensor) -> _Epoch | None:
        """One pass and the update after it; None if a stop was requested before its last batch."""
        if self.observer.stop_requested and not self.ending:
            return None
        if self.recorder is None:
            outcome = self.work(centroids)
        else:
            outcome = self.recorder.repeat(self.work, centroids, self.observer)
        self.state.under = None if outcome is None else centroids
        self.latest = None if outcome is None else _Epoch(centroids, outcome)
        return self.latest

    def work(self, centroids: Tensor) -> Outcome | None:
        counts = sweep(self.rows, centroids, self.state, self.backend, self.observer, self.ending)
        if counts is None:
            return None
        sums = self.group.sum(self.state.sums)
        outcome = self.backend.update(sums, centroids, self.rows.total, counts.changed, counts.settled)
        return replace(outcome, work=counts.work)

    def end(self, centroids: Tensor) -> Outcome:
        """Labels and sums under these centroids, with one more pass unless they are at hand, and its outcome."""
        self.ending = True
        at_hand = self.latest if self.state.under is centroids else None
        epoch = at_hand or self.launch(centroids)
        assert epoch is not None  # it ends whatever is requested
        return epoch.outcome


def _finish(epoch: _Epoch, run: _Run, options: FitOptions) -> tuple[Tensor, Figures, int]:
    """The new centroids, with clusters without direction moved; the figures; and how many were moved."""
    figures, update = epoch.outcome.read(), epoch.outcome.update
    if not figures.lost or options.empty_clusters == "keep":
        return update.centroids, figures, 0
    rows, backend, state = run.rows, run.backend, run.state
    if state.under is not epoch.before:  # an epoch ran ahead: back to the labels of this one
        sweep(rows, epoch.before, state, backend, run.observer, to_the_end=True)
    new, moved = relocate(
        update.centroids, update.lost, rows, backend, epoch.before, state.labels, options.empty_clusters
    )
    shift = float(sphere.squared_shift(new, epoch.before))
    return new, replace(figures, squared_shift=shift, moved=not torch.equal(new, epoch.before)), moved


def _stop_reason(figures: Figures, options: FitOptions, epochs: int) -> StopReason | None:
    if not figures.moved:
        return StopReason.FIXED_POINT
    if options.tol > 0 and figures.squared_shift <= options.tol**2:
        return StopReason.TOLERANCE
    return StopReason.EPOCHS if epochs == options.epochs else None


def _iteration(figures: Figures, n_clusters: int, moved: int) -> Iteration:
    return Iteration(
        similarity=figures.similarity,
        shift=figures.squared_shift**0.5,
        changed=figures.changed,
        moved=moved,
        imbalance=imbalance(figures.squared_sizes, figures.assigned, n_clusters),
        largest=figures.largest,
        empty=figures.empty,
    )


def _cost(figures: Figures, work: Work | None, seconds: float) -> EpochCost:
    if work is None:
        return EpochCost(seconds, figures.settled)
    return EpochCost(seconds, figures.settled, work.strategy, work.dots, work.skipped, work.kept)


def score(
    rows: RowSource, centroids: Tensor, backend: Backend, group: Group, observer: Observer
) -> tuple[Tensor, float]:
    """Labels (N,) int32 and mean similarity of rows under these centroids (rule 6), in one pass."""
    run = _Run(rows, backend, group, observer, _State.start(rows, centroids))
    observer.epoch(1, 0)
    return run.state.labels, run.end(centroids).read().similarity


def predict(rows: RowSource, centroids: Tensor, backend: Backend, observer: Observer) -> Tensor:
    """Labels (N,) int32 of rows under these centroids, in one pass."""
    labels = _no_labels(rows, centroids)
    prepared = backend.prepare(centroids)
    observer.epoch(1, 0)
    for batch in rows.batches():
        before = labels[batch.span]
        backend.assign(batch, prepared, before).write(into=before)
        observer.batch(len(batch))
    return labels


def own_scores(rows: RowSource, centroids: Tensor, labels: Tensor, backend: Backend) -> Tensor:
    """Canonical score of every row with its own centroid, (N,) float64."""
    own = torch.empty(rows.n_rows, dtype=torch.float64, device=centroids.device)
    for batch in rows.batches():
        own[batch.span] = backend.scores(batch, centroids, labels[batch.span])
    return own


def own_chords(rows: RowSource, centroids: Tensor, labels: Tensor, backend: Backend) -> tuple[Tensor, float]:
    """The same, and in the same pass the sum of w times the squared chords, in the caller's weights (rule 11)."""
    own = torch.empty(rows.n_rows, dtype=torch.float64, device=centroids.device)
    limbs = torch.zeros(4, dtype=torch.int64, device=centroids.device)
    for batch in rows.batches():
        own[batch.span], squared = backend.chords(batch, centroids, labels[batch.span])
        limbs += backend.inertia_limbs(squared, batch.weights)
    return own, sphere.joined_limbs(limbs.tolist(), rows.exponent)


def _no_labels(rows: RowSource, centroids: Tensor) -> Tensor:
    return torch.full((rows.n_rows,), NO_LABEL, dtype=torch.int32, device=centroids.device)


@dataclass(slots=True)
class _State:
    """The labels of the last pass, the centroids they belong to, and the sums that belong to them."""

    labels: Tensor
    sums: ClusterSums
    under: Tensor | None = None

    @classmethod
    def start(cls, rows: RowSource, centroids: Tensor) -> _State:
        n_clusters, n_features = centroids.shape
        sums = ClusterSums.zeros(n_clusters, n_features, rows.scale, centroids.device)
        return cls(_no_labels(rows, centroids), sums)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a pass did: rows that changed, rows that were settled, and the work where it is counted."""

    changed: int | Tensor
    settled: int | Tensor
    work: Work | None

    def __add__(self, other: _Counts) -> _Counts:
        work = None if self.work is None or other.work is None else self.work + other.work
        return _Counts(self.changed + other.changed, self.settled + other.settled, work)


def sweep(
    rows: RowSource,
    centroids: Tensor,
    state: _State,
    backend: Backend,
    observer: Observer,
    to_the_end: bool = False,
) -> _Counts | None:
    """One pass: assign every batch and move the rows that changed.

    None: a stop was requested, and some batches keep the labels of the pass before.
    """
    prepared = backend.prepare(centroids)
    counts: _Counts | None = None
    state.under = None
    for batch in rows.batches():
        if observer.stop_requested and not to_the_end:
            return None
        before = state.labels[batch.span]
        assignment = backend.assign(batch, prepared, before)
        changed = backend.accumulate(batch, before, assignment.labels, state.sums)
        counted = _Counts(changed, assignment.settled, assignment.work)
        counts = counted if counts is None else counts + counted
        observer.batch(len(batch))
    state.under = centroids
    return _Counts(0, 0, None) if counts is None else counts  # no rows here: others may have some


def imbalance(squared_sizes: float, rows: int, n_clusters: int) -> float:
    """K * sum(size^2) / (sum size)^2: 1 when all clusters are of one size, K when one holds every row."""
    if rows == 0:
        return 1.0
    return n_clusters * squared_sizes / (float(rows) * rows)

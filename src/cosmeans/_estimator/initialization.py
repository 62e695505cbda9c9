"""Where a fit starts: its seed, its first centroids, and what must be unchanged for a fit to continue."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from cosmeans import lloyd, seeding
from cosmeans._estimator.inputs import read_centroids
from cosmeans._estimator.unread import UnreadRows
from cosmeans.checkpoint import BestRun, Checkpoint
from cosmeans.console import warn
from cosmeans.contracts import Backend, RowSource, Session
from cosmeans.distinct import fingerprints
from cosmeans.errors import IgnoredOptionWarning
from cosmeans.memory_rows import MemoryRows
from cosmeans.observer import Observer
from cosmeans.options import FitOptions, check_start, plain_seed
from cosmeans.progress import Silent
from cosmeans.result import FitResult, Progress, StopReason

_NESTED_FIRST = 8  # rows a cluster in the first sample of "nested"; each next one is twice as large
_NESTED_PART = 4  # and none is larger than this part of all rows
_NESTED_EPOCHS = 2  # on each
_FIRST_DRAWN = 2**32  # NumPy's own seeds lie below, drawn ones from here on: each integer has one meaning
_BEHIND_DRAWN = 2**63


def draw_seed(random_state: Any) -> int:
    """The seed of one fit, in [2^32, 2^63).

    An integer in that range is a seed that a fit has drawn (`random_state_`) and repeats that fit.
    Raises OptionError for anything but an integer, a RandomState or None.
    """
    given = plain_seed(random_state)
    if isinstance(given, int) and given >= _FIRST_DRAWN:
        return given
    source = check_random_state(given)
    seed = 0
    while seed < _FIRST_DRAWN:
        seed = int(source.randint(0, _BEHIND_DRAWN - 1, dtype=np.int64))
    return seed


def warn_of_one_start(options: FitOptions) -> None:
    """Warn, where first centroids are given, that more starts than one would all be the same."""
    if options.n_init > 1:
        warn(
            f"init holds the first centroids, so one start is made instead of n_init={options.n_init}: all would be "
            "the same. Pass n_init=1, or another init.",
            IgnoredOptionWarning,
        )


def given_centroids(init: Any, shape: tuple[int, int], device: torch.device) -> Tensor | None:
    """First centroids that `init` holds, checked; None where they are still to be found."""
    if isinstance(init, str):
        check_start(init)
        return None
    if callable(init):
        return None
    return read_centroids(init.to(device) if isinstance(init, Tensor) else init, shape, "init", device)


@dataclass(slots=True)
class FirstCentroids:
    """How the runs of a fit find their first centroids.

    given  (K, D) where `init` holds them, or those of the fit that continues; X is what a callable `init` gets
    found  those of the first run, if they were found before all rows were read
    """

    init: Any
    given: Tensor | None
    X: Any
    seed: int
    options: FitOptions
    found: Tensor | None = None

    @property
    def n_runs(self) -> int:
        return self.options.n_init if self.given is None else 1

    def before_reading(
        self, source: RowSource, backend: Backend, weights: Tensor | None, checkpoint: Checkpoint | None = None
    ) -> Tensor | None:
        """Those of the first epoch, if they can be known before all rows are read; else None.

        weights: masses of rows are summed on the host for it, which only pays where rows are far.
        """
        if checkpoint is not None and checkpoint.phase is not None:
            there = checkpoint.phase.progress
            return None if there.stop is not None else there.on(backend.device).centroids
        cheap = source.n_direct == source.n_rows and (weights is None or not isinstance(source, MemoryRows))
        if self.given is None and cheap and isinstance(self.init, str) and self.init == "random":
            unread = UnreadRows(source, backend, weights)
            found = seeding.random_rows_soon(unread, self.options.n_clusters, self.seed)
            self.found = found if unread.usable else None
        return self.found if self.given is None else self.given

    def of_run(self, run: int, session: Session, observer: Observer) -> Tensor:
        """(K, D). A callable is called with X, K and a RandomState of its own."""
        k, rows = self.options.n_clusters, session.rows
        if self.given is not None:
            return self.given
        if run == 0 and self.found is not None:
            return self.found
        if callable(self.init):
            values = self.init(self.X, k, random_state=np.random.RandomState((self.seed + run) % 2**32))
            return read_centroids(values, (k, rows.n_features), "init(X, n_clusters, random_state)", rows.device)
        if self.init == "random":
            return seeding.random_rows(rows, k, self.seed, run)
        if self.init == "nested":
            return self._nested(run, session, observer)
        return seeding.plus_plus(session, k, self.seed, run, observer)

    def _nested(self, run: int, session: Session, observer: Observer) -> Tensor:
        """Random rows, improved by two epochs on each of some samples, every one twice as large and holding the last.

        Where 8 K rows are more than a quarter of all, it is the random start.
        Source: nested batches of Newling & Fleuret 2016, here as a start only.
        """
        k, n_rows = self.options.n_clusters, session.rows.n_rows
        centroids = seeding.random_rows(session.rows, k, self.seed, run)
        options = replace(self.options, epochs=_NESTED_EPOCHS, max_iter=None, tol=0.0, empty_clusters="move")
        sizes = _nested_sizes(k, n_rows)
        if sizes:  # the largest sample holds all others: where rows are far, it alone is gathered
            largest = seeding.subset(n_rows, sizes[-1], self.seed, run)
            whole = session.subset(torch.from_numpy(largest), Silent())
        for done, size in enumerate(sizes, 1):
            indices = largest if size == sizes[-1] else seeding.subset(n_rows, size, self.seed, run)
            with whole.subset(torch.from_numpy(np.searchsorted(largest, indices)), Silent()) as sample:
                if sample.rows.total > 0:
                    centroids = lloyd.improve(sample, centroids, options, Silent())
            observer.seeding(k * sum(sizes[:done]) // sum(sizes), k)
            if observer.stop_requested:
                raise KeyboardInterrupt
        observer.seeding(k, k)
        return centroids


def _nested_sizes(n_clusters: int, n_rows: int) -> list[int]:
    """Rows of the samples of a nested start."""
    sizes = []
    size = _NESTED_FIRST * n_clusters
    while size <= n_rows // _NESTED_PART:
        sizes.append(size)
        size *= 2
    return sizes


def best_run(
    first: FirstCentroids, session: Session, observer: Observer, checkpoint: Checkpoint | None = None
) -> FitResult:
    """The run of highest similarity, the first at a tie. An interrupted run is the last, and the result says so.

    checkpoint: where it goes on and is kept. Raises KeyboardInterrupt if a stop was requested before the first run had
    centroids.
    """
    phase = None if checkpoint is None else checkpoint.phase
    best: FitResult | None = None
    if phase is not None and phase.best is not None:
        best = lloyd.labelled(session, phase.best.progress.on(session.device))
    for run in range(0 if phase is None else phase.run, first.n_runs):
        observer.run(run + 1, first.n_runs)
        try:
            if phase is not None and run == phase.run:
                start = phase.progress.on(session.device)
            else:
                start = Progress(first.of_run(run, session, observer))
        except KeyboardInterrupt:
            if best is None or not observer.stop_requested:
                raise
            return replace(best, stop_reason=StopReason.INTERRUPTED)
        if start.stop is not None:
            result = lloyd.labelled(session, start)
        else:
            keep = () if checkpoint is None else (checkpoint.keep(run, _kept(best)),)
            result = lloyd.fit(session, start.centroids, first.options, observer, start.iterations, *keep)
        if best is None or result.similarity > best.similarity:
            best = result
        if result.stop_reason is StopReason.INTERRUPTED:
            return replace(best, stop_reason=StopReason.INTERRUPTED)
    assert best is not None  # n_init >= 1
    return best


def _kept(best: FitResult | None) -> BestRun | None:
    """What a checkpoint holds of the best run."""
    if best is None:
        return None
    ended = Progress(best.centroids.cpu().clone(), tuple(best.history), best.stop_reason)
    return BestRun(ended, best.similarity)


def start_key(n_clusters: int, n_features: int, init: Any, given: Tensor | None, random_state: Any) -> tuple[Any, ...]:
    """What a fit started from. A second fit continues only if this is equal.

    Arrays count by content (the fingerprints of their rows), callables and RandomStates by identity (which pickling
    keeps).
    """
    if given is not None:
        init = hashlib.sha256(fingerprints(given).cpu().numpy().data).hexdigest()
    return (n_clusters, n_features, init, random_state)

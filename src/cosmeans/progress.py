"""Who watches work that takes a while: a fit, a pass over rows, the steps of a report.

    with progress.watch(n_rows) as observer:
        lloyd.fit(..., observer)

Nothing is shown before work has lasted half a second, so small fits stay silent. A fit may have 10^5 batches:
`batch` adds, looks at the clock, and returns.
"""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, TextIO

from cosmeans import bars
from cosmeans.bars import Display, clock, in_short
from cosmeans.compile_clock import CLOCK
from cosmeans.result import EpochCost, Iteration

_OBSERVER = "_observer"  # the name of the one that was set, on a model
DELAY = 0.5  # seconds of silence before the first sign
_SETTLED = 0.2  # seconds of an epoch after which its own pace is worth something
_LATEST = 3  # epochs whose mean pace is that of the next ones


class Silent:
    """An observer that shows nothing. `stop_requested = True` ends the fit cleanly."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._before: list[Token[Silent | None]] = []

    def __enter__(self) -> Silent:
        self._before.append(_watching.set(self))
        return self

    def __exit__(self, kind: object = None, *exception: object) -> None:
        with suppress(ValueError):  # a generator that another thread closes
            _watching.reset(self._before.pop())
        if kind is None and not self.stop_requested:
            self.complete()
        self.close()

    def run(self, number: int, of: int) -> None: ...

    def seeding(self, done: int, total: int) -> None: ...

    def reading(self, rows: int, total: int) -> None: ...

    def epoch(self, number: int, of: int) -> None: ...

    def batch(self, rows: int) -> None: ...

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None: ...

    def step(self, title: str, done: int, total: int, unit: str, count: str | None = None) -> None:
        """So much of some other work than a fit is done. count: in the words of people; default: done of total."""

    def phase(self, title: str) -> None:
        """What is done next, where nobody knows how long it takes."""

    def complete(self) -> None:
        """All of it is done."""

    def close(self) -> None: ...


_watching: ContextVar[Silent | None] = ContextVar("who watches the work of this thread", default=None)


class Watch(Silent):
    """Keeps the numbers of a fit and shows them now and then.

    flops_per_row  2 K D: with it, rates are shown
    labelling      what a pass is for that labels rows under centroids which are known
    """

    def __init__(
        self, display: Display, n_rows: int = 0, flops_per_row: int = 0, labelling: str = "labelling rows"
    ) -> None:
        super().__init__()
        self.display = display
        self._n_rows, self._flops_per_row, self._labelling = n_rows, flops_per_row, labelling
        self._title, self._count, self._fits = "", "", False
        self._run, self._of_runs, self._limit = 1, 1, 0
        self._done = self._total = 0  # of the bar
        self._rows, self._epochs_before = 0, 0  # of this pass, and finished before it
        self._epoch_started = 0.0
        self._paces: list[float] = []  # seconds per row of the latest epochs
        self._fit_notes: list[str] = []
        self._rates: list[str] = []
        self._time_left = ""
        self._next_sign = time.perf_counter() + DELAY
        self._step_started, self._step_from = 0.0, 0
        self._shown = ""

    # --------------------------------------------------------------- a fit

    def run(self, number: int, of: int) -> None:
        self._run, self._of_runs = number, of

    def reading(self, rows: int, total: int) -> None:
        self._n_rows = total
        self.step("reading", rows, total, "rows")

    def seeding(self, done: int, total: int) -> None:
        self.step(f"{self._run_name}first centroids", done, total, "centroids")

    def epoch(self, number: int, of: int) -> None:
        self._fits = self._fits or of > 0
        if of:
            self._title, self._limit = f"{self._run_name}epoch {number} of at most {of}", of
        else:
            self._title = f"{self._run_name}final labels" if self._fits else self._labelling
        if number == 1 and of:
            self._paces = []
        self._rows, self._epoch_started = 0, _worked()
        # after the epochs of a run its rows are labelled, which is a pass, too
        self._epochs_before = (self._run - 1) * (self._limit + 1) + (number - 1 if of else self._limit)
        self._total = self._of_runs * (self._limit + 1) * self._n_rows
        self._done, self._step_from = self._epochs_before * self._n_rows, -1
        self._time_left = ""

    def batch(self, rows: int) -> None:
        self._rows += rows
        self._done += rows
        if time.perf_counter() >= self._next_sign:
            self._show()

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        self._fit_notes = [f"similarity {iteration.similarity:.4f}"]
        if iteration.changed is not None:
            changed = iteration.changed / self._n_rows if self._n_rows else 0.0
            self._fit_notes.append(f"changed {changed:.1%}")
        if cost.seconds > 0 and self._n_rows:
            rate = self._n_rows / cost.seconds
            # the first pass is no measure: rows are read and much is computed for the first time
            self._paces = [*self._paces[1 - _LATEST :], 1 / rate] if self._epochs_before else []
            if self._flops_per_row:
                flops = rate * self._flops_per_row
                self._rates = [f"{in_short(rate)} rows/s", f"{flops / 1e9:,.0f} GFLOP/s"]
                self._rates.append(f"imbalance {iteration.imbalance:.2f}")
        if time.perf_counter() >= self._next_sign:
            self._show()

    def _left(self) -> str:
        """How long the passes take that are left, at the pace of the latest epochs, or of this pass so far."""
        passed, left = _worked() - self._epoch_started, self._total - self._done
        if self._paces and self._fits:
            return f"at most {clock(left * sum(self._paces) / len(self._paces))} left"
        if 0 < self._rows < self._n_rows and passed >= _SETTLED:
            return f"{'at most' if self._fits else 'about'} {clock(left * passed / self._rows)} left"
        return ""

    @property
    def _run_name(self) -> str:
        return f"run {self._run} of {self._of_runs}, " if self._of_runs > 1 else ""

    # ---------------------------------------------------------- other work

    def step(self, title: str, done: int, total: int, unit: str, count: str | None = None) -> None:
        now = _worked()
        if title != self._title or self._step_from < 0:
            self._step_started, self._step_from, self._time_left = now, done, ""
        if done > self._step_from:
            each = (now - self._step_started) / (done - self._step_from)
            self._time_left = f"about {clock(each * (total - done))} left"
        self._title, self._done, self._total = title, done, total
        self._count = count or f"{done:,} of {total:,} {unit}"
        # what has ended is worth a line only to those who saw it begin
        if time.perf_counter() >= self._next_sign and (done < total or self._shown == title):
            self._show()

    def phase(self, title: str) -> None:
        self._title, self._count, self._time_left, self._fit_notes, self._rates = title, "", "", [], []
        self._done = self._total = self._step_from = 0
        if self._shown or time.perf_counter() >= self._next_sign:
            self._show()

    def complete(self) -> None:
        self._done = self._total

    def close(self) -> None:
        if self._shown:  # the last word is the last state, not the state of the last sign
            self._show(closing=True)
        self.display.close()

    def _show(self, *, closing: bool = False) -> None:
        if self._step_from < 0:
            self._time_left, self._count = self._left(), f"{self._rows:,} of {self._n_rows:,} rows"
        if closing:
            self._time_left = ""
        notes = [note for note in (self._time_left, *self._fit_notes, *self._rates, self._count) if note]
        self.display.show(self._title, self._done, self._total, notes)
        self._next_sign = time.perf_counter() + self.display.interval
        self._shown = self._title


def _worked() -> float:
    """Seconds, without those of compiling: these don't come again."""
    return time.perf_counter() - CLOCK.seconds()


def watching() -> Silent:
    """Who watches the work that this thread does, if anyone does."""
    return _watching.get() or Silent()


def observer_of(model: Any) -> Silent | None:
    """Who was set to watch the fits of a model."""
    found: Silent | None = vars(model).get(_OBSERVER)
    return found


def set_observer(model: Any, observer: Silent | None) -> None:
    """Have fits of a model watched by this one in place of bars; None: by bars again."""
    if observer is None:
        vars(model).pop(_OBSERVER, None)
    else:
        vars(model)[_OBSERVER] = observer


def watch(
    n_rows: int = 0,
    *,
    flops_per_row: int = 0,
    verbose: int = 1,
    labelling: str = "labelling rows",
    file: TextIO | None = None,
) -> Silent:
    """The observer that fits the place where this runs: silent if verbose=0, else bars or lines."""
    return Watch(bars.display(file), n_rows, flops_per_row, labelling) if verbose else Silent()

"""Who watches a fit: bars in a terminal and a notebook, plain lines in a pipe, silence.

    with progress.watch(n_rows, flops_per_row=2 * K * D) as observer:
        lloyd.fit(..., observer)

Nothing is shown before work has lasted half a second, so small fits stay silent. A fit may have 10^5 batches:
`batch` adds, looks at the clock, and returns.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

from tqdm.auto import tqdm

from cosmeans.console import Screen
from cosmeans.result import EpochCost, Iteration

_OBSERVER = "_observer"  # the name of the one that was set, on a model
DELAY = 0.5  # seconds of silence before the first sign
BAR_INTERVAL = 0.1
LINE_INTERVAL = 5.0
LEAST_BAR = 6  # columns that the bar keeps, however much there is to tell


class Silent:
    """An observer that shows nothing. `stop_requested = True` ends the fit cleanly."""

    def __init__(self) -> None:
        self.stop_requested = False

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, number: int, of: int) -> None: ...

    def seeding(self, done: int, total: int) -> None: ...

    def reading(self, rows: int, total: int) -> None: ...

    def epoch(self, number: int, of: int) -> None: ...

    def batch(self, rows: int) -> None: ...

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None: ...

    def step(self, title: str, done: int, total: int, unit: str) -> None:
        """So much of some other work than a fit is done."""

    def close(self) -> None: ...


class Display(Protocol):
    """Where progress appears. notes: what there is to tell, most important first."""

    interval: float

    def show(self, title: str, done: int, total: int, unit: str, notes: list[str]) -> None: ...

    def close(self) -> None: ...


class Watch(Silent):
    """Keeps the numbers of a fit and shows them now and then.

    flops_per_row  2 K D: with it, rows/s, GFLOP/s and the time left are shown
    """

    def __init__(self, display: Display, n_rows: int = 0, flops_per_row: int = 0) -> None:
        super().__init__()
        self.display = display
        self._n_rows, self._flops_per_row = n_rows, flops_per_row
        self._title, self._unit, self._run = "", "rows", ""
        self._fit_notes: list[str] = []
        self._time_left = ""
        self._done = self._total = self._passes_left = self._runs_left = 0
        self._next_sign = time.perf_counter() + DELAY
        self._step_started, self._step_from = 0.0, 0
        self._shown = False

    def run(self, number: int, of: int) -> None:
        self._run, self._runs_left = f"run {number} of {of}, " if of > 1 else "", of - number

    def reading(self, rows: int, total: int) -> None:
        self._n_rows = total
        self.step("reading", rows, total, "rows")

    def seeding(self, done: int, total: int) -> None:
        self.step(f"{self._run}first centroids", done, total, "centroids")

    def epoch(self, number: int, of: int) -> None:
        self._title = self._run + (f"epoch {number} of at most {of}" if of else "final labels")
        self._unit, self._total, self._done = "rows", self._n_rows, 0
        # the last assignment of every run is a pass too
        self._passes_left = of - number + 1 + self._runs_left * (of + 1)
        if number == 1 or not of:
            self._time_left = ""

    def batch(self, rows: int) -> None:
        self._done += rows
        if time.perf_counter() >= self._next_sign:
            self._show()

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        changed = iteration.changed / self._n_rows if self._n_rows else 0.0
        self._fit_notes = [f"similarity {iteration.similarity:.4f}", f"imbalance {iteration.imbalance:.2f}"]
        if self._flops_per_row and cost.seconds > 0:
            rate = self._n_rows / cost.seconds
            flops = rate * self._flops_per_row
            self._fit_notes += [f"{tqdm.format_sizeof(rate)} rows/s", f"{flops / 1e9:,.0f} GFLOP/s"]
            self._time_left = f"at most {_clock(self._passes_left * cost.seconds)} left"
        self._fit_notes.append(f"changed {changed:.1%}")
        if time.perf_counter() >= self._next_sign:
            self._show()

    def step(self, title: str, done: int, total: int, unit: str) -> None:
        now = time.perf_counter()
        if title != self._title:
            self._step_started, self._step_from, self._time_left = now, done, ""
        if done > self._step_from:
            each = (now - self._step_started) / (done - self._step_from)
            self._time_left = f"about {_clock(each * (total - done))} left"
        self._title, self._done, self._total, self._unit = title, done, total, unit
        if now >= self._next_sign:
            self._show()

    def close(self) -> None:
        if self._shown:  # the last word is the last state, not the state of the last sign
            self._time_left = ""
            self._show()
        self.display.close()

    def _show(self) -> None:
        notes = [*self._fit_notes[:1], *([self._time_left] if self._time_left else []), *self._fit_notes[1:]]
        self.display.show(self._title, self._done, self._total, self._unit, notes)
        self._next_sign = time.perf_counter() + self.display.interval
        self._shown = True


class Bar:
    """One line that every epoch fills again, in a terminal or a notebook. What finds no room is left away whole."""

    interval = BAR_INTERVAL

    def __init__(self, file: TextIO | None = None) -> None:
        # widgets know where they are; anything else is asked for no more than a stream must know
        self._file = file if in_notebook() else Screen(file)
        self._bar: Any = None

    def show(self, title: str, done: int, total: int, unit: str, notes: list[str]) -> None:
        if self._bar is None:
            # the rates tqdm knows are those of the display, so the line is ours
            form = {"desc": title, "bar_format": "{desc} |{bar}|", "delay": 1e-9}
            self._bar = tqdm(total=total, mininterval=0, miniters=0, dynamic_ncols=True, file=self._file, **form)
        if total != self._bar.total:
            self._bar.reset(total=total)
        told = [*notes, f"{done:,} of {total:,} {unit}"]
        self._bar.bar_format = "{desc} |{bar}| " + _that_fit(told, self._room(title))
        self._bar.set_description_str(title, refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _room(self, title: str) -> float:
        columns = self._bar.format_dict["ncols"]
        # notebooks and files have no columns
        return columns - len(title) - len(" || ") - LEAST_BAR if isinstance(columns, int) else float("inf")


def _that_fit(notes: list[str], room: float) -> str:
    """As many notes as fit into a line, earlier ones first."""
    told = ""
    for note in notes:
        longer = f"{told}, {note}" if told else note
        if len(longer) <= room:
            told = longer
    return told


class Lines:
    """A plain line every few seconds, for logs and pipes: no carriage return, no colour."""

    interval = LINE_INTERVAL

    def __init__(self, file: TextIO | None = None) -> None:
        self._screen = Screen(file)

    def show(self, title: str, done: int, total: int, unit: str, notes: list[str]) -> None:
        share = f"{title}: {done:,} of {total:,} {unit}"
        self._screen.write("; ".join([share, ", ".join(notes)] if notes else [share]) + "\n")

    def close(self) -> None: ...


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


def watch(n_rows: int = 0, *, flops_per_row: int = 0, verbose: int = 1, file: TextIO | None = None) -> Silent:
    """The observer that fits the place where this runs: silent if verbose=0, else bars or lines."""
    if not verbose:
        return Silent()
    bars = in_notebook() or Screen(file).isatty()
    return Watch(Bar(file) if bars else Lines(file), n_rows, flops_per_row)


def in_notebook() -> bool:
    """Whether tqdm draws widgets here."""
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


def _clock(seconds: float) -> str:
    return str(tqdm.format_interval(seconds))

"""Where progress appears: one line in a terminal or a notebook, plain lines in a log or a pipe."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol, TextIO

from cosmeans import console
from cosmeans.console import Screen

if find_spec("ipywidgets") is None:  # in a notebook, tqdm.auto would warn that it has no widgets
    from tqdm.std import tqdm
else:
    from tqdm.auto import tqdm

BAR_INTERVAL = 0.1
LINE_INTERVAL = 5.0
LEAST_BAR = 6  # columns that a bar keeps, if there is room for one


class Display(Protocol):
    """Where progress appears. interval: seconds between two signs."""

    interval: float

    def show(self, title: str, done: int, total: int, notes: list[str]) -> None:
        """So much of the work of this title is done; total 0: nobody knows how much it is.

        notes  what there is to tell, most important first
        """

    def close(self) -> None: ...


class Bar:
    """A line that is drawn again and again. Notes that find no room are left out, and the bar before the first one."""

    interval = BAR_INTERVAL

    def __init__(self, file: TextIO | None = None) -> None:
        # widgets know where they are; anything else is asked for no more than a stream must know
        self._file = file if in_notebook() else Screen(file)
        self._bar: Any = None

    def show(self, title: str, done: int, total: int, notes: list[str]) -> None:
        if self._bar is None:
            # the rates tqdm knows are those of the display, so the line is ours
            form = {"desc": title, "bar_format": "{desc} |{bar}|", "delay": 1e-9}
            self._bar = tqdm(total=total, mininterval=0, miniters=0, dynamic_ncols=True, file=self._file, **form)
            if not in_notebook():
                console.DRAWN.append(self._bar.clear)
        if total != self._bar.total:
            self._bar.reset(total=total)
        self._bar.bar_format = self._line(title, total, notes)
        self._bar.set_description_str(title, refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            if self._bar.clear in console.DRAWN:
                console.DRAWN.remove(self._bar.clear)
            self._bar.close()

    def _line(self, title: str, total: int, notes: list[str]) -> str:
        columns = self._bar.format_dict["ncols"]
        # notebooks and files have no columns
        room = columns - len(title) if isinstance(columns, int) else float("inf")
        beside_bar = _that_fit(notes, room - len(" || ") - LEAST_BAR)
        if total and (beside_bar or not notes):
            return "{desc} |{bar}| " + beside_bar
        alone = _that_fit(notes, room - len(": "))
        return "{desc}" + (f": {alone}" if alone else "")


def _that_fit(notes: list[str], room: float) -> str:
    """The first notes, as many as fit into a line."""
    told = ""
    for note in notes:
        longer = f"{told}, {note}" if told else note
        if len(longer) > room:
            break
        told = longer
    return told


class Lines:
    """A plain line every few seconds, for logs and pipes: no carriage return, no colour."""

    interval = LINE_INTERVAL

    def __init__(self, file: TextIO | None = None) -> None:
        self._screen, self._last = Screen(file), ""

    def show(self, title: str, done: int, total: int, notes: list[str]) -> None:
        del done, total  # the notes say them
        line = ": ".join([title, ", ".join(notes)] if notes else [title]) + "\n"
        if line != self._last:
            self._screen.write(line)
        self._last = line

    def close(self) -> None: ...


def display(file: TextIO | None = None) -> Display:
    """The one that fits the place where this runs."""
    return Bar(file) if in_notebook() or Screen(file).isatty() else Lines(file)


def in_notebook() -> bool:
    """Whether tqdm draws widgets here."""
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


def clock(seconds: float) -> str:
    """A duration as people read it: 03:18, or 1:02:03."""
    return str(tqdm.format_interval(seconds))


def in_short(number: float) -> str:
    """A number with a unit letter: 1.23M."""
    return str(tqdm.format_sizeof(number))

"""What stands for a row on the page: its text, its picture or its number, within a budget of bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from cosmeans.containers.strings import read_strings
from cosmeans.errors import FileError, OptionError
from cosmeans.page.thumbnails import thumbnails
from cosmeans.printable import line

TEXT_LENGTH = 240
_FEW_CLUSTERS = 250  # so many have room for larger pictures
_LARGE, _SMALL = 96, 64  # pixels of the longer side


def check_texts(values: Any, n_rows: int, name: str) -> list[str] | None:
    """`containers.strings.read_strings`, if there are any."""
    return None if values is None else read_strings(values, n_rows, name)


def check_images(paths: list[str] | None) -> None:
    """Raise OptionError if pictures are asked for and Pillow is missing."""
    if paths is not None and find_spec("PIL") is None:
        raise OptionError('images need Pillow, which is missing. Install it with: pip install "cosmeans[report]".')


def clean(text: str, length: int = TEXT_LENGTH) -> str:
    """One printable line of at most `length` characters."""
    shown = line(text[: 4 * length])
    return shown if len(shown) <= length else shown[: length - 1].rstrip() + "…"


@dataclass(slots=True)
class Examples:
    """Rows that the page shows, each once: `index` gives the place of a row, the lists its content.

    unreadable  why pictures could not be read
    """

    texts: list[str] | None
    images: list[str] | None
    side: int
    rows: list[int] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    pictures: list[str | None] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)
    bytes: int = 0

    def add(self, rows: np.ndarray) -> None:
        """Take in rows; those already there are not taken twice."""
        new = [int(row) for row in rows if row >= 0 and int(row) not in self.index]
        pictures = thumbnails([self.images[row] for row in new], self.side) if self.images is not None else None
        for position, row in enumerate(new):
            self.index[row] = len(self.rows)
            self.rows.append(row)
            text = self.caption(row)
            self.shown.append(text)
            self.bytes += len(text.encode()) + 30
            if pictures is not None:
                found = pictures[position]
                self.pictures.append(None if isinstance(found, FileError) else found)
                self.bytes += len(self.pictures[-1] or "")
                if isinstance(found, FileError):
                    self.unreadable.append(clean(str(found)))

    def caption(self, row: int, length: int = TEXT_LENGTH) -> str:
        """The text of a row; without one the name of its picture; else nothing."""
        if self.texts is not None:
            return clean(self.texts[row], length)
        return "" if self.images is None else clean(os.path.basename(self.images[row]), length)


def gather(
    best: np.ndarray, worst: np.ndarray, texts: list[str] | None, images: list[str] | None, budget: int
) -> tuple[Examples, int, int]:
    """Examples for every cluster, rank by rank, until the budget of bytes is spent.

    best, worst (K, m) rows, -1 where there is none. Returns the examples and how many ranks of each fitted.
    """
    found = Examples(texts, images, _LARGE if len(best) <= _FEW_CLUSTERS else _SMALL)
    fitted = {"best": 0, "worst": 0}
    for rank in range(best.shape[1]):
        for name, rows in (("best", best), ("worst", worst)):
            before = found.bytes
            found.add(rows[:, rank])
            fitted[name] = rank + 1
            if found.bytes + (found.bytes - before) > budget:  # the next round costs about what this one did
                return found, fitted["best"], fitted["worst"]
    return found, fitted["best"], fitted["worst"]

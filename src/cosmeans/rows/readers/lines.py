"""Lines of text, plain or packed by gzip: what JSON lines and texts are read from."""

from __future__ import annotations

import gzip
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from cosmeans.reading import damaged, size_words
from cosmeans.rows.place import Place

LONGEST_LINE = 1 << 26  # also the longest line of a CSV file that Arrow takes
_NEEDED = "Use UTF-8 lines, plain or .gz."


@contextmanager
def unpacked(place: Place) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its name ends in .gz."""
    with place.open() as file:
        if not place.packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as inside:
            yield inside  # type: ignore[misc]


def lines_of(place: Place) -> Generator[str, None, None]:
    """The lines of a file in UTF-8, without their ends. Raises FileError for anything else, and for endless lines."""
    says = "can't be read as text"
    with place.reading(says=says, advice=_NEEDED), unpacked(place) as file:
        lines = io.TextIOWrapper(file, "utf-8-sig", newline="\n")
        while line := lines.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise damaged(
                    place.name, f"a line is longer than {size_words(LONGEST_LINE)}", says=says, advice=_NEEDED
                )
            yield line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line

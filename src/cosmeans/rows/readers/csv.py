"""CSV and tab-separated values: the vector as text in one column ("[0.1, 0.2]"), or one number a column."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from cosmeans.errors import FileError
from cosmeans.rows.place import Place
from cosmeans.rows.readers.lines import LONGEST_LINE, unpacked

_BETWEEN = re.compile(r"[,;\s]+")
_ADVICE = "The file needs a header, and as many cells in every row."


class CsvTable:
    """`rows.table.Table`. The first block of the file says what its columns hold."""

    counted = False

    def __init__(self, place: Place) -> None:
        import pyarrow

        self._place, self.name = place, place.name
        self._lists = pyarrow.list_(pyarrow.float64())
        self._widths: dict[str, int] = {}
        self.schema = pyarrow.schema([])
        with closing(self._parsed(None)) as batches:
            found, head = next(batches), next(batches, None)
        cells = [pyarrow.array([], pyarrow.string())] * len(found) if head is None else head.columns
        fields = [(field.name, self._type_of(field, column)) for field, column in zip(found, cells, strict=True)]
        self.schema = pyarrow.schema(fields)

    @cached_property
    def groups(self) -> list[int]:
        return [sum(batch.num_rows for batch in islice(self._parsed(self.schema.names[:1]), 1, None))]

    def _type_of(self, field: Any, cells: Any) -> Any:
        """Lists of numbers where a column's first text holds several, else what Arrow took it for."""
        present = cells.drop_null()
        if str(field.type) != "string" or not len(present):
            return field.type
        numbers = _numbers_of(present[0].as_py())
        if numbers is None or len(numbers) < 2:
            return field.type
        self._widths[field.name] = len(numbers)
        return self._lists

    def width(self, name: str) -> int | None:
        """Numbers in the first list of a column."""
        return self._widths.get(name)

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        import pyarrow

        lists = [name for name in names if not text and self.schema.field(name).type == self._lists]
        start = 0
        for batch in islice(self._parsed(names, names if text else lists), 1, None):
            columns = [
                self._vectors(batch.column(name), name, start) if name in lists else batch.column(name)
                for name in names
            ]
            yield pyarrow.record_batch(columns, names)
            start += batch.num_rows

    def _parsed(self, names: list[str] | None, as_text: list[str] | None = None) -> Generator[Any, None, None]:
        """The schema, then record batches of some columns. as_text: those that stay as they are written."""
        import pyarrow
        from pyarrow import csv

        delimiter = "\t" if self._place.suffix == ".tsv" else ","
        read = csv.ReadOptions(block_size=LONGEST_LINE)
        # an empty line is an empty cell where there is one column, and nothing where there are more
        several = len(self.schema) != 1
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=several)
        types = {name: pyarrow.string() for name in as_text or ()}
        convert = csv.ConvertOptions(include_columns=names, column_types=types)
        says = "can't be read as " + ("text" if self._place.packed else ".csv")
        with self._place.reading(says=says, advice=_ADVICE), unpacked(self._place) as file:  # noqa: SIM117
            with csv.open_csv(file, read, parse, convert) as table:
                yield table.schema
                yield from table

    def _vectors(self, cells: Any, name: str, start: int) -> Any:
        """Cells of text as lists of numbers."""
        import pyarrow

        found: list[np.ndarray | None] = []
        for row, cell in enumerate(cells.to_pylist(), start):
            there = cell is not None and bool(cell.strip())
            numbers = _numbers_of(cell) if there else None
            if there and numbers is None:
                raise FileError(
                    f"{self.name}, row {row}: column {name!r} holds {cell[:40]!r}, which is not a list of numbers. "
                    "Correct or remove the row."
                )
            found.append(numbers)
        return pyarrow.array(found, self._lists)


def _numbers_of(cell: str) -> np.ndarray | None:
    """The numbers in a cell, with or without brackets, commas, semicolons or blanks between; None: it has others."""
    words = [word for word in _BETWEEN.split(cell.strip().strip("[](){}")) if word]
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return None

"""The texts that belong to rows: lines of a file, or one column of a table.

Files are read piece by piece, and no more is kept than there are rows: what a packed file unpacks to is not known
before.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.reading import free_memory, reading, require_memory, size_words
from cosmeans.rows.formats import open_table
from cosmeans.rows.readers.lines import lines_of
from cosmeans.rows.remote import place_of
from cosmeans.rows.suffixes import TABLE_SUFFIXES
from cosmeans.rows.table import Table, validated

_SHARE = 4  # of the free memory, one part for texts: Python needs up to four bytes a character
_COUNTED = 1000  # texts beyond twice the rows that are counted, not to read a whole file of another kind
Cells = Generator[str | None, None, None]


def read_texts(path: str | os.PathLike[str], n_rows: int, column: str | None = None) -> list[str]:
    """One text per row: a line of plain text, or a cell of a column. Text, CSV and JSON lines may be gzipped.

    column  of a table (`suffixes.TABLE_SUFFIXES`); needed unless the table has only one. An empty cell is ""
    Raises FileError (also for texts that are larger than the memory), InputError if there are not as many texts as
    rows, and OptionError for a column that isn't there.
    """
    place = place_of(path)
    if place.suffix not in TABLE_SUFFIXES:
        if column is not None:
            tables = ", ".join(TABLE_SUFFIXES)
            raise OptionError(f"--column {column}: {place} is read as plain lines. Columns are in {tables}.")
        with closing(lines_of(place)) as lines:
            return _collected(place.name, lines, n_rows, "lines")
    table = open_table(place)
    name = _chosen(table, column)
    if table.counted and sum(table.groups) != n_rows:
        raise _wrong_count(place.name, str(sum(table.groups)), "rows", n_rows)
    return texts_of([table], name, n_rows)


def texts_of(tables: list[Table], column: str, n_rows: int) -> list[str]:
    """A column of tables, one after another, as text."""
    for table in tables:
        column = _chosen(table, column)
        if (size := getattr(table, "packed_bytes", None)) is not None:
            require_memory(table.name, size(column), "unpacks to")
    cells = (cell for table in tables for cell in _cells(table, column))
    with closing(cells):
        return _collected(tables[0].name, cells, n_rows, "rows")


def _collected(path: str, cells: Iterable[str | None], n_rows: int, what: str) -> list[str]:
    """As many texts as rows, None as an empty one."""
    texts: list[str] = []
    count = held = 0
    most = free_memory() // _SHARE
    for cell in cells:
        count += 1
        if count > 2 * n_rows + _COUNTED:
            raise _wrong_count(path, f"more than {count - 1}", what, n_rows)
        if count <= n_rows:
            texts.append(cell or "")
            held += len(texts[-1])
            if held > most:
                raise FileError(
                    f"{path} holds more than {size_words(most)} of texts, a quarter of the free memory. "
                    "Use shorter texts, or a machine with more memory."
                )
    if count != n_rows:
        raise _wrong_count(path, str(count), what, n_rows)
    return texts


def _wrong_count(path: str, count: str, what: str, n_rows: int) -> InputError:
    return InputError(f"{path} has {count} {what}, the embeddings have {n_rows} rows; one text per row is needed.")


def _cells(table: Table, column: str) -> Cells:
    for batch in validated(table, 0, [column], text=True):
        with reading(table.name):
            cells = batch.column(0)
            if hasattr(cells, "dictionary"):
                values = _texts(cells.dictionary)
                texts = [None if place is None else values[place] for place in cells.indices.to_pylist()]
            else:
                texts = _texts(cells)
        yield from texts


def _texts(cells: Any) -> list[str | None]:
    return [value if value is None or isinstance(value, str) else str(value) for value in cells.to_pylist()]


def _chosen(table: Table, column: str | None) -> str:
    names: list[str] = table.schema.names
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if column is None:
        if len(names) != 1:
            raise OptionError(
                f"{table.name} has {len(names)} columns: name the one with the texts by --column ({listed})."
            )
        return names[0]
    if column not in names:
        raise OptionError(f"--column {column}: {table.name} has no such column. It has: {listed}.")
    if names.count(column) > 1:
        raise FileError(f"{table.name} has {names.count(column)} columns called {column}. Rename all but one.")
    return column

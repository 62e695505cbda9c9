"""What headers and footers of files say of their rows, before any are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cosmeans.containers.converted import joined_type
from cosmeans.rows.formats import FORMATS
from cosmeans.rows.held import limit_of
from cosmeans.rows.joined import JoinedRows, one_width, tables_of
from cosmeans.rows.opening import Paths, open_readers
from cosmeans.rows.paths import find_files
from cosmeans.rows.reader import Reader, Wanted
from cosmeans.rows.readers.arrow import IndexedRows
from cosmeans.rows.table import Table, require_columns
from cosmeans.rows.table_rows import TableRows

_LABEL_BYTES = 28  # of a row that a fit writes: its number, twice its label, its cosine


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What is known of rows of files without reading them. None: that takes reading them, or the files don't say it.

    files, rows, features   how many files; N; D
    dtype                   of the numbers as they are stored; several where files differ
    columns                 those with the vectors: one of lists, or one a number; none in files without columns
    lists                   whether it is a column of lists
    named                   whether the caller named it
    nulls, files_with_nulls null rows and null numbers, and the files that have some; counted by footers of Parquet
    row_groups              parts that are decoded by themselves, and `largest_row_group` the rows of the largest
    other_columns           that all files have: their types by their names
    bytes_on_disk           of the files
    mapped                  whether rows are mapped from the files; else they are decoded
    decoded_bytes           N * D numbers in the type that they are computed from
    memory_limit            what decoded rows may take in memory by default, in bytes, and `rows_in_memory` that fit
    label_bytes             most that the labels and cosines of a fit take on the disk
    """

    files: int
    rows: int | None
    features: int | None
    dtype: str
    columns: list[str]
    lists: bool
    named: bool
    nulls: int | None
    files_with_nulls: int | None
    row_groups: int | None
    largest_row_group: int | None
    other_columns: dict[str, str]
    bytes_on_disk: int
    mapped: bool
    decoded_bytes: int | None
    memory_limit: int
    rows_in_memory: int | None
    label_bytes: int | None


def look(
    paths: Paths,
    embedding: str | None = None,
    order: str = "path",
    dtype: str | None = None,
    shape: tuple[int, int] | None = None,
    key: str | None = None,
    columns: Sequence[str] = (),
) -> RowFacts:
    """The facts about files, from their headers and footers alone; of CSV and JSON lines, from their first lines.

    columns: that all of them must have. All else, and what is raised: as of `rows.opening.open_rows`.
    """
    files = find_files(paths, order, FORMATS)
    readers = open_readers(files, Wanted(embedding, key, dtype, shape))
    for table in [table for reader in readers for table in tables_of(reader)] if columns else ():
        require_columns(table, columns)
    tables = [found for reader in readers for found in _tables(reader)]
    counted = all(found.table.counted for found in tables)
    n_rows = sum(reader.n_rows for reader in readers) if counted else None
    width = JoinedRows(readers, readers[0].name).n_features if counted else one_width(readers)
    numbers = joined_type(reader.dtype for reader in readers)
    row_bytes = (width or 0) * numbers.itemsize
    vectors = tables[0].vectors if tables else None
    mapped = all(reader.mapped for reader in readers)
    limit = limit_of(None)
    groups = [rows for found in tables for rows in found.table.groups] if tables and counted else None
    nulls = _nulls(tables) if len(tables) >= len(readers) else None
    return RowFacts(
        files=len(readers),
        rows=n_rows,
        features=width,
        dtype=", ".join(sorted({_stored(reader) for reader in readers})),
        columns=vectors.names if vectors else [],
        lists=vectors is not None and vectors.lists,
        named=embedding is not None,
        nulls=None if nulls is None else sum(nulls),
        files_with_nulls=None if nulls is None else sum(count > 0 for count in nulls),
        row_groups=None if groups is None else len(groups),
        largest_row_group=None if groups is None else max(groups, default=0),
        other_columns=_others([found.table for found in tables], vectors.names if vectors else []),
        bytes_on_disk=sum(file.n_bytes for file in files),
        mapped=mapped,
        decoded_bytes=None if n_rows is None else n_rows * row_bytes,
        memory_limit=limit,
        rows_in_memory=None if n_rows is None or mapped else min(n_rows, limit // max(1, row_bytes)),
        label_bytes=None if n_rows is None else n_rows * _LABEL_BYTES,
    )


def _tables(reader: Reader) -> Iterable[TableRows]:
    """The tables that a reader reads."""
    if isinstance(reader, TableRows):
        return [reader]
    if isinstance(reader, IndexedRows):
        return _tables(reader.reader)
    return [table for part in reader.readers for table in _tables(part)] if isinstance(reader, JoinedRows) else []


def _stored(reader: Reader) -> str:
    tables = list(_tables(reader))
    return tables[0].vectors.stored if tables else str(reader.dtype).removeprefix("torch.")


def _nulls(tables: Sequence[TableRows]) -> list[int] | None:
    """Nulls of the vectors of each table; None if one of them doesn't say."""
    counts = []
    for table in tables:
        values = getattr(table.table, "values", None)
        found = [values(name) for name in table.vectors.names] if values else [None]
        known = [nulls for _, nulls in filter(None, found)]
        if len(known) < len(found):
            return None
        counts.append(sum(known))
    return counts


def _others(tables: Sequence[Table], vectors: Sequence[str]) -> dict[str, str]:
    if not tables:
        return {}
    shared = set(tables[0].schema.names).intersection(*(table.schema.names for table in tables[1:])) - set(vectors)
    return {field.name: str(field.type) for field in tables[0].schema if field.name in shared}

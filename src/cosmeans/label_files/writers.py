"""One table of labels, written in bounded memory: rows with their labels and carried columns, a chunk at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from cosmeans import printable
from cosmeans.errors import OptionError
from cosmeans.label_files.columns import CLUSTER, OLD_NAME, ROW, SIMILARITY, TEXT, Carried, in_order
from cosmeans.reading import damaged
from cosmeans.rows.files import FileRows

PARQUET, CSV, JSON_LINES, NPY = "parquet", "csv", "jsonl", "npy"
CHUNK_ROWS = 1 << 16  # also the rows of a row group
_CHUNK_BYTES = 32 << 20  # of carried columns
Pieces = Iterable[tuple[np.ndarray, np.ndarray]]
"""Consecutive rows of a table: their labels int64 and their similarity float32, (n,) each; n may be any number."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a table, from row number `start` on.

    labels, similarity  (n,) int64 and float32
    carried             columns of Arrow, n cells each, by name
    """

    start: int
    labels: np.ndarray
    similarity: np.ndarray
    carried: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a table holds besides `row`, `cluster` and `similarity`.

    schema     of Arrow: the carried columns of the files with their types, ids first; None: there are none
    id_column  which of them names the rows
    numbers    those that hold numbers, where the cells are text
    old_name   whether `cluster` is also there under its old name
    texts      one for each row of the table, as its last carried column; None: no such column
    """

    schema: Any = None
    id_column: str | None = None
    numbers: frozenset[str] = frozenset()
    old_name: bool = False
    texts: Sequence[str] | None = None

    @property
    def carried(self) -> list[str]:
        names = [] if self.schema is None else list(self.schema.names)
        return names if self.texts is None else [*names, TEXT]


def require_tables() -> None:
    """Raise OptionError unless tables can be written."""
    try:
        import pyarrow  # noqa: F401  it is needed later
    except ImportError as error:
        raise OptionError(
            f'Tables of labels need pyarrow ({error}): pip install "cosmeans[tables]". For labels alone, write .npy.'
        ) from error


def layout_of(kind: str, rows: FileRows | None, carried: Carried, *, old_name: bool = False) -> Layout:
    """The layout of a table about these rows. Raises OptionError where it can't be written in this kind of file."""
    names = carried.names
    if kind == NPY:
        return Layout()
    if not names or rows is None:
        return Layout(old_name=old_name and kind == PARQUET, texts=carried.texts)
    import pyarrow

    rows.require(names)
    schema = _common_schema(rows, names)
    if kind in (CSV, JSON_LINES):  # cells as they are written there: numbers keep all their digits
        numbers = frozenset(field.name for field in schema if _is_number(field.type))
        text = pyarrow.schema([(name, pyarrow.string()) for name in names])
        return Layout(text, carried.id_column, numbers, texts=carried.texts)
    _refuse_unwritable(schema)
    return Layout(schema, carried.id_column, old_name=old_name and OLD_NAME not in names, texts=carried.texts)


def write_table(kind: str, file: BinaryIO, n_rows: int, layout: Layout, chunks: Iterable[Chunk]) -> None:
    """Write all chunks of a table of n_rows."""
    if kind == NPY:
        _write_npy(file, n_rows, chunks)
    elif kind == JSON_LINES:
        _write_json_lines(file, chunks, layout)
    elif kind == CSV:
        _write_csv(file, chunks, layout)
    else:
        _write_parquet(file, chunks, layout)


def in_chunks(
    kind: str, rows: FileRows | None, layout: Layout, pieces: Pieces, most: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """The rows of a table in chunks of at most `most` rows, with the carried columns that belong to them."""
    others = None
    if layout.schema is not None and rows is not None:
        others = _Columns(rows, layout.schema, text=kind in (CSV, JSON_LINES))
    start = 0
    for labels, similarity in pieces:
        done = 0
        while done < len(labels):
            count = min(most, len(labels) - done)
            carried: dict[str, Any] = {}
            if others is not None:
                count, carried = others.take(count)
            span = slice(done, done + count)
            if layout.texts is not None:
                carried[TEXT] = _text_cells(layout.texts[start + done : start + done + count])
            yield Chunk(start + done, labels[span], similarity[span], carried)
            done += count
        start += done


def _text_cells(texts: Sequence[str]) -> Any:
    import pyarrow

    return pyarrow.array(map(printable.writable, texts), pyarrow.string())


def table_of(chunk: Chunk, layout: Layout, *, cluster: bool = True) -> Any:
    """A chunk as a table of Arrow. cluster: False where the name of the folder says it."""
    import pyarrow

    columns = {ROW: np.arange(chunk.start, chunk.start + len(chunk.labels)), CLUSTER: chunk.labels}
    columns |= {SIMILARITY: chunk.similarity}
    if not cluster:
        del columns[CLUSTER]
    found = columns | chunk.carried
    table = pyarrow.table({name: found[name] for name in in_order(columns, layout.carried, layout.id_column)})
    return table.append_column(OLD_NAME, pyarrow.array(chunk.labels)) if layout.old_name else table


class _Columns:
    """The carried columns of rows, taken in other pieces than they are decoded in."""

    def __init__(self, rows: FileRows, schema: Any, text: bool) -> None:
        self._name, self._schema = rows.names[0], schema
        self._decoded = self._parts(rows.columns(list(schema.names), text))
        self._rest: Any = None

    def take(self, most: int) -> tuple[int, dict[str, Any]]:
        """The next rows: how many, from 1 to `most`, and their cells by column."""
        import pyarrow

        taken, count, size = [], 0, 0
        while count < most and size < _CHUNK_BYTES:
            batch = next(self._decoded, None) if self._rest is None else self._rest
            if batch is None:
                break
            part = batch.slice(0, most - count)
            self._rest = batch.slice(len(part)) if len(part) < len(batch) else None
            taken.append(part)
            count, size = count + len(part), size + part.get_total_buffer_size() * len(part) // max(1, len(batch))
        if not count:
            raise damaged(self._name, "its other columns have fewer rows than that of the vectors")
        table = pyarrow.Table.from_batches(taken, self._schema)
        return count, {name: table.column(name) for name in self._schema.names}

    def _parts(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Batches that have rows, and not too many texts, in the types of the table."""
        import pyarrow

        for batch in batches:
            for part in _cut(batch):
                columns = [part.column(field.name).cast(field.type) for field in self._schema]
                yield pyarrow.record_batch(columns, schema=self._schema)


def _cut(batch: Any) -> Iterator[Any]:
    """A batch in parts whose texts, each on its own, are not large: a dictionary may hold a long one for many rows."""
    if len(batch) > 1 and sum(map(_text_bytes, batch.columns)) > _CHUNK_BYTES:
        half = len(batch) // 2
        yield from _cut(batch.slice(0, half))
        yield from _cut(batch.slice(half))
    elif len(batch):
        yield batch


def _text_bytes(column: Any) -> int:
    """What the texts of a column take that is stored as a dictionary."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type) or not str(column.type.value_type).endswith("string"):
        return 0
    lengths = compute.binary_length(column.dictionary)
    return int(compute.sum(lengths.take(column.indices)).as_py() or 0)


def _common_schema(rows: FileRows, names: list[str]) -> Any:
    """The types of columns in all files. Raises OptionError where they have nothing in common."""
    import pyarrow

    schemas = [
        pyarrow.schema([(name, _plain(table.schema.field(name).type)) for name in names]) for table in rows.tables
    ]
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise OptionError(
            f"A column that is to be carried has types in the files that don't go together ({error}). Convert it in "
            "the files, or leave it out."
        ) from error


def _plain(kind: Any) -> Any:
    """A dictionary is how a column is stored; what it holds is what its values are."""
    return getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind


def _refuse_unwritable(schema: Any) -> None:
    """Raise OptionError for a column that Parquet has no type for."""
    import pyarrow
    from pyarrow import parquet

    for field in schema:
        try:
            parquet.write_table(pyarrow.schema([field]).empty_table(), io.BytesIO())
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid) as error:
            raise OptionError(
                f"The column {field.name!r} can't be carried to Parquet: it is of type {field.type}. Leave it out, or "
                "convert it in the files."
            ) from error


def _write_parquet(file: BinaryIO, chunks: Iterable[Chunk], layout: Layout) -> None:
    from pyarrow import parquet

    nothing = Chunk(0, np.empty(0, np.int64), np.empty(0, np.float32), _no_cells(layout))
    schema = table_of(nothing, layout).schema
    repeated = [name for name in schema.names if name not in (ROW, SIMILARITY)]
    # a dictionary of numbers that hardly repeat takes longer to make than all else here, and more space
    with parquet.ParquetWriter(file, schema, use_dictionary=repeated) as writer:
        for chunk in chunks:
            writer.write_table(table_of(chunk, layout))


def _write_csv(file: BinaryIO, chunks: Iterable[Chunk], layout: Layout) -> None:
    import pyarrow
    from pyarrow import csv

    nothing = Chunk(0, np.empty(0, np.int64), np.empty(0, np.float32), _no_cells(layout))
    with csv.CSVWriter(file, table_of(nothing, layout).schema) as writer:
        for chunk in chunks:
            cells = {
                name: pyarrow.array(map(_csv_cell, column.to_pylist()), pyarrow.string())
                for name, column in chunk.carried.items()
            }
            writer.write_table(table_of(Chunk(chunk.start, chunk.labels, chunk.similarity, cells), layout))


def _csv_cell(text: str | None) -> str | None:
    """A number stays as it is written; other text is made harmless for spreadsheets."""
    return text if text is None or _number(text) is not None else printable.cell(text)


def _write_json_lines(file: BinaryIO, chunks: Iterable[Chunk], layout: Layout) -> None:
    order = in_order((ROW, CLUSTER, SIMILARITY), layout.carried, layout.id_column)
    for chunk in chunks:
        columns: dict[str, Iterable[Any]] = {ROW: range(chunk.start, chunk.start + len(chunk.labels))}
        columns |= {CLUSTER: chunk.labels.tolist(), SIMILARITY: [float(str(value)) for value in chunk.similarity]}
        columns |= {name: _json_values(column, name in layout.numbers) for name, column in chunk.carried.items()}
        lines = zip(*(columns[name] for name in order), strict=True)
        file.writelines(json.dumps(dict(zip(order, line, strict=True))).encode() + b"\n" for line in lines)


def _json_values(cells: Any, numbers: bool) -> list[Any]:
    texts = cells.to_pylist()
    return [None if text is None else _json_number(text) for text in texts] if numbers else texts


def _json_number(text: str) -> int | float:
    """A number with all its digits."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _write_npy(file: BinaryIO, n_rows: int, chunks: Iterable[Chunk]) -> None:
    header = {"descr": "<i8", "fortran_order": False, "shape": (n_rows,)}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in chunks:
        file.write(np.ascontiguousarray(chunk.labels, "<i8").tobytes())


def _no_cells(layout: Layout) -> dict[str, Any]:
    cells = {} if layout.schema is None else {field.name: _empty(field.type) for field in layout.schema}
    return cells if layout.texts is None else cells | {TEXT: _text_cells([])}


def _empty(kind: Any) -> Any:
    import pyarrow

    return pyarrow.array([], kind)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

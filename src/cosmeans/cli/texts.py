"""The texts that belong to rows: lines of a file, or one column of a table.

Files are read piece by piece, and no more is kept than there are rows: what a packed file unpacks to is not known
before.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.reading import damaged, free_memory, open_regular, reading, require_memory, size_words

LONGEST_TEXT = 1 << 26  # the longest text, and the longest line of a CSV file that Arrow takes
_BATCH = 4096  # cells of a Parquet file at once
_SHARE = 4  # of the free memory, one part for texts: Python needs up to four bytes a character
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_COUNTED = 1000  # texts beyond twice the rows that are counted, not to read a whole file of another kind
Cells = Generator[str | None, None, None]
_NEEDED = "Use UTF-8 lines, plain or .gz."


def given_texts(path: Path | None, n_rows: int, column: str | None) -> list[str] | None:
    """`read_texts` of a file that may not be given, and then is None; a column alone is an OptionError."""
    if path is not None:
        return read_texts(path, n_rows, column)
    if column is not None:
        raise OptionError(f"--column {column} names a column, but no file of texts or classes was given.")
    return None


def read_texts(path: Path, n_rows: int, column: str | None = None) -> list[str]:
    """One text per row: a line of plain text, or a cell of a column. Text, CSV and JSON lines may be gzipped.

    column  of .csv, .tsv, .parquet, .jsonl, .ndjson; needed unless the table has only one. An empty cell is ""
    Raises FileError (also for texts that are larger than the memory), InputError if there are not as many texts as
    rows, and OptionError for a column that isn't there.
    """
    packed = path.suffix.lower() == ".gz"
    kind = (path.with_suffix("") if packed else path).suffix.lower()
    if kind not in TABLES and column is not None:
        raise OptionError(f"--column {column}: {path} is read as plain lines. Columns are in {', '.join(TABLES)}.")
    cells: Cells
    match kind:
        case ".parquet":
            cells = _parquet_cells(path, n_rows, column)
        case ".csv" | ".tsv":
            cells = _csv_cells(path, packed, "\t" if kind == ".tsv" else ",", column)
        case ".jsonl" | ".ndjson":
            cells = _json_cells(path, packed, column)
        case _:
            cells = (line for line in _lines(path, packed))
    with closing(cells):
        return _collected(path, cells, n_rows, "rows" if kind in TABLES else "lines")


def _collected(path: Path, cells: Iterable[str | None], n_rows: int, what: str) -> list[str]:
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


def _wrong_count(path: Path, count: str, what: str, n_rows: int) -> InputError:
    return InputError(f"{path} has {count} {what}, the embeddings have {n_rows} rows; one text per row is needed.")


@contextmanager
def _unpacked(path: Path, packed: bool) -> Iterator[BinaryIO]:
    with open_regular(path) as file:
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]


def _lines(path: Path, packed: bool) -> Generator[str, None, None]:
    with _unpacked(path, packed) as file, reading(path, says="can't be read as text", advice=_NEEDED):
        lines = io.TextIOWrapper(file, "utf-8-sig", newline="\n")
        while line := lines.readline(LONGEST_TEXT):
            if len(line) == LONGEST_TEXT:
                raise damaged(path, f"a line is longer than {size_words(LONGEST_TEXT)}", says="can't be read as text",
                              advice=_NEEDED)  # fmt: skip
            yield line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def _parquet_cells(path: Path, n_rows: int, column: str | None) -> Cells:
    import pyarrow
    from pyarrow import parquet

    with open_regular(path) as file, reading(path, says="can't be read as .parquet", advice="Write the file again."):
        with parquet.ParquetFile(file) as head:
            name = _chosen(path, list(head.schema_arrow.names), column)
            found = head.metadata
            if found.num_rows != n_rows:
                raise _wrong_count(path, str(found.num_rows), "rows", n_rows)
            groups = [found.row_group(group) for group in range(found.num_row_groups)]
            places = [
                place for place in range(found.num_columns) if found.schema.column(place).path.split(".")[0] == name
            ]
            size = sum(group.column(place).total_uncompressed_size for group in groups for place in places)
            require_memory(path, size, "unpacks to")
            kind = head.schema_arrow.field(name).type
        file.seek(0)
        # a dictionary stays one: many rows of one long text are not as many texts
        texts = [name] if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) else []
        with parquet.ParquetFile(file, read_dictionary=texts) as table:
            for batch in table.iter_batches(_BATCH, columns=[name]):
                cells = batch.column(name)
                if isinstance(cells, pyarrow.DictionaryArray):
                    values = _texts(cells.dictionary)
                    yield from (None if place is None else values[place] for place in cells.indices.to_pylist())
                else:
                    yield from _texts(cells)


def _csv_cells(path: Path, packed: bool, delimiter: str, column: str | None) -> Cells:
    import pyarrow
    from pyarrow import csv

    read = csv.ReadOptions(block_size=LONGEST_TEXT)
    form: dict[str, Any] = {"delimiter": delimiter, "newlines_in_values": True}
    says = "can't be read as " + ("text" if packed else ".csv")
    with reading(path, says=says, advice="The file needs a header, and as many cells in every row."):
        with _unpacked(path, packed) as file, csv.open_csv(file, read, csv.ParseOptions(**form)) as head:
            names = head.schema.names
            name = _chosen(path, names, column)
        # an empty line is an empty cell where there is one column, and nothing where there are more
        parse = csv.ParseOptions(**form, ignore_empty_lines=len(names) > 1)
        # as text, whatever it looks like: 007 is not 7
        convert = csv.ConvertOptions(include_columns=[name], column_types={name: pyarrow.string()})
        with _unpacked(path, packed) as file, csv.open_csv(file, read, parse, convert) as table:
            for batch in table:
                yield from batch.column(0).to_pylist()


def _json_cells(path: Path, packed: bool, column: str | None) -> Cells:
    names: list[str] | None = None
    found = False
    with closing(_lines(path, packed)) as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path}, line {number}"
            with reading(where, says="is not JSON", advice="Each line must be a JSON object."):
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise FileError(f"{where} is not a JSON object. Each line must be one.")
                if names is None:
                    names = list(record)
                    column = _chosen(path, names, None) if column is None else column
                cell = record.get(column)
                found = found or column in record
                text = cell if cell is None or isinstance(cell, str) else str(cell)
            yield text
    if not found and names is not None:
        _chosen(path, names, column)


def _texts(cells: Any) -> list[str | None]:
    return [value if value is None or isinstance(value, str) else str(value) for value in cells.to_pylist()]


def _chosen(path: Path, names: list[str], column: str | None) -> str:
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if column is None:
        if len(names) != 1:
            raise OptionError(f"{path} has {len(names)} columns: name the one with the texts by --column ({listed}).")
        return names[0]
    if column not in names:
        raise OptionError(f"--column {column}: {path} has no such column. It has: {listed}.")
    if names.count(column) > 1:
        raise FileError(f"{path} has {names.count(column)} columns called {column}. Rename all but one.")
    return column

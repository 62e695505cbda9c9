"""The texts that belong to rows: lines of a file, or one column of a table."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

from cosmeans.errors import FileError, InputError, OptionError

_BLOCK = 1 << 26  # the longest line of a CSV file that Arrow takes
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


def given_texts(path: Path | None, n_rows: int, column: str | None) -> list[str] | None:
    """`read_texts` of a file that may not be given, and then is None; a column alone is an OptionError."""
    if path is not None:
        return read_texts(path, n_rows, column)
    if column is not None:
        raise OptionError(f"--column {column} names a column of a file, and no file of texts or classes was given.")
    return None


def read_texts(path: Path, n_rows: int, column: str | None = None) -> list[str]:
    """One text per row: a line of plain text, or a cell of a column. Text, CSV and JSON lines may be gzipped.

    column  of .csv, .tsv, .parquet, .jsonl, .ndjson; needed unless the table has only one. An empty cell is ""
    Raises FileError, InputError if there are not as many texts as rows, and OptionError for a column that isn't there.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind in _TABLES:
        texts = _cells(path, kind, column)
    elif column is not None:
        raise OptionError(f"--column {column}: {path} is read as plain lines. Columns are in {', '.join(_TABLES)}.")
    else:
        texts = _lines(path)
    if len(texts) != n_rows:
        what = "lines" if kind not in _TABLES else "rows"
        raise InputError(f"{path} has {len(texts)} {what}, the embeddings have {n_rows} rows; needed: one text a row.")
    return texts


def _lines(path: Path) -> list[str]:
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} can't be read as text ({error}). Needed: UTF-8 lines, plain or .gz.") from error
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError as error:
        raise FileError(f"No such file: {path}.") from error
    except (OSError, EOFError, ValueError) as error:
        raise FileError(f"{path} can't be read as text ({error}). Needed: UTF-8 lines, plain or .gz.") from error


def _cells(path: Path, kind: str, column: str | None) -> list[str]:
    import pyarrow

    read = {".parquet": _parquet_cells, ".csv": _csv_cells, ".tsv": _csv_cells}.get(kind, _json_cells)
    try:
        return ["" if value is None else str(value) for value in read(path, column)]
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"No such file: {path}.") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(f"{path} can't be read as {kind} ({str(error).splitlines()[0]}).") from error


def _parquet_cells(path: Path, column: str | None) -> list[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        name = _chosen(path, list(file.schema_arrow.names), column)
        return list(file.read(columns=[name]).column(name).to_pylist())


def _csv_cells(path: Path, column: str | None) -> list[Any]:
    import pyarrow
    from pyarrow import csv

    raw = _bytes(path)
    read = csv.ReadOptions(block_size=_BLOCK)
    parse = csv.ParseOptions(delimiter="\t" if ".tsv" in path.suffixes else ",", newlines_in_values=True)
    with csv.open_csv(io.BytesIO(raw), read, parse) as head:
        name = _chosen(path, head.schema.names, column)
    # as text, whatever it looks like: 007 is not 7
    convert = csv.ConvertOptions(include_columns=[name], column_types={name: pyarrow.string()})
    return list(csv.read_csv(io.BytesIO(raw), read, parse, convert).column(name).to_pylist())


def _json_cells(path: Path, column: str | None) -> list[Any]:
    cells, found = [], False
    for number, line in enumerate(_lines(path), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise FileError(f"{path}, line {number} is not JSON ({error}). Needed: one object a line.") from error
        if not isinstance(record, dict):
            raise FileError(f"{path}, line {number} is no JSON object. Needed: one object a line.")
        if column is None:
            column = _chosen(path, list(record), None)
        if number == 1:
            names = list(record)
        found = found or column in record
        cells.append(record.get(column))
    return cells if found else [_chosen(path, names, column)]


def _chosen(path: Path, names: list[str], column: str | None) -> str:
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if column is None:
        if len(names) != 1:
            raise OptionError(f"{path} has {len(names)} columns: name the one with the texts by --column ({listed}).")
        return names[0]
    if column not in names:
        raise OptionError(f"--column {column}: {path} has no such column. It has: {listed}.")
    return column

"""The formats of rows: which file is read by what. Messages and help name the formats from here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cosmeans.errors import FileError, OptionError
from cosmeans.rows.extras import needed
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.place import DATASET, Place
from cosmeans.rows.ranges import StoredArray
from cosmeans.rows.reader import Reader, Wanted
from cosmeans.rows.readers.array_files import ARRAY_FILES, open_array
from cosmeans.rows.readers.arrays import rows_of
from cosmeans.rows.suffixes import TABLE_SUFFIXES
from cosmeans.rows.table import Table
from cosmeans.rows.table_rows import TableRows
from cosmeans.rows.vector_column import VectorColumn

_OTHERS = (".h5", ".hdf5", ".hdf", ".zarr", ".fvecs", ".bvecs", ".fbin", ".f16bin", ".u8bin", ".i8bin")
_RAW = (".raw", ".bin", ".dat")
_JSON = ".json"  # JSON lines where a file of this name is given; folders are not searched for it: most hold settings
_PACKABLE = (".csv", ".tsv", ".jsonl", ".ndjson", _JSON)
FORMATS = (*ARRAY_FILES, *TABLE_SUFFIXES, *_OTHERS)
SUFFIXES = ", ".join((*FORMATS, _JSON, *_RAW))


def open_reader(place: Place, wanted: Wanted) -> Reader:
    """The rows of one file, or of a folder that is one data set; what its header says is checked, no rows are read.

    Raises FileError (missing, not a regular file, unreadable, damaged, unknown kind, or a library that is missing),
    OptionError for options that mean nothing here or are missing, and InputError or InputTypeError for what is not rows
    of numbers.
    """
    with place.reading():  # whatever a library raises for what it did not expect
        return _opened(place, wanted)


def _opened(place: Place, wanted: Wanted) -> Reader:
    suffix = place.kind()
    if suffix == DATASET:
        return _dataset(place, wanted)
    if wanted.shape is not None or (suffix in _RAW and wanted.dtype is not None):
        return _raw(place, wanted)
    if suffix in ARRAY_FILES:
        return _array(place, wanted)
    if suffix in TABLE_SUFFIXES or suffix == _JSON:
        return _table_rows(open_table(place), place, wanted)
    if suffix in _OTHERS:
        return _opener(suffix)(place, wanted)
    place.require()
    raw = ", raw numbers without shape and dtype" if suffix in _RAW else ""
    raise FileError(f"{place} has an unsupported file type ({suffix or 'no suffix'}{raw}). Supported: {SUFFIXES}.")


def open_table(place: Place) -> Table:
    """A file with columns, whichever of them is of interest. Raises FileError."""
    suffix = place.kind()
    if suffix not in TABLE_SUFFIXES and suffix != _JSON:
        raise FileError(f"{place} is not a table. Known: {', '.join((*TABLE_SUFFIXES, _JSON))}.")
    if place.packed and suffix not in _PACKABLE:
        raise FileError(f"{place}: only {', '.join(_PACKABLE)} are read as .gz. Unpack the file first (gunzip).")
    needed("pyarrow", place, "tables")
    with place.reading():
        return _table_of(suffix)(place)


def _table_of(suffix: str) -> Callable[[Place], Table]:
    """What opens a table. Readers, and their libraries, are loaded when a file asks for them."""
    match suffix:
        case ".parquet" | ".pq":
            from cosmeans.rows.readers.parquet import ParquetTable

            return ParquetTable
        case ".arrow" | ".feather" | ".ipc":
            from cosmeans.rows.readers.arrow import ArrowTable

            return ArrowTable
        case ".csv" | ".tsv":
            from cosmeans.rows.readers.csv import CsvTable

            return CsvTable
        case ".jsonl" | ".ndjson" | ".json":
            from cosmeans.rows.readers.json_lines import JsonLinesTable

            return JsonLinesTable
    from cosmeans.rows.readers.lance import LanceTable

    return LanceTable


def _opener(suffix: str) -> Callable[[Place, Wanted], Reader]:
    """What opens a file that is neither a table nor one of arrays."""
    match suffix:
        case ".zarr":
            from cosmeans.rows.readers.zarr import read_zarr

            return read_zarr
        case ".fvecs" | ".bvecs":
            from cosmeans.rows.readers.vecs import read_vecs

            return read_vecs
        case ".fbin" | ".f16bin" | ".u8bin" | ".i8bin":
            from cosmeans.rows.readers.vecs import read_bin

            return read_bin
    from cosmeans.rows.readers.hdf5 import read_hdf5

    return read_hdf5


def _table_rows(table: Table, place: Place, wanted: Wanted) -> TableRows:
    wanted.refuse(place, "a table", shape="says how many rows it has", key="has columns (embedding)")
    return TableRows(table, VectorColumn(place.name, table.schema, wanted.embedding, wanted.dtype))


def _array(place: Place, wanted: Wanted) -> Reader:
    kind = f"a {place.suffix} file"
    wanted.refuse(place, kind, shape="says how many rows it has", embedding="has no columns (key names an array)")
    array = open_array(place, wanted.key)
    if wanted.dtype is not None:
        array = array if isinstance(array, StoredArray) else np.asarray(array)
        if wanted.dtype != "float16" or array.dtype != np.uint16:
            wanted.refuse(place, f"{kind} of {array.dtype}", dtype="says what its numbers are")
        array = array.view(np.float16)
    return rows_of(place, array, mapped=place.suffix != ".npz" and not place.remote)


def _raw(place: Place, wanted: Wanted) -> Reader:
    from cosmeans.rows.readers.vecs import read_raw

    if place.suffix in FORMATS:
        wanted.refuse(place, f"a {place.suffix} file", shape="says how many rows it has")
    if wanted.shape is None or wanted.dtype is None:
        raise OptionError(f"{place} is read as raw numbers, which needs both shape (N, D) and dtype.")
    wanted.refuse(place, "a raw file", key="holds one array", embedding="holds one array")
    return read_raw(place, wanted)


def _dataset(place: Place, wanted: Wanted) -> Reader:
    """Rows of a data set that `datasets` saved, by its indices mapping where it has one."""
    from cosmeans.rows.readers.arrow import ArrowTable, IndexedRows, dataset_files, read_indices

    needed("pyarrow", place, "tables")
    data, mapping = dataset_files(place)
    tables = [_table_rows(ArrowTable(file), file, wanted) for file in data]
    joined = JoinedRows(tables, place.name)
    return IndexedRows(joined, read_indices(mapping)) if mapping else joined

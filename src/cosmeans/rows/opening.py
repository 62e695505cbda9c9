"""`open_rows`: files of any known kind as rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat

from cosmeans.calls import public
from cosmeans.choices import FileOrder
from cosmeans.errors import FileError, InputError
from cosmeans.rows.files import FileRows
from cosmeans.rows.formats import FORMATS, open_reader
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.paths import find_files
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Reader, Wanted

_AT_ONCE = 16  # files behind URLs that are opened
Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]


@public
def open_rows(
    paths: Paths,
    embedding: str | None = None,
    order: FileOrder = "path",
    dtype: str | None = None,
    shape: tuple[int, int] | None = None,
    key: str | None = None,
    id_column: str | None = None,
    weight_column: str | None = None,
) -> FileRows:
    """Rows (N, D) of files, to be passed wherever rows are. They are read batch by batch, and may exceed the memory.

    Headers are checked here, rows when they are read. Raises FileError, OptionError, InputError, InputTypeError.

    Parameters
    ----------
    paths
        A file, a folder, a pattern (`emb/*.parquet`), or a list of them: rows are numbered in their order; paths, or
        URLs as strings (s3://, gs://, hf://, https:// and whatever fsspec knows).
    embedding
        The column of a table, or the data set of an HDF5 file or zarr group, that holds the vectors; needed only where
        there are several.
    order
        "path" or "natural": how the files of a folder or a pattern are sorted, by the bytes of their paths or by the
        numbers in them.
    dtype
        Of raw numbers without a header; "float16" also for bits of float16 in unsigned 16-bit integers.
    shape
        (N, D) of raw numbers without a header.
    key
        The array, for files that hold several (.npz, .pt, .safetensors).
    id_column
        A column that names the rows; it is carried to tables of results.
    weight_column
        A column of nonnegative weights, taken where none are passed.

    Examples
    --------
    >>> import numpy as np, cosmeans
    >>> np.save("embeddings.npy", np.eye(4, 3, dtype=np.float32) + 1)
    >>> rows = cosmeans.open_rows("embeddings.npy")
    >>> rows.n_rows, rows.n_features
    (4, 3)
    >>> cosmeans.KMeans(2, verbose=0).fit(rows).labels_.shape
    (4,)
    """
    wanted = Wanted(embedding, key, dtype, shape)
    files = find_files(paths, order, FORMATS)
    readers = open_readers(files, wanted)
    # what another process opens, maybe in another folder: each file by its name, whatever is in a folder by then
    names: Paths = [file.address if file.remote else os.path.abspath(file.name) for file in files]
    reopen = partial(open_rows, names, embedding, order, dtype, shape, key, id_column, weight_column)
    rows = FileRows(JoinedRows(readers, readers[0].name), reopen, id_column, weight_column, wanted, files)
    if rows.n_rows == 0:
        others = " and the others" if len(readers) > 1 else ""
        raise FileError(f"{rows.names[0]}{others}: no rows. Pass files with rows.")
    return rows


def open_readers(files: Sequence[Place], wanted: Wanted) -> list[Reader]:
    """What reads each file, in order; their headers are checked. Raises as `open_rows` does."""
    if wanted.shape is not None and len(files) > 1:
        raise InputError(f"shape={wanted.shape} is that of one file, and {len(files)} are given. Open them one by one.")
    if not any(file.remote for file in files):
        return [open_reader(file, wanted) for file in files]
    with ThreadPoolExecutor(_AT_ONCE) as threads:  # each waits for a network
        return list(threads.map(open_reader, files, repeat(wanted)))

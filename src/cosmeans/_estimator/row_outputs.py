"""Where results are that are as long as the rows: in memory, or for many rows of files in a file that is mapped."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans._estimator.inputs import Kind
from cosmeans.contracts import RowSource
from cosmeans.errors import OutputExistsError, WriteError
from cosmeans.label_files.naming import LABELS, SIMILARITY
from cosmeans.reading import size_words
from cosmeans.rows.files import FileRows
from cosmeans.system_errors import write_error

LEAST_BYTES = 64 << 20  # of labels and similarity together, from which on they are mapped
_ROW_BYTES = 16  # int64 and float64
_STEP = 1 << 20  # rows, or bytes, that are written at once


class RowOutputs:
    """Labels and cosines of N rows. mapped: whether they are mapped from a file."""

    def __init__(self, labels: np.ndarray | None = None, cosines: np.ndarray | None = None) -> None:
        self._labels, self._cosines, self.mapped = labels, cosines, labels is not None

    def labels(self, found: Tensor, kind: Kind) -> Any:
        """Labels (N,) int32 as results, int64."""
        if self._labels is None:
            return kind.out(found.to(torch.int64))
        return _stored(found, self._labels, kind)

    def cosines(self, scores: Tensor, kind: Kind) -> Any:
        """Scores (N,) float64 as results, clipped in place."""
        if self._cosines is None:
            return kind.cosines(scores)
        return _stored(sphere.clipped(scores), self._cosines, kind)


@contextmanager
def row_outputs(source: RowSource, folder: str | os.PathLike[str] | None) -> Iterator[RowOutputs]:
    """Room for the results of a fit, found before the fit. Rows in memory take more of it than their results.

    folder  where the files are mapped from, by the names `_labels.npy` and `_similarity.npy`; None: a file without a
            name in the system's folder for temporary files, which is gone with the last that maps it

    Raises WriteError where the disk has no room.
    """
    n_rows, place = source.n_rows, None if folder is None else Path(folder)
    if not isinstance(source, FileRows) or n_rows * _ROW_BYTES < LEAST_BYTES:
        yield RowOutputs()
        return
    with ExitStack() as undo:
        labels = _new_array(place, LABELS, np.dtype(np.int64), n_rows, undo)
        cosines = _new_array(place, SIMILARITY, np.dtype(np.float64), n_rows, undo)
        yield RowOutputs(labels, cosines)
        undo.pop_all()


@contextmanager
def label_array(n_rows: int, folder: Path) -> Iterator[np.ndarray]:
    """An array (n_rows,) int64 to fill: in memory, or where there are many mapped from `_labels.npy` in the folder."""
    if n_rows * _ROW_BYTES < LEAST_BYTES:
        yield np.empty(n_rows, np.int64)
        return
    with ExitStack() as undo:
        with suppress(FileNotFoundError):
            (folder / LABELS).unlink()  # of an earlier run; who has mapped it keeps it
        yield _new_array(folder, LABELS, np.dtype(np.int64), n_rows, undo)
        undo.pop_all()


def _new_array(folder: Path | None, name: str, dtype: np.dtype, n_rows: int, undo: ExitStack) -> np.ndarray:
    """A new array, mapped from a .npy file for which the disk has room. undo: removes the file.

    Raises OutputExistsError if a file has this name already, WriteError.
    """
    if folder is None:
        with tempfile.TemporaryFile() as file:
            try:
                return map_npy(file, dtype, (n_rows,))
            except OSError as error:
                raise WriteError(
                    f"Labels and similarity of so many rows take {size_words(n_rows * _ROW_BYTES)} of a disk, and "
                    f"{tempfile.gettempdir()} refuses them ({error.strerror}). Name a folder on another disk with "
                    "labels_out, or by the environment variable TMPDIR."
                ) from error
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x+b") as file:
            undo.callback(_remove, path)
            return map_npy(file, dtype, (n_rows,))
    except FileExistsError as error:
        raise OutputExistsError(f"{path} already exists. Choose another folder, or remove the file.") from error
    except OSError as error:
        raise write_error(path, error) from error


def map_npy(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A new array in an empty file, as NumPy stores arrays. Raises OSError where the disk has no room."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    start = file.tell()
    _reserve(file, start + int(np.prod(shape)) * dtype.itemsize)
    return np.memmap(file, dtype, "r+", start, shape)


def _reserve(file: BinaryIO, size: int) -> None:
    """Take the room on the disk: a mapped file that outgrows its disk ends the process."""
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, size)
        return
    except AttributeError:  # not a system that can
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that can't
            raise
    for start in range(file.tell(), size, _STEP):
        file.write(bytes(min(_STEP, size - start)))
    file.flush()


def _stored(values: Tensor, into: np.ndarray, kind: Kind) -> Any:
    for start in range(0, len(into), _STEP):
        into[start : start + _STEP] = values[start : start + _STEP].cpu().numpy()
    return given_out(into, kind)


def given_out(values: np.ndarray, kind: Kind) -> Any:
    """As results: a tensor on the host, or an array that nobody writes to."""
    if kind.tensor:
        return torch.from_numpy(values)
    values.flags.writeable = False
    return values


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # if nothing else is there

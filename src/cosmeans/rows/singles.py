"""Rows of one length in a file of their own: mapped to be read in sequence, single ones read by calls of the system.

A map reads far more around a row than the row, whatever the system is told, and takes longer for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from cosmeans.errors import FileError
from cosmeans.rows.reader import scattered

_SINGLES = hasattr(os, "preadv")


class StoredRows:
    """Rows (N, D) that a file holds, one after another. The file may lose its name, but not its contents.

    The first `n_kept` rows stay in memory once `read` has asked for them, and are not read again.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], n_features: int, singly: bool = _SINGLES, n_kept: int = 0
    ) -> None:
        """singly: whether the system has calls for it; else all rows come from the map."""
        self._path, self._singly = path, singly
        self._file = path.open("rb", buffering=0)
        finalize(self, self._file.close)
        self.rows: np.ndarray = np.memmap(path, dtype, "r").reshape(-1, n_features)
        if hasattr(os, "posix_fadvise"):  # of this file object alone, not of the map
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        self._kept, self._n_there = np.empty((n_kept, n_features), dtype), 0

    @property
    def n_bytes_there(self) -> int:
        """Bytes of the rows that are in memory by now."""
        return int(self._kept[: self._n_there].nbytes)

    def read(self, span: slice) -> np.ndarray:
        """Consecutive rows; may be a view, never written to."""
        there, end = self._n_there, min(span.stop, len(self._kept))
        if span.start <= there < end:
            self._kept[there:end] = self.rows[there:end]
            self._n_there = there = end
        if span.start < there < span.stop:
            return np.concatenate([self._kept[span.start : there], self.rows[there : span.stop]])
        rows: np.ndarray = (self._kept if span.stop <= there else self.rows)[span]
        return rows

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Rows by index, (len(indices), D)."""
        here = indices < self._n_there
        if not here.any():
            return self._from_file(indices)
        out = np.empty((len(indices), self.rows.shape[1]), self.rows.dtype)
        out[here], out[~here] = self._kept[indices[here]], self._from_file(indices[~here])
        return out

    def _from_file(self, indices: np.ndarray) -> np.ndarray:
        if not self._singly or not scattered(indices):
            found: np.ndarray = self.rows[indices]
            return found
        out = np.empty((len(indices), self.rows.shape[1]), self.rows.dtype)
        into, row_bytes = out.reshape(-1).view(np.uint8).data, out[0].nbytes
        starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 2) != 1)  # rows that follow one another at once
        stops = np.append(starts[1:], len(indices))
        for start, stop, row in zip(starts.tolist(), stops.tolist(), indices[starts].tolist(), strict=True):
            self._read(into[start * row_bytes : stop * row_bytes], row * row_bytes)
        return out

    def _read(self, into: memoryview, offset: int) -> None:
        while len(into):
            n_read = os.preadv(self._file.fileno(), [into], offset)
            if not n_read:
                raise FileError(f"{self._path} has become shorter while it was read. Run the command again.")
            into, offset = into[n_read:], offset + n_read

"""What is in the files of a copy: rows as they were, or float32 rows in halves (`rows.narrow`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import held
from cosmeans.rows.narrow import joined, split
from cosmeans.rows.singles import StoredRows

_INDEX = np.dtype([("end", np.int64), ("lost", np.float32)])
_LISTED = np.dtype([("column", np.int32), ("bits", np.int32)])


class Layout(Protocol):
    """How rows become files, one piece after another, and rows again once all files are there.

    suffixes  of the files. narrow: whether it has heads, in half of the bytes
    """

    suffixes: Sequence[str]
    narrow: bool

    def __init__(self, n_features: int, dtype: torch.dtype) -> None: ...

    def pieces(self, rows: Tensor) -> list[memoryview]:
        """What each file gets for the rows that come next."""

    def map(self, paths: Sequence[Path], n_rows: int) -> None:
        """Map the files, which are complete."""

    def read(self, span: slice) -> Tensor:
        """Rows as they were, (B, D)."""

    def gather(self, indices: Tensor) -> Tensor:
        """Rows by index, as they were; the system is told not to read those around them."""


class WholeRows:
    """NAME.rows: rows as they are stored, one after another."""

    suffixes: Sequence[str] = (".rows",)
    narrow = False

    def __init__(self, n_features: int, dtype: torch.dtype) -> None:
        self._row_bytes, self._dtype = n_features * dtype.itemsize, dtype

    def pieces(self, rows: Tensor) -> list[memoryview]:
        return [rows.contiguous().view(torch.uint8).numpy().data]

    def map(self, paths: Sequence[Path], n_rows: int) -> None:
        self._stored = StoredRows(paths[0], np.dtype(np.uint8), self._row_bytes)
        self._rows = held(self._stored.rows).view(self._dtype)

    def read(self, span: slice) -> Tensor:
        return self._rows[span]

    def gather(self, indices: Tensor) -> Tensor:
        if not len(indices):
            return self._rows[:0]
        return torch.from_numpy(self._stored.gather(indices.numpy())).view(self._dtype)


class HalvedRows:
    """float32 rows in halves, whose first is read alone where that is enough.

    NAME.heads   (N, D) float16
    NAME.tails   (N, D) int16
    NAME.index   (N,) records: how many entries are listed up to the end of the row, int64; what it lost, float32
    NAME.listed  records: column, int32; the bits of the entry, int32

    n_kept  how many heads stay in memory once they are read; to be set before the files are mapped
    """

    suffixes: Sequence[str] = (".heads", ".tails", ".index", ".listed")
    narrow = True

    def __init__(self, n_features: int, dtype: torch.dtype) -> None:
        assert dtype is torch.float32
        self._n_features, self._end, self.n_kept = n_features, 0, 0

    @property
    def n_bytes_kept(self) -> int:
        """Bytes of the heads that stay in memory."""
        return 2 * self._n_features * self.n_kept

    @property
    def n_bytes_there(self) -> int:
        """Bytes of the heads that are in memory by now."""
        return self._heads.n_bytes_there

    def pieces(self, rows: Tensor) -> list[memoryview]:
        halves = split(rows.numpy())
        index, listed = np.empty(len(rows), _INDEX), np.empty(len(halves.bits), _LISTED)
        index["end"], index["lost"] = self._end + halves.listed.cumsum(), halves.lost
        listed["column"], listed["bits"] = halves.column, halves.bits
        self._end += len(listed)
        arrays: list[np.ndarray] = [halves.heads, halves.tails, index, listed]
        return [array.reshape(-1).view(np.uint8).data for array in arrays]

    def map(self, paths: Sequence[Path], n_rows: int) -> None:
        self._heads = StoredRows(paths[0], np.dtype(np.float16), self._n_features, n_kept=self.n_kept)
        self._tails = StoredRows(paths[1], np.dtype(np.int16), self._n_features)
        self._index, self._listed = _mapped(paths[2], _INDEX), _mapped(paths[3], _LISTED)

    def heads(self, span: slice) -> tuple[Tensor, Tensor]:
        """Heads (B, D) float16 and what they lost, (B,) float32."""
        return held(self._heads.read(span)), torch.from_numpy(self._index["lost"][span].copy())

    def joined(self, heads: Tensor, indices: Tensor) -> Tensor:
        """The rows that have these heads: tails are fetched alone."""
        wanted = indices.numpy()
        return self._completed(joined(heads.numpy(), self._tails.gather(wanted)), wanted)

    def read(self, span: slice) -> Tensor:
        rows = joined(self._heads.read(span), self._tails.read(span))
        return self._completed(rows, np.arange(span.start, span.stop))

    def gather(self, indices: Tensor) -> Tensor:
        return self.joined(held(self._heads.gather(indices.numpy())), indices)

    def _completed(self, rows: np.ndarray, wanted: np.ndarray) -> Tensor:
        """Write the entries that are listed into the rows of these indices."""
        ends = self._index["end"]
        first = np.where(wanted > 0, ends[np.maximum(wanted - 1, 0)], 0)
        counts = ends[wanted] - first
        total = int(counts.sum())
        if total:
            at = np.repeat(np.arange(len(wanted)), counts)
            listed = self._listed[np.arange(total) + np.repeat(first - (counts.cumsum() - counts), counts)]
            rows.view(np.int32)[at, listed["column"]] = listed["bits"]
        return torch.from_numpy(rows)


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """All that a file holds; an empty one can't be mapped."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    mapped: np.ndarray = np.memmap(path, dtype, "r")
    return mapped

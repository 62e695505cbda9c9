"""The rows of a table: one of its columns, decoded in order."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from itertools import accumulate
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from cosmeans.errors import InputError
from cosmeans.reading import damaged
from cosmeans.rows.table import Table, validated
from cosmeans.rows.vector_column import VectorColumn


class TableRows:
    """`rows.reader.Reader` over a table. Reading on where the last read ended decodes nothing twice."""

    mapped = False

    def __init__(self, table: Table, vectors: VectorColumn) -> None:
        self.table, self.name, self.vectors = table, table.name, vectors
        self._lock, self._position, self._rest = Lock(), -1, _nothing()
        self._left: np.ndarray | None = None  # rows that were decoded with the last ones that were asked for
        if vectors.width is None:
            self._find_width()
        self.n_features, self.dtype = vectors.width, vectors.dtype

    @cached_property
    def _first(self) -> np.ndarray:
        """The first row of each group, and the end, (groups + 1,)."""
        return np.array([0, *accumulate(self.table.groups)], np.int64)

    @property
    def n_rows(self) -> int:
        """Counted by reading the file, where that is the only way (`Table.counted`)."""
        return int(self._first[-1])

    @property
    def n_bytes(self) -> int:
        return self.n_rows * (self.n_features or 0) * self.dtype.itemsize

    def read(self, start: int, stop: int) -> Tensor:
        with self._lock:
            if start != self._position:
                self._rest.close()
                self._rest, self._left = self._arrays_from(start), None
            self._position = -1  # should decoding fail, nothing is known of where it is
            found = np.empty((stop - start, self.n_features or 0), self.vectors.array_dtype)
            done = 0
            while done < len(found):
                part = next(self._rest, None) if self._left is None else self._left
                if part is None:
                    raise damaged(self.name, f"it declares {self.n_rows:,} rows and holds fewer")
                taken = part[: len(found) - done]
                self._left = part[len(taken) :] if len(taken) < len(part) else None
                found[done : done + len(taken)] = taken
                done += len(taken)
            self._position = stop
        return torch.from_numpy(found)

    def gather(self, indices: np.ndarray) -> Tensor:
        """Every group that holds one of the rows is decoded once, up to the last of them."""
        found = np.empty((len(indices), self.n_features or 0), self.vectors.array_dtype)
        order = np.argsort(indices, kind="stable")
        wanted = indices[order]
        done = 0
        while done < len(wanted):
            group = int(np.searchsorted(self._first, wanted[done], "right")) - 1
            end = int(np.searchsorted(wanted, self._first[group + 1]))
            done = self._pick(found, order, wanted, done, end, group)
        return torch.from_numpy(found)

    def _pick(self, into: np.ndarray, order: np.ndarray, wanted: np.ndarray, done: int, end: int, group: int) -> int:
        """Rows wanted[done:end] of one group, to where they belong. Returns how many are done."""
        start = int(self._first[group])
        arrays = self._arrays(group)
        for array in arrays:
            stop = int(np.searchsorted(wanted, start + len(array)))
            stop = min(stop, end)
            into[order[done:stop]] = array[wanted[done:stop] - start]
            done, start = stop, start + len(array)
            if done == end:
                break
        else:
            raise damaged(self.name, f"it declares {self.n_rows:,} rows and holds fewer")
        arrays.close()
        return done

    def _arrays(self, group: int) -> Generator[np.ndarray, None, None]:
        start = int(self._first[group]) if group else 0
        for batch in validated(self.table, group, self.vectors.names):
            yield self.vectors.rows(batch, start)
            start += batch.num_rows

    def _arrays_from(self, start: int) -> Generator[np.ndarray, None, None]:
        """The vectors from this row on, in pieces."""
        group = max(0, min(int(np.searchsorted(self._first, start, "right")) - 1, len(self._first) - 2))
        skipped = start - int(self._first[group])
        for array in self._arrays(group):
            if skipped < len(array):
                yield array[skipped:]
            skipped = max(0, skipped - len(array))

    def _find_width(self) -> None:
        """By the footer or the first lines, where they tell; else decode until a row says how long the vectors are."""
        name = self.vectors.names[0]
        self.vectors.width = getattr(self.table, "width", _unknown)(name) or None
        if self.vectors.width:
            return
        values, nulls = getattr(self.table, "values", _unknown)(name) or (0, 1)
        told = nulls == 0 and self.n_rows > 0
        if told and values % self.n_rows == 0:
            self.vectors.width = values // self.n_rows
            return
        for array in self._arrays(0):
            if array.shape[1] and not told:  # lists of several lengths are decoded up to the first that is odd
                return
        if told:
            raise damaged(self.name, f"its footer says {values:,} numbers in {self.n_rows:,} rows of column {name!r}")
        if self.n_rows:
            raise InputError(f"{self.name}: all {self.n_rows:,} rows of column {name!r} are null or "
                             "empty. Name another column with embedding (--embedding).")  # fmt: skip


def _unknown(name: str) -> None:
    return None


def _nothing() -> Generator[np.ndarray, None, None]:
    yield from ()

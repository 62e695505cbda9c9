"""The rows of several files, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import as_type, joined_rows, joined_type
from cosmeans.errors import InputError, OptionError
from cosmeans.reading import reading
from cosmeans.rows.reader import Reader
from cosmeans.rows.table import Table


def one_width(readers: Sequence[Reader]) -> int | None:
    """D, which all of them must have; raises InputError for the first of another."""
    first = readers[0]
    for reader in readers:
        if reader.n_features != first.n_features:
            raise InputError(
                f"{reader.name} has rows of {reader.n_features} numbers, {first.name} has rows of "
                f"{first.n_features}. Pass files of one embedding."
            )
    return first.n_features


class JoinedRows:
    """`rows.reader.Reader` over others. Files without rows are passed over."""

    def __init__(self, readers: Sequence[Reader], name: str) -> None:
        """readers: at least one. name: for messages."""
        self.name, self._all = name, list(readers)
        self._readers = [reader for reader in readers if reader.n_rows] or self._all[:1]
        self.n_features = one_width(self._readers)
        self._first = np.cumsum([0, *(reader.n_rows for reader in self._readers)])
        self.n_rows = int(self._first[-1])
        self.dtype = joined_type(reader.dtype for reader in self._readers)
        self.n_bytes = self.n_rows * (self.n_features or 0) * self.dtype.itemsize
        self.tensor = all(getattr(reader, "tensor", False) for reader in self._readers)
        self.mapped = all(reader.mapped for reader in self._readers)
        self.one_view = self.mapped and len(self._readers) == 1

    @property
    def names(self) -> list[str]:
        """The files, in order."""
        return [reader.name for reader in self._all]

    @property
    def readers(self) -> list[Reader]:
        """What reads each file, in order."""
        return self._all

    def read(self, start: int, stop: int) -> Tensor:
        file = int(np.searchsorted(self._first, start, "right")) - 1
        parts = []
        while start < stop:
            first, end = int(self._first[file]), int(self._first[file + 1])
            with reading(self._readers[file].name):
                parts.append(as_type(self._readers[file].read(start - first, min(stop, end) - first), self.dtype))
            start, file = min(stop, end), file + 1
        if not parts:
            return torch.empty((0, self.n_features or 0), dtype=self.dtype, device="cpu")
        return parts[0] if len(parts) == 1 else joined_rows(parts)

    def gather(self, indices: np.ndarray) -> Tensor:
        if len(self._readers) == 1:
            with reading(self._readers[0].name):
                return self._readers[0].gather(indices)
        found = torch.empty((len(indices), self.n_features or 0), dtype=self.dtype, device="cpu")
        files = np.searchsorted(self._first, indices, "right") - 1
        for file in np.unique(files).tolist():
            here = np.flatnonzero(files == file)
            with reading(self._readers[file].name):
                rows = self._readers[file].gather(indices[here] - self._first[file])
            found[torch.from_numpy(here)] = as_type(rows, self.dtype)
        return found

    def where(self, row: int) -> str:
        """A row in words: which of which file, if there are several."""
        if len(self._all) == 1:
            return f"row {row}"
        file = int(np.searchsorted(self._first, row, "right")) - 1
        return f"row {row} ({self._readers[file].name}, row {row - int(self._first[file])})"

    @property
    def tables(self) -> list[Table]:
        """The files, where all of them have columns; raises OptionError for one that has none."""
        return [table for reader in self._readers for table in tables_of(reader)]


def tables_of(reader: Reader) -> list[Table]:
    """The files of a reader, where they have columns; raises OptionError where one has none."""
    nested = getattr(reader, "tables", None)
    table = getattr(reader, "table", None)
    if nested is None and table is None:
        raise OptionError(f"{reader.name} has no columns besides its rows. Remove the names of columns.")
    return nested or [table]

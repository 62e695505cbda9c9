"""What a format of rows must answer: the rows of one file in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cosmeans.errors import OptionError

_DENSE = 0.05  # of the rows between two: with fewer of them, single ones are read


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller says of files.

    embedding  the column of a table, or the data set of an HDF5 file or zarr group, that holds the vectors
    key        which array, where a file holds several
    dtype      how numbers are stored, where the file does not say it: raw files, and bits of float16 in uint16
    shape      (N, D) of raw files
    """

    embedding: str | None = None
    key: str | None = None
    dtype: str | None = None
    shape: tuple[int, int] | None = None

    @property
    def name(self) -> str | None:
        """The array or data set asked for, by either word."""
        return self.key if self.embedding is None else self.embedding

    def refuse(self, path: object, kind: str, **unfit: str) -> None:
        """Raise OptionError for options that mean nothing here. unfit: of each, what this kind of file does instead."""
        for option, instead in unfit.items():
            value = getattr(self, option)
            if value is not None:
                raise OptionError(f"{option}={value!r}: {path} is {kind}, which {instead}. Remove the {option}.")


class Reader(Protocol):
    """The rows of one file. Any thread may ask."""

    name: str
    """The file, as the caller knows it."""
    dtype: torch.dtype
    """Of what `read` and `gather` return: a type that torch computes with."""
    mapped: bool
    """Whether rows are views of memory that is mapped from the file, so that any of them costs its own pages only."""

    @property
    def n_rows(self) -> int:
        """N; to be told it may take reading the whole file, of formats that don't say it."""

    @property
    def n_bytes(self) -> int:
        """Of all rows in `dtype`."""

    @property
    def n_features(self) -> int | None:
        """D; None: a table without rows, which does not say how long its vectors are."""

    def read(self, start: int, stop: int) -> Tensor:
        """Consecutive rows, (stop - start, D); may be a view, never written to."""

    def gather(self, indices: np.ndarray) -> Tensor:
        """Rows by index, in any order, (len(indices), D)."""


def gather_by_chunks(reader: Reader, indices: np.ndarray, chunk: int) -> Tensor:
    """Rows by index, of a reader that reads `chunk` rows at once: each chunk that holds one of them is read once."""
    found = torch.empty((len(indices), reader.n_features or 0), dtype=reader.dtype, device="cpu")
    chunks = indices // chunk
    for number in np.unique(chunks).tolist():
        here = np.flatnonzero(chunks == number)
        start = number * chunk
        rows = reader.read(start, min(reader.n_rows, start + chunk))
        found[torch.from_numpy(here)] = rows[torch.from_numpy(indices[here] - start)]
    return found


def scattered(indices: np.ndarray) -> bool:
    """Whether these rows are few of those between the first and the last, so that to read ahead costs more."""
    return len(indices) > 0 and len(indices) < _DENSE * (int(indices.max()) - int(indices.min()) + 1)

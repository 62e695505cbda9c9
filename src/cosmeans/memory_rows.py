"""Rows in memory, or in a file mapped into it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans.containers.converted import ConvertedRows, Rows, floating
from cosmeans.contracts import RowSource


class MemoryRows:
    """The rows of one tensor, or of an array that is converted batch by batch (`containers.converted`)."""

    def __init__(self, rows: Rows, where: Callable[[int], str] = "row {}".format) -> None:
        """where: a row in words, for messages; that of the source that the rows were read from knows their files."""
        self._rows, self.where = rows, where
        self.n_rows, self.n_features = rows.shape
        self.n_direct = self.n_rows
        self.converts = isinstance(rows, ConvertedRows)  # each batch, in every pass
        self.n_bytes, self.dtype, self.device = rows.nbytes, rows.dtype, rows.device

    def read(self, span: slice) -> Tensor:
        return self._rows[span]

    def view(self) -> Tensor:
        return self._rows[:]

    def gather(self, indices: Tensor) -> Tensor:
        return self._rows[indices]

    def part(self, indices: Tensor) -> None:
        return None

    def hold_none(self) -> None:
        """They belong to the caller."""


def whole(source: RowSource) -> Tensor:
    """All rows at once, as they are stored."""
    return source.read(slice(0, source.n_rows))


def on_device(source: RowSource, device: torch.device) -> RowSource:
    """The rows on a device: the source itself where they are there already, else all of them, sent at once."""
    if source.device == device:
        return source
    return MemoryRows(floating(whole(source)).to(device), source.where)

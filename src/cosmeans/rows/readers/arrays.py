"""Rows of one array, in memory or mapped from a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from cosmeans.containers.converted import ConvertedRows, Rows
from cosmeans.containers.read import read_numbers
from cosmeans.errors import FileError, InputError


class ArrayRows:
    """An array or tensor (N, D); what torch can't hold as it is stored is converted piece by piece."""

    def __init__(self, name: str, array: np.ndarray | Tensor, mapped: bool) -> None:
        refuse_far_apart(array)
        rows, _ = read_numbers(array, name)
        if rows.ndim != 2:
            raise InputError(f"{name} holds an array of shape {tuple(rows.shape)}; needed: rows of shape (N, D).")
        self._rows: Rows = rows
        self.tensor = isinstance(array, Tensor)
        self.name, self.mapped = name, mapped and not isinstance(rows, ConvertedRows)
        self.n_rows, self.n_features = rows.shape
        self.dtype, self.n_bytes = rows.dtype, rows.nbytes

    def read(self, start: int, stop: int) -> Tensor:
        return self._rows[start:stop]

    def gather(self, indices: np.ndarray) -> Tensor:
        return self._rows[torch.from_numpy(indices)]


def refuse_far_apart(X: Any) -> None:
    """Raise for a mapped file stored column by column that memory can't hold: each batch would read the whole file."""
    if not isinstance(X, np.memmap) or X.ndim != 2 or X.flags.c_contiguous or abs(X.strides[1]) <= abs(X.strides[0]):
        return
    if X.nbytes > psutil.virtual_memory().available // 2:
        name = X.filename or "the file"
        raise FileError(
            f"{name} is stored column by column (Fortran order) and takes {X.nbytes / 2**30:.1f} GiB: each batch would "
            'read all of it. Write it row by row once, with x = np.load(path, mmap_mode="r"): '
            'np.lib.format.open_memmap("rows.npy", "w+", x.dtype, x.shape)[:] = x.'
        )

"""Arrays in files that can't be mapped: their rows are read by ranges of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import held
from cosmeans.reading import require_memory


class StoredArray:
    """What a memory map is for a file on a disk: shape, dtype, and pieces of it that are read when asked for.

    shape, dtype (of NumPy or torch), ndim: as of an array
    """

    def __init__(
        self, name: str, read: Callable[[int, int], bytes], offset: int, dtype: Any, shape: tuple[int, ...]
    ) -> None:
        """name: for messages. read: bytes of the file by start and length."""
        self.name, self.shape, self.ndim = name, shape, len(shape)
        self.dtype: Any = dtype if isinstance(dtype, torch.dtype) else np.dtype(dtype)
        self._read, self._offset = read, offset
        self.nbytes = math.prod(shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray | Tensor:
        """Consecutive entries along the first dimension."""
        start, stop, _ = rows.indices(self.shape[0])
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(0, stop - start), *self.shape[1:])
        data = self._read(self._offset + start * row_bytes, shape[0] * row_bytes)
        if isinstance(self.dtype, torch.dtype):
            return held(np.frombuffer(data, np.uint8)).view(self.dtype).reshape(shape)
        return np.frombuffer(data, self.dtype).reshape(shape)

    def whole(self) -> np.ndarray | Tensor:
        """All of it in memory. Raises FileError if there is no room."""
        require_memory(self.name, self.nbytes, "holds")
        return self[:] if self.ndim else self.of(self.dtype, (1,))[:].reshape(())

    def view(self, dtype: Any) -> StoredArray:
        """The same bits as numbers of another type of the same size."""
        return self.of(dtype, self.shape)

    def of(self, dtype: Any, shape: tuple[int, ...]) -> StoredArray:
        """The same bytes as an array of another type and shape."""
        return StoredArray(self.name, self._read, self._offset, dtype, shape)

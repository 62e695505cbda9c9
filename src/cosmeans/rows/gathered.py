"""Some rows of files, gathered in one reading, to be read many times: in memory, or in a file without a name."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import held
from cosmeans.contracts import RowSource
from cosmeans.errors import WriteError
from cosmeans.reading import size_words

_BLOCK_BYTES = 16 << 20  # that are read at once


def gather_once(source: RowSource, indices: Tensor, room: int) -> Tensor:
    """These rows (S, D), in order of the indices, which ascend. The source is read at most once, from front to back.

    room: bytes; what takes more goes to a temporary file, which is mapped. Raises WriteError if the disk refuses it.
    """
    shape = (len(indices), source.n_features)
    row_bytes = max(1, source.n_features * source.dtype.itemsize)
    parts = _parts(source, indices.cpu(), max(1, _BLOCK_BYTES // row_bytes))
    if len(indices) * row_bytes <= room:
        rows, done = torch.empty(shape, dtype=source.dtype, device="cpu"), 0
        for part in parts:
            rows[done : done + len(part)] = part
            done += len(part)
        return rows
    try:
        with tempfile.TemporaryFile(prefix="cosmeans-") as file:  # written, not mapped: a full disk is an error then
            for part in parts:
                file.write(part.contiguous().view(torch.uint8).numpy().data)
            file.flush()
            stored: np.ndarray = np.memmap(file, np.uint8, "r", shape=(len(indices) * row_bytes,))
    except OSError as error:
        raise WriteError(
            f"{tempfile.gettempdir()}: no room for the {size_words(len(indices) * row_bytes)} of rows that a start "
            f"samples ({error.strerror}). Free some, name another folder by TMPDIR, raise memory_limit, or pass "
            'init="random".'
        ) from error
    return held(stored).view(source.dtype).reshape(shape)


def _parts(source: RowSource, indices: Tensor, step: int) -> Any:
    """Rows by index, some at a time. Where single ones are dear, all rows are read, and these picked."""
    if source.n_direct == source.n_rows:
        for some in indices.split(step):
            yield source.gather(some)
        return
    wanted = indices.numpy()
    first = int(wanted[0]) if len(wanted) else 0
    last = int(wanted[-1]) + 1 if len(wanted) else 0
    for start in range(first, last, step):
        stop = min(start + step, last)
        begin, end = np.searchsorted(wanted, (start, stop))
        rows = source.read(slice(start, stop))
        yield rows[torch.from_numpy(wanted[begin:end] - start)]

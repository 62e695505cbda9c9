"""Rows of an iterable of batches: read again in every pass, or once where memory holds them."""

from __future__ import annotations

import hashlib
from array import array
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.calls import ModesOfAGenerator
from cosmeans.containers.batches import new_iterator, rows_of_batch
from cosmeans.containers.converted import as_type, joined_type
from cosmeans.errors import FeatureNamesError, InputError

_BLOCK_BYTES = 64 << 20  # in which rows are held until their number is known
_PRINT_BYTES = 16  # of a fingerprint
_AGAIN = (
    "Every pass must give the same batches: switch shuffling and random changes off, let a function return a new "
    "iterator each time, or write the rows to a file once."
)


class BatchRows:
    """`contracts.RowSource` over an iterable of batches (`containers.batches`), which its making reads once.

    If all rows fit into the memory that they may take, they stay there, and the iterable is not read again. Else none
    are kept: rows that are asked for are looked for in a new pass, or further on in the one that runs, and each batch
    must be the one that it was at first. All of the caller's code runs in the thread that asks.

    tensor        whether every batch was a tensor, so that results for them are tensors
    column_names  of the batches, where they are frames of one number a column
    n_bytes_held  of rows that are kept; 0: the iterable is read in every pass
    """

    device = torch.device("cpu")

    def __init__(self, given: Any, name: str, memory_limit: int) -> None:
        """name: for messages. memory_limit: bytes that rows may take. Raises InputError."""
        self._given, self._name, self.names = given, name, ["The iterable"]
        self._lock, self._passes = Lock(), 0
        self._run: _Pass | None = None
        self._stops, self._prints = array("q"), bytearray()  # rows up to the end of each batch; its fingerprint
        kept = self._count(_Kept(memory_limit))
        self.n_bytes = self.n_rows * self.n_features * self.dtype.itemsize
        self._rows = kept.joined((self.n_rows, self.n_features), self.dtype) if self.n_bytes <= memory_limit else None

    @property
    def n_bytes_held(self) -> int:
        return 0 if self._rows is None else self._rows.nbytes

    def read(self, span: slice) -> Tensor:
        """Rows as they came, in memory that nobody else writes to."""
        if self._rows is not None:
            return self._rows[span]
        with self._lock:
            found = torch.empty((span.stop - span.start, self.n_features), dtype=self.dtype, device="cpu")
            run = self._running_to(span.start)
            done = 0
            while done < len(found):
                start, rows = run.batch_with(span.start + done)
                part = rows[span.start + done - start :][: len(found) - done]
                found[done : done + len(part)] = as_type(part, self.dtype)
                done += len(part)
            if span.stop == self.n_rows:
                run.finish()
            else:
                self._run = run
            return found

    def view(self) -> Tensor:
        return self.read(slice(0, self.n_rows))

    @property
    def one_view(self) -> bool:
        return self._rows is not None

    def gather(self, indices: Tensor) -> Tensor:
        """Rows by index. A pass for them ends at the last one that is wanted."""
        if self._rows is not None:
            return self._rows[indices]
        with self._lock:
            found = torch.empty((len(indices), self.n_features), dtype=self.dtype, device="cpu")
            order = torch.argsort(indices, stable=True)
            wanted = indices[order].numpy()
            done = 0
            run = self._running_to(int(wanted[0])) if len(wanted) else None
            while run is not None and done < len(wanted):
                start, rows = run.batch_with(int(wanted[done]))
                end = int(np.searchsorted(wanted, start + len(rows)))
                found[order[done:end]] = as_type(rows[torch.from_numpy(wanted[done:end] - start)], self.dtype)
                done = end
            self._run = run
            return found

    @property
    def n_direct(self) -> int:
        return 0 if self._rows is None else self.n_rows

    def hold_none(self) -> None:
        """None are held here (`rows.held`)."""

    def part(self, indices: Tensor) -> None:
        return None  # a session reads through `rows.held`, which knows what memory there is

    def where(self, row: int) -> str:
        batch = int(np.searchsorted(self._stops, row, "right"))
        return f"row {row} (batch {batch}, row {row - self.start_of(batch)})"

    def start_of(self, batch: int) -> int:
        """The number of the first row of a batch."""
        return self._stops[batch - 1] if batch else 0

    def _count(self, kept: _Kept) -> _Kept:
        """The first pass: how many rows there are, what they are, and the fingerprint of each batch."""
        batches = _Batches(self._given, self._name)
        self.n_rows, self.n_features, self.tensor = 0, 0, True
        self.column_names: list[Any] | None = None
        types = set()
        while (rows := batches.next()) is not None:
            if len(rows):
                self._check(rows, batches, first=self.n_rows == 0)
                types.add(rows.dtype)
                kept.add(rows)
            self.n_rows += len(rows)
            self._stops.append(self.n_rows)
            self._prints += _print_of(rows)
        self._passes = 1
        self.dtype = joined_type(types or {torch.float32})
        return kept

    def _check(self, rows: Tensor, batches: _Batches, first: bool) -> None:
        """Raise for a batch that does not go together with those before."""
        self.tensor &= batches.tensor
        if first:
            self.n_features, self.column_names = rows.shape[1], batches.column_names
        if rows.shape[1] != self.n_features:
            raise InputError(
                f"{self._name}: batch {batches.number} has rows of {rows.shape[1]} numbers, those before have "
                f"{self.n_features}. Give rows of one embedding."
            )
        if batches.column_names != self.column_names:
            raise FeatureNamesError(
                f"{self._name}: batch {batches.number} has the columns {batches.column_names}, the first one has "
                f"{self.column_names}.",
                "Give the same columns in the same order in every batch.",
            )

    def _running_to(self, row: int) -> _Pass:
        """A pass that comes by this row: the one that runs, if it did not yet. Taken out, in case that it fails."""
        run, self._run = self._run, None
        if run is None or row < run.start:
            run = None  # ends, with what its iterator holds, before another one begins
            self._passes += 1
            run = _Pass(self, _Batches(self._given, self._name), self._passes)
        return run

    def print_of(self, batch: int) -> bytes:
        """The fingerprint that a batch had in the first pass; none beyond the last one."""
        return bytes(self._prints[batch * _PRINT_BYTES : (batch + 1) * _PRINT_BYTES])

    @property
    def prints(self) -> bytes:
        """The fingerprints of all batches."""
        return bytes(self._prints)

    @property
    def n_batches(self) -> int:
        return len(self._stops)


class _Batches:
    """The batches of a new iterator as tensors on the CPU. number, tensor, column_names: of the one given last."""

    def __init__(self, given: Any, name: str) -> None:
        self._name, self._modes = name, ModesOfAGenerator()
        self._iterator = self._modes.run(lambda: new_iterator(given, name))
        self.number, self.tensor = -1, True
        self.column_names: list[Any] | None = None

    def next(self) -> Tensor | None:
        """The next one, (B, D), B may be 0; None after the last."""
        batch = self._modes.run(lambda: next(self._iterator, self))
        if batch is self:
            return None
        self.number += 1
        rows, self.tensor, self.column_names = rows_of_batch(batch, f"{self._name} in batch {self.number}")
        return rows.to("cpu") if isinstance(rows, Tensor) else rows[:]


class _Pass:
    """A later pass. start: the first row of the batch that it is at."""

    def __init__(self, source: BatchRows, batches: _Batches, number: int) -> None:
        self._source, self._batches, self._number = source, batches, number
        self.start, self._rows = 0, torch.empty((0, source.n_features), dtype=source.dtype, device="cpu")

    def batch_with(self, row: int) -> tuple[int, Tensor]:
        """The batch that holds this row, which is not before `start`, and the number of its first row."""
        while row >= self.start + len(self._rows):
            rows = self._next()
            if rows is None:
                found, expected = self._batches.number + 1, self._source.n_batches
                raise self._other(f"{found} batches, {expected} in the first pass")
            self.start, self._rows = self._source.start_of(self._batches.number), rows
        return self.start, self._rows

    def finish(self) -> None:
        """Let the iterator come to its end. Raises InputError if it has more rows."""
        while self._next() is not None:
            pass
        if self._batches.number + 1 < self._source.n_batches:
            raise self._other(f"{self._batches.number + 1} batches, {self._source.n_batches} in the first pass")

    def _next(self) -> Tensor | None:
        rows = self._batches.next()
        if rows is None:
            return None
        number = self._batches.number
        if number >= self._source.n_batches:
            raise self._other(f"more than the {self._source.n_batches} batches of the first pass")
        if _print_of(rows) != self._source.print_of(number):
            first, stop = self._source.start_of(number), self._source.start_of(number + 1)
            raise self._other(f"batch {number} (rows {first:,} to {max(first, stop - 1):,}) has changed")
        return rows

    def _other(self, what: str) -> InputError:
        return InputError(f"The iterable gave other rows in pass {self._number}: {what}. {_AGAIN}")


class _Kept:
    """Copies of rows, until they need more bytes than there is room for; then none."""

    def __init__(self, room: int) -> None:
        self._room, self._n_bytes = room, 0
        self._blocks: list[Tensor] = []  # the last one is full up to `_end`
        self._end = 0

    def add(self, rows: Tensor) -> None:
        self._n_bytes += rows.nbytes
        if self._n_bytes > self._room:
            self._blocks.clear()
            return
        while len(rows):
            if not self._blocks or self._blocks[-1].dtype != rows.dtype or self._end == len(self._blocks[-1]):
                self._new_block(rows)
            part = rows[: len(self._blocks[-1]) - self._end]
            self._blocks[-1][self._end : self._end + len(part)] = part
            self._end += len(part)
            rows = rows[len(part) :]

    def joined(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
        """All rows as one tensor, and nothing is kept here any more; None if there was no room."""
        if self._n_bytes > self._room:
            return None
        whole = torch.empty(shape, dtype=dtype, device="cpu")
        if self._blocks:
            self._blocks[-1] = self._blocks[-1][: self._end]
        self._blocks.reverse()
        done = 0
        while self._blocks:  # each is freed once it is copied
            block = self._blocks.pop()
            whole[done : done + len(block)] = as_type(block, dtype)
            done += len(block)
        return whole

    def _new_block(self, rows: Tensor) -> None:
        if self._blocks and self._end < len(self._blocks[-1]):  # rows of another type follow
            self._blocks[-1] = self._blocks[-1][: self._end].clone()
        size = max(1, _BLOCK_BYTES // max(1, rows.shape[1] * rows.dtype.itemsize))
        self._blocks.append(torch.empty((size, rows.shape[1]), dtype=rows.dtype, device="cpu"))
        self._end = 0


def _print_of(rows: Tensor) -> bytes:
    """A fingerprint of the bits of a batch and of their type."""
    found = hashlib.blake2b(str(rows.dtype).encode(), digest_size=_PRINT_BYTES)
    found.update(rows.contiguous().view(torch.uint8).numpy().data if rows.numel() else b"")
    return found.digest()

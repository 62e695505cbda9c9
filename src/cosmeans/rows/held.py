"""Rows that stay in memory once they are decoded, so that files are decoded once, as far as the memory goes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cosmeans.containers.converted import copy_rows, joined_rows
from cosmeans.contracts import RowSource
from cosmeans.errors import FileError
from cosmeans.memory_rows import MemoryRows
from cosmeans.reading import free_memory, size_words
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.copied import CopiedRows
from cosmeans.rows.files import FileRows
from cosmeans.rows.gathered import gather_once
from cosmeans.rows.stored import HalvedRows, Layout, WholeRows

_SHARE = 4  # of the free memory, one part for decoded rows
_PART = 2  # of what they leave, one part for rows that a start gathers
_BLOCK_BYTES = 64 << 20  # that are decoded at once where many rows are asked for
_FIRST_BYTES = 4 << 20  # of decoded rows that are held in any case: samples are taken of them


def hold(
    source: RowSource,
    memory_limit: int | None,
    cache: Path | None = None,
    *,
    make: bool = True,
    halved: bool = False,
    reserved: int = 0,
) -> tuple[RowSource, int | None]:
    """The source as one session reads it, and what is left of the limit.

    Of rows that must be decoded, as many stay in memory as the limit allows, and the first ones in any case.
    memory_limit: bytes; None: a quarter of the free memory, and then None is left
    cache: a folder for a copy of rows that the limit does not hold (`CopiedRows`). make: False: only one that is there
    halved: of float32 rows, those of a mapped file too, a copy whose heads are read in most passes. As many heads stay
    in memory as the limit allows, less the bytes that are reserved
    """
    if not isinstance(source, FileRows | BatchRows):
        return source, memory_limit
    room = limit_of(memory_limit)
    if isinstance(source, BatchRows) and source.n_bytes_held:  # all of them
        return source, None if memory_limit is None else max(0, memory_limit - source.n_bytes_held)
    held = _most_held(source, room)
    origin: _Origin = source
    halved = halved and source.dtype is torch.float32
    if cache is not None and held < source.n_rows and (halved or not source.n_direct):
        least = 0 if source.n_direct else _most_held(source, 0)
        heads_room = max(0, room - least * _row_bytes(source) - reserved) if halved else 0
        origin = CopiedRows(source, cache, make, _layouts(source, halved, make), heads_room)
        held = least if origin.halved else held
    rows = HeldRows(origin, 0 if origin.n_direct else held, room)
    return rows, None if memory_limit is None else max(0, memory_limit - rows.n_bytes_held)


def _layouts(source: RowSource, halved: bool, make: bool) -> list[type[Layout]]:
    """Of copies that will do, the best first: who reads all rows once takes any."""
    if halved:
        return [HalvedRows, WholeRows]
    return [WholeRows] if make or source.dtype is not torch.float32 else [WholeRows, HalvedRows]


def limit_of(memory_limit: int | None) -> int:
    """Bytes that decoded rows may take: by default a quarter of the free memory."""
    return free_memory() // _SHARE if memory_limit is None else memory_limit


def exceeds(source: FileRows, memory_limit: int | None) -> bool:
    """Whether rows must be decoded, and some of them again in every pass, if they are not copied."""
    return not source.n_direct and _most_held(source, limit_of(memory_limit)) < source.n_rows


def _most_held(source: FileRows | BatchRows, room: int) -> int:
    return min(source.n_rows, max(room, _FIRST_BYTES) // _row_bytes(source))


_Origin = FileRows | BatchRows | CopiedRows


class HeldRows:
    """`contracts.RowSource` over files or batches, for one session: the first pass keeps the first rows.

    Rows that can be had singly from the source are not held.
    """

    def __init__(self, source: _Origin, n_held: int, room: int = 0) -> None:
        """room: bytes for all that is held."""
        self._source = source
        self.n_rows, self.n_features, self.n_bytes = source.n_rows, source.n_features, source.n_bytes
        self.dtype, self.device, self.where = source.dtype, source.device, source.where
        self._rows = torch.empty((n_held, source.n_features), dtype=source.dtype, device="cpu")
        self._done = 0  # rows that are there
        self._block, self._room = max(1, _BLOCK_BYTES // _row_bytes(source)), room

    @property
    def n_bytes_held(self) -> int:
        """Bytes that rows take, or will, and heads of them."""
        return self._rows.nbytes + (self._source.n_bytes_held if isinstance(self._source, CopiedRows) else 0)

    @property
    def n_direct(self) -> int:
        """Rows that are there. Asked for the first time, it decodes a few, so that there is something to measure."""
        if not self._source.n_direct and not self._done:
            first = min(len(self._rows), max(1, _FIRST_BYTES // _row_bytes(self._source)))
            self._fill(slice(0, first))
        return max(self._done, self._source.n_direct)

    def _require_room(self) -> None:
        """Raise FileError if `view` would find no room."""
        free = free_memory()
        if self._source.one_view or len(self._rows) == self.n_rows or self.n_bytes <= free:
            return
        other = "a single file" if self._source.n_direct else "cache (--cache DIR), a folder for a copy on a disk"
        raise FileError(
            f"{self._source.names[0]}: memory must hold all rows at once for a function as init: "
            f"{size_words(self.n_bytes)}, and {size_words(free)} are free. Pass {other}, or another init."
        )

    def view(self) -> Tensor:
        """All rows as one tensor, which stays, whatever the limit. Raises FileError if there is no room."""
        self._require_room()
        if self._source.one_view:
            self.hold_none()
            return self._source.view()
        if len(self._rows) < self.n_rows:
            rows = torch.empty((self.n_rows, self.n_features), dtype=self.dtype, device="cpu")
            copy_rows(self._rows[: self._done], rows[: self._done])
            self._rows = rows
        self._fill(slice(0, self.n_rows))
        return self._rows

    def hold_none(self) -> None:
        """Rows that are held already are read again."""
        self._rows, self._done = self._rows.new_empty((0, self.n_features)), 0

    def read(self, span: slice) -> Tensor:
        self._fill(span)
        if span.stop <= self._done:
            return self._rows[span]
        if span.start >= self._done or self._source.n_direct:  # a view: joining rows would copy them
            return self._source.read(span)
        rest = self._source.read(slice(self._done, span.stop))
        return joined_rows([self._rows[span.start : self._done], rest])

    def gather(self, indices: Tensor) -> Tensor:
        here = indices < self._done
        if bool(here.all()):
            return self._rows[indices]
        if not bool(here.any()):
            return self._source.gather(indices)
        found = torch.empty((len(indices), self.n_features), dtype=self.dtype, device="cpu")
        found[here] = self._rows[indices[here]]
        found[~here] = self._source.gather(indices[~here])
        return found

    @property
    def halved(self) -> bool:
        """Whether rows are in halves, or will be."""
        return isinstance(self._source, CopiedRows) and self._source.halved

    def heads(self, span: slice) -> tuple[Tensor, Tensor] | None:
        if not isinstance(self._source, CopiedRows):
            return None
        found = self._source.heads(span)
        if found is not None and self._done:
            self.hold_none()  # the first rows, which were there before the copy was
        return found

    def joined(self, heads: Tensor, indices: Tensor) -> Tensor:
        assert isinstance(self._source, CopiedRows)  # which the heads came from
        return self._source.joined(heads, indices)

    def part(self, indices: Tensor) -> RowSource | None:
        """In memory if there is room, else in a temporary file."""
        if bool((indices < self._done).all()):
            return None
        heads = self._source.n_bytes_there if isinstance(self._source, CopiedRows) else 0  # samples are gone by then
        room = max(0, self._room - self._rows.nbytes - heads) // _PART
        return MemoryRows(gather_once(self, indices, room), self.where)

    def close(self) -> None:
        """No more rows are asked for."""
        if isinstance(self._source, CopiedRows):
            self._source.close()

    def _fill(self, span: slice) -> None:
        """Decode rows that follow those that are there, as far as they are asked for and may be kept."""
        end = min(span.stop, len(self._rows))
        while span.start <= self._done < end:
            stop = min(self._done + self._block, end)
            copy_rows(self._source.read(slice(self._done, stop)), self._rows[self._done : stop])
            self._done = stop


def _row_bytes(source: _Origin) -> int:
    return max(1, source.n_bytes // max(1, source.n_rows))

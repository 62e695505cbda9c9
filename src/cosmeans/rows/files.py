"""Rows of files as a source for a fit: read batch by batch, the next ones while this one is worked on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import joined_rows
from cosmeans.errors import FileError
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.table import Table, require_columns, validated


class FileRows:
    """`contracts.RowSource` over files. Made by `open_rows`; any number of fits may share it, so a copy is itself.

    A pickle holds where the files are, and opens them again; raises FileError if they have other rows by then.

    shape (N, D); dtype: of the rows as torch computes with them; names: the files, in order; tensor: whether the files
    hold tensors, so that results for them are tensors; one_view: whether all rows are mapped as one array.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        rows: JoinedRows,
        reopen: Callable[[], FileRows],
        id_column: str | None = None,
        weight_column: str | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008  a value that nobody changes
        places: Sequence[Place] | None = None,
    ) -> None:
        """reopen: opens the same files again, in any process of this machine. wanted: how they were read.

        places: of the files, in order; None: their names are paths.
        """
        self._rows, self._reopen, self.wanted = rows, reopen, wanted
        self.n_rows, self.n_features = rows.n_rows, rows.n_features or 0
        self.n_bytes, self.dtype = rows.n_bytes, rows.dtype
        self.mapped, self.names, self.tensor = rows.mapped, rows.names, rows.tensor
        self.n_direct, self.one_view = self.n_rows if rows.mapped else 0, rows.one_view
        self.id_column, self.weight_column = id_column, weight_column
        self.require([column for column in (id_column, weight_column) if column is not None])
        self._places = [Place(Path(name)) for name in rows.names] if places is None else places
        self._lock = Lock()
        self._ahead: _Ahead | None = None

    def __len__(self) -> int:
        return self.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_features

    def __copy__(self) -> FileRows:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FileRows:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._reopen, self.shape, self.dtype)

    def __repr__(self) -> str:
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"<{self.n_rows:,} rows x {self.n_features} {self.dtype} of {self.names[0]}{more}>"

    def read(self, span: slice) -> Tensor:
        """Rows as they are stored. What a pass asks for next is decoded meanwhile."""
        if self.mapped:
            return self._rows.read(span.start, span.stop)
        with self._lock:
            ahead, self._ahead = self._ahead, None
            found = None if ahead is None else ahead.rows(span.start)
            n_wanted = span.stop - span.start
            if found is not None and len(found) > n_wanted:
                self._ahead = ahead
                return found[:n_wanted]
            if found is None:
                found = self._rows.read(span.start, span.stop)
            elif len(found) < n_wanted:
                found = joined_rows([found, self._rows.read(span.start + len(found), span.stop)])
            stop = min(span.stop + n_wanted, self.n_rows)
            if span.stop < stop:
                self._ahead = _Ahead(self._rows, span.stop, stop)
            return found

    def view(self) -> Tensor:
        return self._rows.read(0, self.n_rows)

    def gather(self, indices: Tensor) -> Tensor:
        return self._rows.gather(indices.numpy())

    def hold_none(self) -> None:
        """None are held here (`rows.held`)."""

    def part(self, indices: Tensor) -> None:
        return None  # a session reads through `rows.held`, which knows what memory there is

    def where(self, row: int) -> str:
        """A row in words, for messages: which row of which file."""
        return self._rows.where(row)

    def parts(self) -> list[FilePart]:
        """The rows of each file, in order."""
        stops = list(accumulate(reader.n_rows for reader in self._rows.readers))
        found = []
        for number, (reader, place, stop) in enumerate(zip(self._rows.readers, self._places, stops, strict=True)):
            reopen = partial(_part, self._reopen, number)
            rows = FileRows(JoinedRows([reader], reader.name), reopen, places=[place])
            found.append(FilePart(reader.name, stop - reader.n_rows, stop, rows, place))
        return found

    def whole(self) -> FilePart:
        """All rows as one part."""
        return FilePart(self.names[0], 0, self.n_rows, self, self._places[0])

    @property
    def tables(self) -> list[Table]:
        """The files, where they have columns; raises OptionError where one has none."""
        return self._rows.tables

    def columns(self, names: list[str], text: bool = False) -> Iterator[Any]:
        """Record batches of Arrow with other columns of the files, all rows in order. Raises OptionError.

        text: as text is stored in a file of text, where 007 is not 7
        """
        for table in self.tables:
            yield from validated(table, 0, names, text)

    def weights(self) -> np.ndarray | None:
        """The weights (N,) of `weight_column`, which alone is read for them; None without one."""
        if self.weight_column is None:
            return None
        batches = self.columns([self.weight_column])
        return np.concatenate([batch.column(0).to_numpy(zero_copy_only=False) for batch in batches])

    def require(self, columns: list[str]) -> None:
        """Raise OptionError for columns that one of the files doesn't have."""
        for table in self.tables if columns else ():
            require_columns(table, columns)


def _reopened(reopen: Callable[[], FileRows], shape: tuple[int, int], dtype: torch.dtype) -> FileRows:
    """The rows of a pickle."""
    rows = reopen()
    if (rows.shape, rows.dtype) != (shape, dtype):
        raise FileError(
            f"{rows.names[0]}: {rows.shape[0]:,} rows x {rows.shape[1]} {rows.dtype} are there, and there were "
            f"{shape[0]:,} x {shape[1]} {dtype} when the rows were pickled. Restore the files, or open them again."
        )
    return rows


def _part(reopen: Callable[[], FileRows], place: int) -> FileRows:
    """The rows of one of several files, opened again."""
    return reopen().parts()[place].rows


@dataclass(frozen=True, slots=True)
class FilePart:
    """Some of the rows of a source, from row `start` to `stop`: those of one file, or all.

    name   the file, as the caller knows it
    rows   these rows as a source of their own, numbered from 0
    place  where the file is
    """

    name: str
    start: int
    stop: int
    rows: FileRows
    place: Place


class _Ahead:
    """Rows that the next read will ask for, decoded in a thread meanwhile."""

    def __init__(self, rows: JoinedRows, start: int, stop: int) -> None:
        self._rows, self._span, self._process = rows, (start, stop), os.getpid()
        self._found: Tensor | None = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._decode, daemon=True)
        self._thread.start()

    def rows(self, start: int) -> Tensor | None:
        """What was decoded from this row on, once the thread has ended; None: not that. Raises what it raised."""
        if self._process != os.getpid():
            return None  # a fork took along everything but the thread
        self._thread.join()
        if not self._span[0] <= start < self._span[1]:
            return None
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # which holds this frame, and those of all callers with what they made on a device
        return None if self._found is None else self._found[start - self._span[0] :]

    def _decode(self) -> None:
        try:
            self._found = self._rows.read(*self._span)
        except BaseException as error:  # noqa: BLE001  raised again where the rows are asked for
            self._error = error

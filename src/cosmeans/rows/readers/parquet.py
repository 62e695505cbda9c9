"""Parquet: decoded by pyarrow, column by column, never a whole row group at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from cosmeans.rows.place import Place

_VALUES = 1 << 20  # numbers that are decoded at once
_ROWS = 4096  # and rows, where these are not vectors of a fixed length
_DICTIONARY = 16 << 20  # bytes of different texts that are held
_BUFFER = 1 << 20  # bytes that are read at once; with `pre_buffer` Arrow reads, and keeps, a whole file
_REMOTE_BUFFER = 8 << 20  # and over a network, where each request takes tens of milliseconds


class ParquetTable:
    """`rows.table.Table`."""

    counted = True

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name
        self._footer: Any = None
        with self._reading(), self._opened([]) as file:
            self.schema, self._footer = file.schema_arrow, file.metadata
            self._parts = [self._footer.row_group(group) for group in range(self._footer.num_row_groups)]
            self.groups = [part.num_rows for part in self._parts]

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        types = [self.schema.field(name).type for name in names]
        width = max((getattr(getattr(kind, "storage_type", kind), "list_size", 0) for kind in types), default=0)
        rows = max(1, _VALUES // width) if width else _ROWS
        strings = [name for name, kind in zip(names, types, strict=True) if str(kind) in ("string", "large_string")]
        strings = [name for name in strings if self._has_few_texts(name)]
        with self._reading(), self._opened(strings) as file:
            groups = range(group, len(self.groups))
            yield from file.iter_batches(rows, row_groups=groups, columns=names, use_threads=False)

    def _has_few_texts(self, name: str) -> bool:
        """Whether a dictionary stays one: many rows of one long text are not as many texts.

        Arrow collects the different texts of a whole row group then, so there must not be many.
        """
        return all(chunk.total_uncompressed_size <= _DICTIONARY for chunk in self._chunks(name))

    def packed_bytes(self, name: str) -> int:
        """What a column unpacks to."""
        return sum(chunk.total_uncompressed_size for chunk in self._chunks(name))

    def values(self, name: str) -> tuple[int, int] | None:
        """How many values a column holds, and how many of them are null, by the footer; None: it doesn't say.

        A list that is null or empty counts as one value that is null.
        """
        chunks = list(self._chunks(name))
        statistics = [chunk.statistics for chunk in chunks]
        if not chunks or not all(found is not None and found.has_null_count for found in statistics):
            return None
        return sum(chunk.num_values for chunk in chunks), sum(found.null_count for found in statistics)

    def _chunks(self, name: str) -> Iterator[Any]:
        """What the footer says of each part of a column."""
        with self._reading():
            first = 0
            for field in self.schema:
                if field.name == name:
                    break
                first += _leaves(field.type)
            for part in self._parts:
                for leaf in range(first, first + _leaves(self.schema.field(name).type)):
                    yield part.column(leaf)

    def _reading(self) -> AbstractContextManager[None]:
        return self._place.reading(says="can't be read as .parquet", advice="Write the file again.")

    @contextmanager
    def _opened(self, dictionaries: list[str]) -> Iterator[Any]:
        from pyarrow import parquet

        size = _REMOTE_BUFFER if self._place.remote else _BUFFER
        options = {"pre_buffer": False, "buffer_size": size, "read_dictionary": dictionaries}
        with (
            self._place.open(by_ranges=True) as file,
            parquet.ParquetFile(self._place.handle(file), metadata=self._footer, **options) as opened,
        ):
            yield opened


def _leaves(kind: Any) -> int:
    """How many columns of Parquet hold a column of this type of Arrow."""
    kind = getattr(kind, "storage_type", kind)
    return sum(_leaves(kind.field(at).type) for at in range(kind.num_fields)) if kind.num_fields else 1

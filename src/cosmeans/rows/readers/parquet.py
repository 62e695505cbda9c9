"""Parquet: decoded by pyarrow, column by column, never a whole row group at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from cosmeans.reading import name_of
from cosmeans.rows.place import Place

_VALUES = 1 << 20  # numbers that are decoded at once
_ROWS = 4096  # and rows, where these are not vectors of a fixed length
_BUFFER = 1 << 20  # bytes that are read at once; with `pre_buffer` Arrow reads, and keeps, a whole file


class ParquetTable:
    """`rows.table.Table`."""

    counted = True

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name
        with self._reading(), self._opened([]) as file:
            self.schema, metadata = file.schema_arrow, file.metadata
            self.groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        types = [self.schema.field(name).type for name in names]
        width = max((getattr(getattr(kind, "storage_type", kind), "list_size", 0) for kind in types), default=0)
        rows = max(1, _VALUES // width) if width else _ROWS
        # a dictionary stays one: many rows of one long text are not as many texts
        strings = [name for name, kind in zip(names, types, strict=True) if str(kind) in ("string", "large_string")]
        with self._reading(), self._opened(strings) as file:
            groups = range(group, len(self.groups))
            yield from file.iter_batches(rows, row_groups=groups, columns=names, use_threads=False)

    def packed_bytes(self, name: str) -> int:
        """What a column unpacks to."""
        with self._reading(), self._opened([]) as file:
            found = file.metadata
            places = [at for at in range(found.num_columns) if found.schema.column(at).path.split(".")[0] == name]
            groups = [found.row_group(group) for group in range(found.num_row_groups)]
            return sum(group.column(at).total_uncompressed_size for group in groups for at in places)

    def _reading(self) -> AbstractContextManager[None]:
        return self._place.reading(says="can't be read as .parquet", advice="Write the file again.")

    def _opened(self, dictionaries: list[str]) -> Any:
        from pyarrow import parquet

        options = {"pre_buffer": False, "buffer_size": _BUFFER, "read_dictionary": dictionaries}
        with self._place.open() as file:
            return parquet.ParquetFile(name_of(file, self._place.path), **options)

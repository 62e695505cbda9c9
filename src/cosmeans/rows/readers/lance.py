"""Lance data sets, by pylance: at the version that was there when they were opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cosmeans.errors import FileError
from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place

_STORES = ("s3", "gs", "az")  # of which it has file systems of its own
_ROWS = 1024  # that are decoded at once


class LanceTable:
    """`rows.table.Table`."""

    counted = True

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name
        if place.remote and place.address.split(":", 1)[0].lower() not in _STORES:
            raise FileError(f"{place}: Lance reads {', '.join(_STORES)} and disks. Copy the data set to one of them.")
        lance = needed("lance", place, "lance")
        with place.reading():
            self._table = lance.dataset(place.address)
            self.schema, n_rows = self._table.schema, self._table.count_rows()
        self.groups = [min(_ROWS, n_rows - start) for start in range(0, n_rows, _ROWS)]

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        with self._place.reading():
            options = {"columns": names, "batch_size": _ROWS, "scan_in_order": True, "batch_readahead": 1}
            yield from self._table.scanner(offset=group * _ROWS, **options).to_batches()

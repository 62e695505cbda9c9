"""Lance data sets, by pylance: at the version that was there when they were opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place

_ROWS = 1024  # that are decoded at once


class LanceTable:
    """`rows.table.Table`."""

    counted = True

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name
        lance = needed("lance", place, "lance")
        with place.reading():
            self._table = lance.dataset(str(place.path))
            self.schema, n_rows = self._table.schema, self._table.count_rows()
        self.groups = [min(_ROWS, n_rows - start) for start in range(0, n_rows, _ROWS)]

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        with self._place.reading():
            options = {"columns": names, "batch_size": _ROWS, "scan_in_order": True, "batch_readahead": 1}
            yield from self._table.scanner(offset=group * _ROWS, **options).to_batches()

"""The rows that a reader can go through: all of them where they fit, packed, else those of the map."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans.data import NO_LABEL
from cosmeans.page.columns import Column
from cosmeans.page.examples import clean
from cosmeans.page.projection import Projection
from cosmeans.page.statistics import Placed

ROWS_BYTES = 5 << 20  # of the packed rows in the page
MAX_ROWS = 200_000  # more make a browser slow
_TEXT = 200  # characters of a row's text
_MAP_TEXT = 120
_PACKS = 8.0  # times that texts of few different words shrink at most, or so: more is not even tried


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of rows besides their vectors, each (N,) or None.

    ids    what a row is called where it comes from
    links  addresses that a row's id leads to
    """

    texts: list[str] | None = None
    ids: list[str] | None = None
    links: list[str] | None = None
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class RowTable:
    """packed: base64 of gzipped JSON, one list per property. n_rows in it; complete: whether these are all."""

    packed: str
    n_rows: int
    complete: bool


def row_table(placed: Placed, described: Described, projection: Projection | None) -> RowTable:
    """All rows that have a cluster if they fit into ROWS_BYTES, else those of the map."""
    every = np.flatnonzero(placed.labels != NO_LABEL)
    if len(every) <= MAX_ROWS and _characters(described, every) <= _PACKS * ROWS_BYTES:
        packed = _pack(_listed(every, placed, described, projection, _TEXT))
        if len(packed) <= ROWS_BYTES:
            return RowTable(packed, len(every), complete=True)
    mapped = np.empty(0, np.int64) if projection is None else projection.rows
    return RowTable(_pack(_listed(mapped, placed, described, projection, _MAP_TEXT)), len(mapped), complete=False)


def _characters(described: Described, rows: np.ndarray) -> int:
    lists = [values for values in (described.texts, described.ids, described.links) if values is not None]
    return 12 * len(rows) + sum(min(_TEXT, len(values[row])) for values in lists for row in rows.tolist())


def _listed(
    rows: np.ndarray, placed: Placed, described: Described, projection: Projection | None, length: int
) -> dict[str, Any]:
    """One list per property; the map names places in these lists."""
    listed: dict[str, Any] = {
        "row": np.diff(rows, prepend=0).tolist(),  # differences pack better
        "cluster": placed.labels[rows].tolist(),
        "similarity": np.rint(1e4 * placed.similarity[rows]).astype(int).tolist(),
    }
    for name in ("texts", "ids", "links"):
        values = getattr(described, name)
        if values is not None:
            listed[name] = [clean(values[row], length) for row in rows.tolist()]
    listed["columns"] = [column.code[rows].tolist() for column in described.columns]
    if projection is not None:
        at = np.searchsorted(rows, projection.rows)
        listed["map"] = {
            "at": np.diff(at, prepend=0).tolist(),
            "x": projection.x.tolist(),
            "y": projection.y.tolist(),
        }
    return listed


def _pack(listed: dict[str, Any]) -> str:
    text = json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(text, 6, mtime=0)).decode("ascii")

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

ROWS_BYTES = 5 << 20  # of the packed rows in the page, at most
MAX_ROWS = 200_000  # more make a browser slow
_TEXTS = (200, 120, 40, 8)  # characters of a row's text: of all rows, and of those of the map, the first that fits
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


def row_table(
    placed: Placed, described: Described, projection: Projection | None, shown: np.ndarray, budget: int
) -> RowTable:
    """All rows that have a cluster if they fit into the budget of bytes, else those of the map, with shorter texts.

    shown  (K,) the clusters of the page, for which the values of the columns are counted
    """
    always = {"counts": _counts(placed, described, shown)}
    every = np.flatnonzero(placed.labels != NO_LABEL)
    if len(every) <= MAX_ROWS and _characters(described, every) <= _PACKS * budget:
        packed = _pack(_listed(every, placed, described, projection, _TEXTS[0]) | always)
        if len(packed) <= budget:
            return RowTable(packed, len(every), complete=True)
    mapped = np.empty(0, np.int64) if projection is None else projection.rows
    for length in _TEXTS[1:]:
        packed = _pack(_listed(mapped, placed, described, projection, length) | always)
        if len(packed) <= budget:
            break
    return RowTable(packed, len(mapped), complete=False)


def _counts(placed: Placed, described: Described, shown: np.ndarray) -> list[list[list[list[int]]]]:
    """For each column and each cluster its rows with each value that it has: [[value, rows], ...]."""
    n_clusters = int(max(placed.labels.max(), shown.max())) + 1
    listed = []
    for column in described.columns:
        counts = column.counts(placed.labels, n_clusters)[shown]
        listed.append([[[int(at), int(row[at])] for at in np.flatnonzero(row)] for row in counts])
    return listed


def _characters(described: Described, rows: np.ndarray) -> int:
    lists = [values for values in (described.texts, described.ids, described.links) if values is not None]
    return 12 * len(rows) + sum(min(_TEXTS[0], len(values[row])) for values in lists for row in rows.tolist())


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

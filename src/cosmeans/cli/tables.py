"""Tables of the commands: on the screen, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmeans.atomic import new_file
from cosmeans.choose import Choice
from cosmeans.errors import OptionError
from cosmeans.evaluation import Evaluation
from cosmeans.matching import Match, Moves

_SUFFIXES = (".parquet", ".csv", ".npy")


def check_path(path: Path) -> None:
    """Raise OptionError unless the suffix names a kind of table that can be written."""
    if path.suffix not in _SUFFIXES:
        raise OptionError(f"--out {path}: tables are written as {', '.join(_SUFFIXES)}. Change the suffix.")


def write(path: Path, columns: Mapping[str, np.ndarray], force: bool) -> None:
    """Columns as .parquet or .csv; as .npy the first column alone."""
    check_path(path)
    with new_file(path, force) as temporary:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, next(iter(columns.values())))
            return
        import pyarrow
        from pyarrow import csv, parquet

        table = pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in columns.items()})
        parquet.write_table(table, temporary) if path.suffix == ".parquet" else csv.write_csv(table, temporary)


def with_texts(columns: dict[str, np.ndarray], texts: list[str] | None) -> dict[str, np.ndarray]:
    """The columns, with the text of each row."""
    if texts is None:
        return columns
    return columns | {"text": np.array([texts[row] for row in columns["row"].tolist()], dtype=object)}


def show(columns: Mapping[str, Any], n_shown: int) -> None:
    """The first rows of a table on stdout; long texts are cut."""
    grid = Table()
    for name, values in columns.items():
        is_text = np.asarray(values).dtype.kind in "OU"
        grid.add_column(name, justify="left" if is_text else "right", no_wrap=is_text, overflow="ellipsis")
    for row in zip(*(np.asarray(values)[:n_shown].tolist() for values in columns.values()), strict=True):
        grid.add_row(*(_cell(value) for value in row))
    Console().print(grid)


def show_choice(choice: Choice) -> None:
    """One line per K."""
    names = ("n_clusters", "silhouette", "spread", "stability", "similarity")
    show({name: np.array([getattr(point, name) for point in choice.points]) for name in names}, len(choice.points))


def show_evaluation(measured: Evaluation) -> None:
    """Every measure that has a value, and the sizes in short."""
    record = measured.to_json()
    sizes = record.pop("sizes")
    grid = Table(show_header=False, box=None)
    for name, value in record.items():
        if value is not None:
            grid.add_row(name.replace("_", " "), _cell(value))
    grid.add_row("sizes", f"{min(sizes):,} to {max(sizes):,}, median {np.median(sizes):,.0f}")
    Console().print(grid)


def show_match(matched: Match, moves: Moves | None, n_shown: int) -> None:
    """What each old cluster became, least alike first; with moves, where rows went."""
    order = np.lexsort((np.arange(len(matched.cosines)), matched.cosines))
    columns = {"old": order, "new": matched.new_of_old[order], "cosine": matched.cosines[order]}
    if moves is not None:
        changes = [moves.clusters[cluster] for cluster in order.tolist()]
        columns |= {name: np.array([getattr(c, name) for c in changes]) for name in ("before", "after", "stayed")}
    show(columns, n_shown)
    if moves is not None:
        show(dict(zip(("from", "to", "rows"), moves.flows.T, strict=True)), n_shown)
        Console().print(f"{moves.stayed:,} of {moves.n_rows:,} rows stayed in their cluster (ids of the old model)")


def as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _cell(value: Any) -> Text:
    if isinstance(value, float):
        return Text(f"{value:.4f}")
    return Text("" if value is None else f"{value:,}" if isinstance(value, int) else str(value))

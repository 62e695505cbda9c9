"""Tables of the commands: on the screen, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich.table import Table
from rich.text import Text

from cosmeans import printable
from cosmeans.analysis.choose_k import Choice
from cosmeans.analysis.evaluation import Evaluation
from cosmeans.analysis.matching import Match, Moves
from cosmeans.atomic import new_file
from cosmeans.cli import results
from cosmeans.cli.silence import doing
from cosmeans.errors import OptionError
from cosmeans.label_files.columns import in_order

TABLES = (".parquet", ".csv")
ROW_LISTS = (*TABLES, ".npy")


def check_path(path: Path, kinds: tuple[str, ...] = ROW_LISTS, flag: str = "--out") -> None:
    """Raise OptionError unless the suffix names a kind of file that can be written."""
    if path.suffix not in kinds:
        raise OptionError(f"{flag} {path}: tables are written as {', '.join(kinds)}. Change the suffix.")


def write(path: Path, columns: Mapping[str, np.ndarray], force: bool) -> None:
    """Columns as .parquet or .csv; as .npy the first column alone. Of texts: `printable.writable`, `printable.cell`."""
    write_all({path: columns}, force)


def write_all(tables: Mapping[Path, Mapping[str, np.ndarray]], force: bool) -> None:
    """Several tables, each as `write` writes one: all are written before the first of them appears."""
    for path in tables:
        check_path(path)
    with doing(f"writing {' and '.join(map(str, tables))}"), ExitStack() as files:
        new = {path: files.enter_context(new_file(path, force)) for path in tables}
        for path, columns in tables.items():
            with new[path].open("wb") as file:  # Arrow takes some names for addresses, others it can't say in UTF-8
                _write(file, path.suffix, columns)


def _write(file: BinaryIO, suffix: str, columns: Mapping[str, np.ndarray]) -> None:
    if suffix == ".npy":
        np.save(file, next(iter(columns.values())))
        return
    import pyarrow
    from pyarrow import csv, parquet

    as_file = printable.cell if suffix == ".csv" else printable.writable
    # the type of texts is given, since an empty column has none of its own
    table = pyarrow.table(
        {
            name: pyarrow.array(map(as_file, values), pyarrow.string()) if values.dtype.kind == "O" else values
            for name, values in columns.items()
        }
    )
    parquet.write_table(table, file) if suffix == ".parquet" else csv.write_csv(table, file)


def with_others(
    columns: dict[str, np.ndarray], others: Mapping[str, np.ndarray], id_column: str | None
) -> dict[str, np.ndarray]:
    """The columns, with what other columns (N,) hold for their rows, in the order of tables of labels."""
    found = columns | {name: values[columns["row"]] for name, values in others.items()}
    return {name: found[name] for name in in_order(columns, list(others), id_column)}


def show(columns: Mapping[str, Any], n_shown: int, title: str | None = None) -> None:
    """The first rows of a table on stdout, and how many there are; numbers stay whole, long texts are cut."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    n_rows = len(next(iter(arrays.values())))
    cut = f"the first {n_shown} of {n_rows:,}" if n_rows > n_shown else None
    if title or cut:  # a title of the table itself would be as narrow as the table
        results.show(": ".join(part for part in (title, cut) if part))
    grid = Table()
    for name, values in arrays.items():
        # rich narrows only columns that may wrap; the cells of a text don't, so they are cut instead
        is_text = values.dtype.kind in "OU"
        grid.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    for row in zip(*(values[:n_shown].tolist() for values in arrays.values()), strict=True):
        grid.add_row(*(_cell(value) for value in row))
    results.show(grid)


def show_choice(choice: Choice) -> None:
    """One line per K."""
    names = ("n_clusters", "silhouette", "spread", "stability", "similarity")
    show({name: np.array([getattr(point, name) for point in choice.points]) for name in names}, len(choice.points))


def show_evaluation(measured: Evaluation) -> None:
    """Every measure that has a value, and the sizes in short."""
    record = {name: value for name, value in measured.to_json().items() if value is not None}
    sizes = record.pop("sizes")
    show_facts(record | {"sizes": f"{min(sizes):,} to {max(sizes):,}, median {np.median(sizes):,.0f}"})


def show_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one per line, on stdout."""
    grid = Table(show_header=False, box=None)
    for name, value in facts.items():
        told = _cell(value)
        told.no_wrap, told.overflow = False, "fold"  # a digest is compared as a whole
        grid.add_row(name.replace("_", " "), told)
    results.show(grid)


def show_match(matched: Match, moves: Moves | None, n_shown: int) -> None:
    """What each old cluster became, least alike first; with moves, where rows went."""
    order = np.lexsort((np.arange(len(matched.cosines)), matched.cosines))
    order = order[matched.new_of_old[order] >= 0]  # clusters that end are counted below
    columns = {"old": order, "new": matched.new_of_old[order], "cosine": matched.cosines[order]}
    if moves is not None:
        changes = [moves.clusters[cluster] for cluster in order.tolist()]
        columns |= {name: np.array([getattr(c, name) for c in changes]) for name in ("before", "after", "stayed")}
    show(columns, n_shown, "Clusters, least alike first")
    if moves is not None:
        flows = dict(zip(("from", "to", "rows"), moves.flows.T, strict=True))
        show(flows, n_shown, "Moves in ids of the old model, most rows first")
    n_old, n_new = len(matched.new_of_old), len(matched.old_of_new)
    both = int((matched.new_of_old >= 0).sum())
    told = f"{both:,} clusters matched, {n_old - both:,} disappeared, {n_new - both:,} new"
    if moves is not None:
        told += f"; {moves.stayed:,} of {moves.n_rows:,} rows stayed in their cluster"
    results.show(told)


def as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _cell(value: Any) -> Text:
    if isinstance(value, float):
        return Text(f"{value:.4f}")
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else printable.line(str(value))
    return Text(text, no_wrap=True, overflow="ellipsis")

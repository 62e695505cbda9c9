"""The commands that list rows: outliers, exemplars, near-duplicates, and the best clusters of every row.

What does the work is imported when a command runs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cosmeans.atomic import refuse_existing
from cosmeans.choices import Preferred, names_of
from cosmeans.cli import extras, flags
from cosmeans.cli.app import command
from cosmeans.cli.row_files import RowFiles
from cosmeans.console import say
from cosmeans.errors import OptionError
from cosmeans.label_files.columns import TEXT, as_similarity, refuse_clash

if TYPE_CHECKING:
    import numpy as np

    from cosmeans.rows.files import FileRows

_SHOWN = 20

Out = Annotated[
    Path, typer.Option("--out", help="the rows found: .parquet, .csv or .npy (row numbers)", metavar="FILE")
]


@command("outliers")
@flags.takes_rows_and_columns
def find_outliers(
    model: flags.Model,
    embeddings: RowFiles,
    quantile: Annotated[float | None, typer.Option("--quantile", help="share of the rows; default: 0.01")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="instead: all rows below this cosine")] = None,
    texts: flags.Texts = None,
    column: flags.Column = None,
    out: Out = Path("outliers.parquet"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """List the rows that fit their clusters worst."""
    import numpy as np

    from cosmeans.analysis.queries import outliers
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    others, rows = _before(out, force, texts, column, embeddings, ("row", "cluster", "similarity"))
    found = outliers(load_model(model, quiet), rows, quantile=quantile, threshold=threshold)
    columns = {"row": np.asarray(found.rows), "cluster": np.asarray(found.labels)}
    columns["similarity"] = as_similarity(np.asarray(found.cosines))
    columns = tables.with_others(columns, others, rows.id_column)
    tables.write(out, columns, force)
    if as_json:
        tell_json({"rows": len(found.rows), "threshold": _number(found.threshold), "outliers": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        reach = f", with cosines from {found.cosines[0]:.4f} to {found.cosines[-1]:.4f}" if len(found.rows) else ""
        say(f"Wrote {len(found.rows):,} rows to {out}, worst first{reach}")


@command("exemplars")
@flags.takes_rows_and_columns
def find_exemplars(
    model: flags.Model,
    embeddings: RowFiles,
    m: Annotated[int, typer.Option("-m", "--rows", help="rows per cluster")] = 10,
    texts: flags.Texts = None,
    column: flags.Column = None,
    out: Out = Path("exemplars.parquet"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """List the rows closest to each centroid."""
    import numpy as np

    from cosmeans.analysis.queries import exemplars
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    others, rows = _before(out, force, texts, column, embeddings, ("row", "cluster", "similarity"))
    found = exemplars(load_model(model, quiet), rows, m)
    members, cosines = np.asarray(found.rows), np.asarray(found.cosines)
    there = members >= 0
    cluster = np.broadcast_to(np.arange(len(members))[:, None], members.shape)
    columns = {"row": members[there], "cluster": cluster[there], "similarity": as_similarity(cosines[there])}
    columns = tables.with_others(columns, others, rows.id_column)
    tables.write(out, columns, force)
    if as_json:
        tell_json({"rows": int(there.sum()), "clusters": int(there.any(axis=1).sum()), "exemplars": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        say(f"Wrote {int(there.sum()):,} rows to {out}, by cluster, closest first")


@command("dedup")
@flags.takes_rows_and_columns
def remove_duplicates(
    model: flags.Model,
    embeddings: RowFiles,
    threshold: Annotated[
        float, typer.Option("--threshold", help="rows with at least this cosine are duplicates")
    ] = 0.95,
    keep: Annotated[
        str,
        flags.choice("--keep", names_of(Preferred), "which of two duplicates to keep, by its cosine with the centroid"),
    ] = "closest",
    max_cluster_size: Annotated[
        int, typer.Option("--max-cluster-size", help="larger clusters are compared in parts", metavar="ROWS")
    ] = 16_384,
    texts: flags.Texts = None,
    column: flags.Column = None,
    out: Annotated[
        Path, typer.Option("--out", help="the rows to keep: .npy (row numbers), .parquet or .csv", metavar="FILE")
    ] = Path("keep.npy"),
    removed: Annotated[
        Path | None,
        typer.Option("--removed", help="also list the removed rows and why: .parquet or .csv", metavar="FILE"),
    ] = None,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Find near-duplicates within clusters; write the list of rows to keep."""
    import numpy as np

    from cosmeans.analysis.dedup import deduplicate
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    others, rows = _before(out, force, texts, column, embeddings, ("row", "cluster", "similarity", "original"))
    if removed is not None:
        tables.check_path(removed, tables.TABLES, "--removed")
        extras.require_for(removed)
        refuse_existing(removed, force, folder=False)
        if removed.absolute() == out.absolute():
            raise OptionError(f"--removed and --out are both {out}. Choose two names.")
    preferred = cast(Preferred, keep)  # checked there
    found = deduplicate(load_model(model, quiet), rows, threshold, keep=preferred, max_cluster_size=max_cluster_size)
    original = np.asarray(found.original)
    columns = {"row": np.asarray(found.removed), "cluster": np.asarray(found.labels)}
    columns |= {"similarity": as_similarity(np.asarray(found.cosines)), "original": original}
    columns = tables.with_others(columns, others, rows.id_column)
    columns |= {f"{name} of original": values[original] for name, values in others.items()}
    kept = {"row": np.asarray(found.kept), "cluster": np.asarray(found.kept_labels)}
    kept |= {"similarity": as_similarity(np.asarray(found.kept_cosines))}
    written = {out: tables.with_others(kept, others, rows.id_column)}
    tables.write_all(written if removed is None else written | {removed: columns}, force)
    if as_json:
        tell_json({"rows": len(rows), "kept": len(found.kept), "removed": len(found.removed), "keep": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        say(f"{len(found.removed):,} of {len(rows):,} rows are near-duplicates")
        say(f"Wrote the {len(found.kept):,} rows to keep to {out}")


@command("top")
@flags.takes_rows_and_columns
def find_top(
    model: flags.Model,
    embeddings: RowFiles,
    m: Annotated[int, typer.Option("-m", "--clusters", help="clusters per row")] = 3,
    texts: flags.Texts = None,
    column: flags.Column = None,
    out: Annotated[
        Path, typer.Option("--out", help="one line per row and cluster: .parquet or .csv", metavar="FILE")
    ] = (Path("top.parquet")),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """List the best clusters of every row, with their cosines."""
    import numpy as np

    from cosmeans.analysis.queries import top
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    tables.check_path(out, tables.TABLES)
    others, rows = _before(out, force, texts, column, embeddings, ("row", "rank", "cluster", "similarity"))
    found = top(load_model(model, quiet), rows, m)
    labels, cosines = np.asarray(found.labels), np.asarray(found.cosines)
    there = labels >= 0
    row, rank = np.nonzero(there)
    columns = {"row": row, "rank": rank + 1, "cluster": labels[there], "similarity": as_similarity(cosines[there])}
    tables.write(out, tables.with_others(columns, others, rows.id_column), force)
    if as_json:
        tell_json({"rows": len(labels), "left_out": int((~there).all(axis=1).sum()), "top": str(out)})
    elif not quiet:
        shown = {name: values[:_SHOWN] for name, values in columns.items()}
        tables.show(tables.with_others(shown, others, rows.id_column), _SHOWN)
        say(f"Wrote the {m} best clusters of {int(there.any(axis=1).sum()):,} rows to {out}")


def _before(
    out: Path, force: bool, texts: str | None, column: str | None, embeddings: RowFiles, own: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], FileRows]:
    """The columns (N,) that go along, texts among them, and the rows; after everything that can be refused before.

    own  the columns of the table, which no other may be called
    """
    import numpy as np

    from cosmeans.cli import tables
    from cosmeans.cli.texts import given_texts

    tables.check_path(out)
    extras.require_for(out)
    refuse_existing(out, force, folder=False)
    refuse_clash(own if texts is None and column is None else (*own, TEXT), embeddings.carried.names)
    rows = embeddings.open()
    lines = given_texts(texts, rows, column)
    others = embeddings.others(rows)
    return others if lines is None else others | {TEXT: np.array(lines, dtype=object)}, rows


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

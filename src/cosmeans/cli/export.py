"""The command `export`. What does the work is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from cosmeans.atomic import refuse_existing
from cosmeans.choices import ProjectionName
from cosmeans.cli import extras, flags
from cosmeans.cli.app import command
from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.silence import doing
from cosmeans.console import say
from cosmeans.errors import OptionError


@command()
@flags.takes_rows_and_columns
def export(
    model: flags.Model,
    embeddings: RowFiles,
    parquet: Annotated[Path, typer.Option("--parquet", help="table to write", metavar="FILE")] = Path("rows.parquet"),
    texts: flags.Texts = None,
    column: flags.Column = None,
    names: flags.Names = None,
    projection: flags.Projection = "auto",
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Write all rows with cluster, name, similarity and a place on a map, for explorers of embeddings."""
    if parquet.suffix != ".parquet":
        raise OptionError(f"--parquet {parquet}: the table is written as .parquet. Change the suffix.")
    extras.require("pyarrow", f"{parquet}: a table")
    refuse_existing(parquet, force, folder=False)
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json
    from cosmeans.cli.texts import given_texts
    from cosmeans.export import write_parquet

    kmeans = load_model(model, quiet)
    rows = embeddings.open()
    lines = given_texts(texts, rows, column)
    with doing(f"writing {parquet}"):
        write_parquet(
            kmeans, rows, parquet, texts=lines, columns=embeddings.others(rows), id_column=embeddings.carried.id_column,
            names=names, projection=cast(ProjectionName, projection), force=force,
        )  # fmt: skip
    if as_json:
        tell_json({"table": str(parquet), "rows": len(rows), "bytes": parquet.stat().st_size})
    elif not quiet:
        say(f"Wrote {len(rows):,} rows to {parquet}")

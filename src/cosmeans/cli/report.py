"""The command `report`. What does the work is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from cosmeans.atomic import refuse_existing
from cosmeans.choices import ProjectionName
from cosmeans.cli import flags
from cosmeans.cli.app import command
from cosmeans.cli.given import without_effect
from cosmeans.cli.row_files import RowFiles
from cosmeans.console import say


@command()
@flags.takes_rows_and_columns
def report(
    context: typer.Context,
    model: flags.Model,
    embeddings: RowFiles,
    texts: flags.Texts = None,
    column: flags.Column = None,
    images: Annotated[
        str | None, typer.Option("--images", help="one path of a picture per row (.txt or .txt.gz)", metavar="FILE")
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", help="a column with the address of each row (https://...)", metavar="NAME")
    ] = None,
    names: flags.Names = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="also show where the rows were in this model", metavar="MODEL")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="heading of the page", metavar="TEXT")] = "Clusters",
    n_examples: Annotated[int, typer.Option("--examples", help="closest and worst-fitting rows per cluster")] = 5,
    sample: Annotated[int, typer.Option("--sample", help="rows on the map, 0 for none")] = 10_000,
    projection: flags.Projection = "auto",
    out: Annotated[Path, typer.Option("--out", help="page to write", metavar="FILE")] = Path("report.html"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Write a page about the clusters of a model: one HTML file that opens without a network."""
    if sample == 0:
        without_effect(context, ("projection",), "with --sample 0: there is no map")
    refuse_existing(out, force, folder=False)
    from cosmeans.cli.outputs import find_model, load_model
    from cosmeans.cli.tell import tell_json
    from cosmeans.cli.texts import described, given_texts
    from cosmeans.report import check_options, write_report
    from cosmeans.rows.texts import read_texts

    check_options(n_examples, sample, projection)
    kmeans = load_model(model, quiet)
    rows = embeddings.open()
    lines = given_texts(texts, rows, column)
    paths = None if images is None else read_texts(images, len(rows))
    write_report(
        kmeans, rows, out, texts=lines, images=paths, names=names, title=title, n_examples=n_examples, sample=sample,
        compare=None if compare is None else find_model(compare), projection=cast(ProjectionName, projection),
        force=force, **described(embeddings, rows, link),
    )  # fmt: skip
    if as_json:
        tell_json({"report": str(out), "rows": len(rows), "bytes": out.stat().st_size})
    elif not quiet:
        say(f"The report is stored in {out}")

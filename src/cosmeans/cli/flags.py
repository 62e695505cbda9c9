"""The flags, each declared once; their help is the help of FitOptions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmeans.cli import results
from cosmeans.errors import OptionError
from cosmeans.options import FitOptions


def _fit_option(name: str, *flags: str, metavar: str | None = None) -> Any:
    """A flag that explains itself by FitOptions; which also checks the value, like a call from Python."""
    spec = next(spec for spec in fields(FitOptions) if spec.name == name)
    choices = "|".join(spec.metadata["choices"]) or metavar
    return typer.Option(*flags, help=FitOptions.help(name), metavar=choices)


def _if_there_is_a_stdout(wanted: bool) -> bool:
    """Before the work, not after it."""
    if wanted and not results.is_open():
        raise OptionError("--json writes to the standard output, which is closed. Send it somewhere (> FILE).")
    return wanted


NClusters = Annotated[int | None, _fit_option("n_clusters", "--n-clusters", "-k", metavar="K")]
BatchSize = Annotated[int | None, _fit_option("batch_size", "--batch-size", metavar="ROWS")]
Epochs = Annotated[int, _fit_option("epochs", "--epochs")]
Init = Annotated[
    str, typer.Option("--init", help="how the first centroids are chosen", metavar="random|k-means++|nested")
]
NInit = Annotated[int, _fit_option("n_init", "--n-init")]
Tol = Annotated[float, _fit_option("tol", "--tol")]
RandomState = Annotated[
    int,
    typer.Option("--random-state", "--seed", help="seed of every random choice; the same seed gives the same answer"),
]
ZeroRows = Annotated[str, _fit_option("zero_rows", "--zero-rows")]
Nonfinite = Annotated[str, _fit_option("nonfinite", "--nonfinite")]
EmptyClusters = Annotated[str, _fit_option("empty_clusters", "--empty-clusters")]
Backend = Annotated[str, _fit_option("backend", "--backend")]
Strategy = Annotated[str, _fit_option("strategy", "--strategy")]
MemoryLimit = Annotated[int | None, _fit_option("memory_limit", "--memory-limit", metavar="BYTES")]
Device = Annotated[str, _fit_option("device", "--device")]

Embeddings = Annotated[Path, typer.Argument(help="rows: .npy, .npz, .pt, .pth or .safetensors", show_default=False)]
Model = Annotated[Path, typer.Argument(help="a model folder, or the folder that fit wrote", show_default=False)]
Key = Annotated[str | None, typer.Option("--key", help="which array, if the file holds several", metavar="NAME")]
Weights = Annotated[Path | None, typer.Option("--weights", help="a file with one weight per row", metavar="FILE")]
Texts = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        help="one text per row: .txt, .csv, .tsv, .parquet or .jsonl; clusters are shown by them",
        metavar="FILE",
    ),
]
Column = Annotated[
    str | None, typer.Option("--column", help="the column with the texts, if the file has several", metavar="NAME")
]
Order = Annotated[
    str | None,
    typer.Option("--order", help="number the clusters by their rows, most first", metavar="size"),
]
Report = Annotated[bool, typer.Option("--report", help="also write report.html: a page on the clusters to look at")]
Force = Annotated[bool, typer.Option("--force", help="replace outputs that exist")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress and no summary")]
Json = Annotated[
    bool,
    typer.Option("--json", help="one JSON object on stdout, and nothing else there", callback=_if_there_is_a_stdout),
]

"""The commands that come after the labels: choose, measure, compare and use clusters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cosmeans.atomic import refuse_existing
from cosmeans.choose import choose_k
from cosmeans.cli import flags, tables
from cosmeans.cli.outputs import find_model, read_texts, write_text
from cosmeans.cli.tell import say, tell_json
from cosmeans.dedup import deduplicate
from cosmeans.errors import OptionError
from cosmeans.estimator import KMeans
from cosmeans.evaluation import evaluate
from cosmeans.matching import match, moved
from cosmeans.rows.files import open_file
from cosmeans.stream import predict_arrow, predict_json_lines
from cosmeans.use import exemplars, outliers

app = typer.Typer()
_SHOWN = 20

Out = Annotated[Path, typer.Option("--out", help="what is found: .parquet, .csv or .npy (row numbers)", metavar="FILE")]


@app.command("choose-k")
def choose(
    embeddings: flags.Embeddings,
    ks: Annotated[
        str | None,
        typer.Option("--ks", help="numbers to try, as 10,20,40; default: from 2 up to 256", metavar="K,K,..."),
    ] = None,
    n_seeds: Annotated[int, typer.Option("--seeds", help="fits per number")] = 3,
    sample_size: Annotated[int, typer.Option("--sample", help="rows of the sample that is clustered")] = 20_000,
    epochs: Annotated[int, typer.Option("--epochs", help="most epochs of each fit")] = 50,
    init: flags.Init = "k-means++",
    random_state: flags.RandomState = 0,
    key: flags.Key = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder; finished fits in it are not done again", metavar="DIR"),
    ] = None,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Suggest a number of clusters; draw how good each is. Run it again to go on after an interruption."""
    tried = None if ks is None else _integers(ks)
    folder = out or Path(f"cosmeans-choose-{embeddings.stem}")
    choice = choose_k(
        open_file(embeddings, key),
        tried,
        n_seeds=n_seeds,
        sample_size=sample_size,
        epochs=epochs,
        init=init,
        random_state=random_state,
        folder=folder / "runs",
        verbose=int(not quiet),
    )
    choice.plot(folder / "curve.png")
    if as_json:
        tell_json(choice.to_json() | {"plot": str(folder / "curve.png")})
    elif not quiet:
        tables.show_choice(choice)
        say(f"{choice.reason}\nThe curve lies in {folder / 'curve.png'}")


@app.command("evaluate")
def measure(
    model: flags.Model,
    embeddings: flags.Embeddings,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="known class of each row: one a line, or .npy of integers", metavar="FILE"),
    ] = None,
    sample_size: Annotated[int, typer.Option("--sample", help="rows of the sampled silhouette")] = 5000,
    key: flags.Key = None,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Measure a model on embeddings, and against known classes."""
    rows = open_file(embeddings, key)
    known = None if classes is None else _classes(classes, len(rows))
    measured = evaluate(_load(model, quiet), rows, known, sample_size=sample_size)
    tell_json(measured.to_json()) if as_json else tables.show_evaluation(measured)


@app.command("outliers")
def find_outliers(
    model: flags.Model,
    embeddings: flags.Embeddings,
    quantile: Annotated[float | None, typer.Option("--quantile", help="share of the rows; default: 0.01")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="instead: all rows below this cosine")] = None,
    texts: flags.Texts = None,
    key: flags.Key = None,
    out: Out = Path("outliers.parquet"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """List the rows that fit their clusters worst."""
    lines, rows = _before(out, force, texts, embeddings, key)
    found = outliers(_load(model, quiet), rows, quantile=quantile, threshold=threshold)
    columns = tables.with_texts({"row": np.asarray(found.rows), "cosine": np.asarray(found.cosines)}, lines)
    tables.write(out, columns, force)
    if as_json:
        tell_json({"rows": len(found.rows), "threshold": _number(found.threshold), "outliers": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        say(f"{len(found.rows):,} rows with a cosine of at most {found.threshold:.4f} lie in {out}, worst first")


@app.command("exemplars")
def find_exemplars(
    model: flags.Model,
    embeddings: flags.Embeddings,
    m: Annotated[int, typer.Option("-m", "--rows", help="rows per cluster")] = 10,
    texts: flags.Texts = None,
    key: flags.Key = None,
    out: Out = Path("exemplars.parquet"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """List the rows closest to each centroid."""
    lines, rows = _before(out, force, texts, embeddings, key)
    found = exemplars(_load(model, quiet), rows, m)
    members, cosines = np.asarray(found.rows), np.asarray(found.cosines)
    there = members >= 0
    cluster = np.broadcast_to(np.arange(len(members))[:, None], members.shape)
    columns = tables.with_texts({"row": members[there], "cluster": cluster[there], "cosine": cosines[there]}, lines)
    tables.write(out, columns, force)
    if as_json:
        tell_json({"rows": int(there.sum()), "clusters": int(there.any(axis=1).sum()), "exemplars": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        say(f"{int(there.sum()):,} rows lie in {out}, by cluster, closest first")


@app.command("dedup")
def remove_duplicates(
    model: flags.Model,
    embeddings: flags.Embeddings,
    threshold: Annotated[
        float, typer.Option("--threshold", help="rows with at least this cosine are duplicates")
    ] = 0.95,
    keep: Annotated[
        str,
        typer.Option("--keep", help="which of them stays, by its cosine with the centroid", metavar="closest|farthest"),
    ] = "closest",
    max_cluster_size: Annotated[
        int, typer.Option("--max-cluster-size", help="larger clusters are compared in parts", metavar="ROWS")
    ] = 16_384,
    texts: flags.Texts = None,
    key: flags.Key = None,
    out: Annotated[Path, typer.Option("--out", help="the keep list: row numbers", metavar="FILE.npy")] = Path(
        "keep.npy"
    ),
    removed: Annotated[
        Path | None, typer.Option("--removed", help="also what goes, and why: .parquet or .csv", metavar="FILE")
    ] = None,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Find near-copies within clusters; write the list of rows to keep."""
    lines, rows = _before(out, force, texts, embeddings, key)
    if removed is not None:
        tables.check_path(removed)
        refuse_existing(removed, force)
    found = deduplicate(_load(model, quiet), rows, threshold, keep=keep, max_cluster_size=max_cluster_size)
    tables.write(out, {"row": np.asarray(found.kept)}, force)
    columns = {name: np.asarray(getattr(found, name)) for name in ("removed", "original", "cosines")}
    if lines is not None:
        columns |= {"text": np.array(lines)[columns["removed"]], "kept text": np.array(lines)[columns["original"]]}
    if removed is not None:
        tables.write(removed, columns, force)
    if as_json:
        tell_json({"rows": len(rows), "kept": len(found.kept), "removed": len(found.removed), "keep": str(out)})
    elif not quiet:
        tables.show(columns, _SHOWN)
        say(f"{len(found.removed):,} of {len(rows):,} rows are near-copies")
        say(f"The {len(found.kept):,} rows to keep lie in {out}")


@app.command("match")
def match_models(
    old: Annotated[Path, typer.Argument(help="the model whose ids are kept", show_default=False)],
    new: Annotated[Path, typer.Argument(help="the model to be renamed", show_default=False)],
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="rows: also tell which of them moved", metavar="FILE")
    ] = None,
    key: flags.Key = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="picture of what moved (needs --embeddings)", metavar="FILE.png")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="everything as JSON", metavar="FILE.json")] = None,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Say which cluster of a new model is which of an old one, and which rows moved."""
    if plot is not None and embeddings is None:
        raise OptionError("--plot draws how rows moved: name them with --embeddings FILE.")
    for path in (plot, out):
        if path is not None:
            refuse_existing(path, force)
    before, after = _load(old, quiet), _load(new, quiet)
    matched = match(before, after)
    record: dict[str, Any] = {
        "new_of_old": matched.new_of_old.tolist(),
        "ids_of_new": matched.ids.tolist(),
        "cosines": [float(cosine) for cosine in matched.cosines],
    }
    moves = None if embeddings is None else moved(before, after, open_file(embeddings, key), matched)
    if moves is not None:
        record["moves"] = moves.to_json()
    if plot is not None and moves is not None:
        moves.plot(plot)
    if out is not None:
        write_text(out, tables.as_json(record), force)
    if as_json:
        tell_json(record)
    elif not quiet:
        tables.show_match(matched, moves, _SHOWN)


def predict_stream(model: Path, arrow: bool, field: str) -> None:
    """Answer rows from stdin on stdout until they end."""
    answer = predict_arrow if arrow else predict_json_lines
    answer(_load(model, quiet=True), sys.stdin.buffer, sys.stdout.buffer, field)


def _load(path: Path, quiet: bool) -> KMeans:
    kmeans = KMeans.load(find_model(path))
    return kmeans.set_params(verbose=int(not quiet))


def _before(
    out: Path, force: bool, texts: Path | None, embeddings: Path, key: str | None
) -> tuple[list[str] | None, Any]:
    """Texts and rows, after everything that can be refused before the work."""
    tables.check_path(out)
    refuse_existing(out, force)
    rows = open_file(embeddings, key)
    return (None if texts is None else read_texts(texts, len(rows))), rows


def _classes(path: Path, n_rows: int) -> Any:
    return open_file(path, n_dims=1) if path.suffix == ".npy" else read_texts(path, n_rows)


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(f"--ks {text}: needed are integers with commas between them, as 10,20,40.") from error


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None

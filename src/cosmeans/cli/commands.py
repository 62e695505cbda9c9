"""The commands fit, predict, plot and demo: their flags, and what is wrong with a line whatever the files hold.

What does the work is imported when a command runs: `--help`, wrong usage and completion of a shell load no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cosmeans.atomic import new_file, refuse_existing
from cosmeans.cli import extras, flags, results
from cosmeans.cli.app import app, command
from cosmeans.cli.given import OF_FILES, was_given, without_effect
from cosmeans.cli.row_files import RowFiles
from cosmeans.console import say
from cosmeans.errors import OptionError
from cosmeans.paths import is_folder_name

_TUTORIAL_ROWS = 1_000_000
_MAKES_THE_START = ("n_clusters", "init", "n_init", "random_state")


def _version(wanted: bool) -> None:
    if wanted:
        from cosmeans.version import __version__

        results.put(f"cosmeans {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Spherical k-means for embeddings: one exact answer on every machine, fast."""


@command()
@flags.takes_fit_options
@flags.takes_rows_and_columns
def fit(
    context: typer.Context,
    embeddings: RowFiles,
    options: dict[str, Any],
    weights: flags.Weights = None,
    texts: flags.Texts = None,
    column: flags.Column = None,
    order: flags.Order = None,
    report: flags.Report = False,
    labels: flags.LabelKind = None,
    partition: flags.Partition = False,
    go_on_from: Annotated[
        Path | None, typer.Option("--from", help="continue from this saved model", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder of the results; default: cosmeans-NAME for NAME.npy", metavar="DIR"),
    ] = None,
    keep_cache: flags.KeepCache = False,
    beside: flags.Checkpoint = False,
    go_on: flags.Resume = None,
    force: flags.Force = False,
    rates: flags.Verbose = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Cluster embeddings; write model, labels, history and plot into a folder."""
    given = {name: value for name, value in options.items() if was_given(context, name)}
    if "cpu" in (options["device"], options["backend"]):
        without_effect(context, ("device_memory_limit",), "on a CPU")
    if options["backend"] in ("gpu", "reference"):
        without_effect(context, ("strategy",), f"with --backend {options['backend']}: it says how a CPU finds labels")
    if beside:
        without_effect(context, ("checkpoint",), "with --checkpoint, which names the folder")
    elif options["checkpoint"] is None:
        without_effect(context, ("checkpoint_seconds", "go_on"), "without --checkpoint or --checkpoint-dir")
    if options["cache"] == "off":
        without_effect(context, ("keep_cache",), "with --cache off: there is no copy to keep")
    if go_on_from is None:
        _require_clusters(options)
    else:
        _refuse_start(go_on_from, given)
    from cosmeans.cli import fitting
    from cosmeans.estimator import KMeans

    kmeans = KMeans(**options) if go_on_from is None else fitting.old_model(go_on_from, given)
    asked = fitting.Asked(
        weights=weights, texts=texts, column=column, order=order, report=report, labels=labels, partition=partition,
        out=out, keep_cache=keep_cache, beside=beside, resume="auto" if go_on is None else go_on,
        force=force, quiet=quiet,
        rates=rates, as_json=as_json,
    )  # fmt: skip
    fitting.fit(kmeans, embeddings, asked)


@command()
@flags.takes_rows_and_columns
def predict(
    context: typer.Context,
    model: flags.Model,
    embeddings: RowFiles,
    out: Annotated[
        str,
        typer.Option(
            "--out", help="labels: .npy, .parquet, or a folder with one table for each file of rows", metavar="FILE|DIR"
        ),
    ] = "labels.npy",
    texts: flags.Texts = None,
    column: flags.Column = None,
    labels: flags.LabelKind = None,
    partition: flags.Partition = False,
    memory_limit: flags.MemoryLimit = None,
    arrow: Annotated[bool, typer.Option("--arrow", help="with -: Arrow IPC streams instead of JSON lines")] = False,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Label embeddings with a saved model; with - as they arrive on stdin, with answers on stdout."""
    if embeddings.paths == ["-"]:
        of_files = (
            *(name for name in OF_FILES if name != "embedding"),
            "texts",
            "column",
            "out",
            "labels",
            "partition",
            "memory_limit",
            "force",
            "as_json",
        )
        without_effect(context, of_files, "with -: rows come from stdin, answers go to stdout")
        if arrow:
            extras.require("pyarrow", "--arrow")
        from cosmeans.cli.stream import predict_stream

        predict_stream(model, arrow, embeddings.options.get("embedding", "embedding"))
        return
    without_effect(context, ("arrow",), "without -: it is about rows that come from stdin")
    folder = is_folder_name(out)
    if not folder:
        without_effect(context, ("labels", "partition"), f"for one file of labels. Name a folder: --out {out}/")
    from cosmeans.cli.labelling import label_files
    from cosmeans.label_files.folder import TableOptions

    wanted = TableOptions(labels, embeddings.carried, partition)
    label_files(
        model, embeddings, out, wanted, texts=texts, column=column,
        folder=folder, memory_limit=memory_limit, force=force, quiet=quiet, as_json=as_json,
    )  # fmt: skip


@command()
def plot(
    model: flags.Model,
    out: Annotated[Path, typer.Option("--out", help="picture to write", metavar="FILE")] = Path("convergence.png"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Draw the convergence and the cluster sizes of a saved model."""
    if out.suffix != ".png":
        raise OptionError(f"--out {out}: pictures are written as .png. Change the suffix.")
    extras.require("matplotlib", "A plot")
    refuse_existing(out, force, folder=False)
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json
    from cosmeans.plot import plot_fit

    kmeans = load_model(model, quiet=True)
    with new_file(out, force) as drawn:
        plot_fit(kmeans.history_, counts=kmeans.counts_, path=drawn)
    if as_json:
        tell_json({"plot": str(out), "epochs": len(kmeans.history_)})
    elif not quiet:
        say(f"The plot is stored in {out}")


@command()
def demo(
    context: typer.Context,
    tutorial: Annotated[
        bool, typer.Option("--tutorial", help="random unit vectors of the tutorial's size instead of real texts")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", help="rows of --tutorial", min=1, metavar="N")] = _TUTORIAL_ROWS,
    n_clusters: Annotated[
        int | None,
        typer.Option("--clusters", "--n-clusters", "-k", help="default: 60, or 1000 with --tutorial", metavar="K"),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="default: 100, or 10 with --tutorial")] = None,
    batch_size: flags.BatchSize = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="only write the texts and embeddings as files, here", metavar="DIR")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="folder of the results", metavar="DIR")] = Path("demo-output"),
    force: flags.Force = False,
    rates: flags.Verbose = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Cluster 6,000 dictionary entries by meaning, or write them as files; or repeat the tutorial at its full size."""
    if data is not None:
        of_fits = ("tutorial", "rows", "n_clusters", "epochs", "batch_size", "out", "rates")
        without_effect(context, of_fits, "with --data, which writes files and clusters nothing")
        _write_data(data, force=force, quiet=quiet, as_json=as_json)
        return
    None if tutorial else without_effect(context, ("rows",), "without --tutorial: the texts are as many as they are")
    chosen = {"n_clusters": n_clusters, "epochs": epochs, "batch_size": batch_size}
    from cosmeans.cli import fitting

    chosen = {name: value for name, value in chosen.items() if value is not None}
    verbose = fitting.verbosity(quiet, rates)
    fitting.demo(chosen, tutorial=tutorial, rows=rows, out=out, force=force, verbose=verbose, as_json=as_json)


def _write_data(folder: Path, *, force: bool, quiet: bool, as_json: bool) -> None:
    extras.require("pyarrow", f"{folder}: a table")
    from cosmeans.cli.demo import write_data
    from cosmeans.cli.tell import tell_json

    files = write_data(folder, force)
    if as_json:
        tell_json({"files": files})
    elif not quiet:
        say(f"Wrote 6,000 dictionary entries to {', '.join(files.values())}")


def _require_clusters(options: dict[str, Any]) -> None:
    if options["n_clusters"] is None:
        raise OptionError(
            "The number of clusters is missing: pass -k K, or --from MODEL to continue from a saved model."
        )


def _refuse_start(model: Path, given: dict[str, Any]) -> None:
    """Raise OptionError for options that choose first centroids: a saved model has some."""
    if clash := [name for name in _MAKES_THE_START if name in given]:
        flag = {"n_clusters": "--clusters"}.get(clash[0], "--" + clash[0].replace("_", "-"))
        raise OptionError(
            f"--from continues from the centroids of {model}, so {flag} has no effect. Remove one of them."
        )

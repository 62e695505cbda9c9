"""The commands: read, fit, write, tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from cosmeans import __version__, demo_data
from cosmeans._estimator.file_labels import FileLabels
from cosmeans.analysis.matching import check_order, reorder
from cosmeans.atomic import new_file, refuse_existing
from cosmeans.cli import demo as demos
from cosmeans.cli import flags, results
from cosmeans.cli.interrupt import stop_on_interrupt
from cosmeans.cli.outputs import (
    FILES,
    check_label_path,
    find_model,
    load_model,
    output_folder,
    refuse_model,
    write_fit,
    write_labels,
)
from cosmeans.cli.row_cache import copied_rows
from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.stream import predict_stream
from cosmeans.cli.tell import show_clusters, tell_fit, tell_json, write_clusters
from cosmeans.cli.texts import given_texts
from cosmeans.console import say
from cosmeans.errors import OptionError
from cosmeans.estimator import KMeans
from cosmeans.label_files.folder import LabelFolder, Wanted, is_folder_name
from cosmeans.label_files.writers import PARQUET, layout_of
from cosmeans.plot import plot_fit
from cosmeans.progress import set_observer, watch
from cosmeans.report import check_options, write_report
from cosmeans.result import StopReason
from cosmeans.rows.readers.array_files import open_array

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Spherical k-means for embeddings: one exact answer on every machine, fast.",
)
_MAKES_THE_START = ("n_clusters", "init", "n_init", "random_state")


def _version(wanted: bool) -> None:
    if wanted:
        results.show(f"cosmeans {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Spherical k-means for embeddings: one exact answer on every machine, fast."""


@app.command()
@flags.takes_fit_options
@flags.takes_rows
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
        Path | None, typer.Option("--from", help="go on from this saved model", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder of the results; default: cosmeans-NAME for NAME.npy", metavar="DIR"),
    ] = None,
    keep_cache: flags.KeepCache = False,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Cluster embeddings; write model, labels, history and plot into a folder."""
    check_order(order)
    check_options() if report else None
    given = {name for name in options if _was_given(context, name)}
    if "cpu" in (options["device"], options["backend"]):
        _without_effect(context, ("device_memory_limit",), "on a CPU")
    wanted = Wanted(labels, embeddings.carried, partition)
    wanted.check()
    kmeans = _new_kmeans(options) if go_on_from is None else _old_kmeans(go_on_from, options, given)
    folder = out or Path(f"cosmeans-{embeddings.name}")
    with output_folder(folder, force) as new:
        rows = embeddings.open()
        if weights is not None and rows.weight_column is not None:
            raise OptionError("--weights and --weight-column both give weights. Remove one of them.")
        sample_weight = None if weights is None else open_array(weights, n_dims=1)
        several = len(rows.names) > 1 or labels is not None or partition
        tables = LabelFolder(new / FILES["tables"], rows, wanted) if several else None
        layout_of(PARQUET, rows, wanted.carried)
        lines = given_texts(texts, rows, column)
        with copied_rows(kmeans, rows, folder, keep=keep_cache, quiet=quiet):
            run_fit(kmeans, rows, quiet, sample_weight)
            kmeans = kmeans if order is None else reorder(kmeans, order, rows)
            written = write_fit(kmeans, new, rows, wanted.carried, tables)
            if lines is not None:
                written.append("clusters")
                write_clusters(kmeans, lines, new / FILES["clusters"])
            if report:
                written.append("report")
                write_report(kmeans, rows, new / FILES["report"], texts=lines, title=embeddings.name)
    files = {name: str(folder / FILES[name]) for name in written}
    if lines is not None and not (quiet or as_json):
        show_clusters(kmeans, lines)
    tell_fit(kmeans, rows, files, as_json=as_json, quiet=quiet)
    _exit_if_interrupted(kmeans)


@app.command()
@flags.takes_rows
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
    labels: flags.LabelKind = None,
    partition: flags.Partition = False,
    arrow: Annotated[bool, typer.Option("--arrow", help="with -: Arrow IPC streams instead of JSON lines")] = False,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Label embeddings with a saved model; with - as they arrive on stdin, with answers on stdout."""
    if embeddings.paths == ["-"]:
        of_files = (
            "key",
            "file_order",
            "dtype",
            "shape",
            "id_column",
            "carried",
            "out",
            "labels",
            "partition",
            "force",
            "as_json",
        )
        _without_effect(context, of_files, "with -: rows come from stdin, answers go to stdout")
        predict_stream(model, arrow, embeddings.options.get("embedding", "embedding"))
        return
    _without_effect(context, ("arrow",), "without -: it is about rows that come from stdin")
    wanted = Wanted(labels, embeddings.carried, partition)
    if is_folder_name(out):
        wanted.check()
        refuse_model(Path(out))
    else:
        _without_effect(context, ("labels", "partition"), f"for one file of labels. Name a folder: --out {out}/")
        check_label_path(Path(out), embeddings.carried)
        refuse_existing(out, force, folder=False)
    kmeans = load_model(model, quiet)
    rows = embeddings.open()
    found = FileLabels(kmeans, rows)
    if is_folder_name(out):
        written = found.write(Path(out), wanted, force=force)
    else:
        written = write_labels(Path(out), rows, found, embeddings.carried, force)
    files = {"files": written.files, "kept": written.kept} if is_folder_name(out) else {}
    if as_json:
        tell_json({"rows": written.rows, "left_out": written.left_out, "labels": out} | files)
    elif not quiet:
        kept = f"; {written.kept} of {written.files} files were finished before" if written.kept else ""
        say(f"{written.rows:,} labels ({written.left_out:,} rows left out) are in {out}{kept}")


@app.command()
def plot(
    model: flags.Model,
    out: Annotated[Path, typer.Option("--out", help="picture to write", metavar="FILE")] = Path("convergence.png"),
    force: flags.Force = False,
) -> None:
    """Draw the convergence and the cluster sizes of a saved model."""
    if out.suffix != ".png":
        raise OptionError(f"--out {out}: pictures are written as .png. Change the suffix.")
    refuse_existing(out, force, folder=False)
    kmeans = KMeans.load(find_model(model))
    with new_file(out, force) as drawn:
        plot_fit(kmeans.history_, counts=kmeans.counts_, path=drawn)
    say(f"The plot is stored in {out}")


@app.command()
def demo(
    context: typer.Context,
    tutorial: Annotated[
        bool, typer.Option("--tutorial", help="random unit vectors of the tutorial's size instead of real texts")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", help="rows of --tutorial", min=1)] = demos.TUTORIAL_ROWS,
    n_clusters: Annotated[
        int | None,
        typer.Option("--clusters", "--n-clusters", "-k", help="default: 60, or 1000 with --tutorial", metavar="K"),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="default: 100, or 10 with --tutorial")] = None,
    batch_size: flags.BatchSize = None,
    out: Annotated[Path, typer.Option("--out", help="folder of the results", metavar="DIR")] = Path("demo-output"),
    force: flags.Force = False,
    quiet: flags.Quiet = False,
) -> None:
    """Cluster 6,000 dictionary entries by meaning; or repeat the tutorial at its full size."""
    None if tutorial else _without_effect(context, ("rows",), "without --tutorial: the texts are as many as they are")
    kmeans = demos.tutorial_kmeans() if tutorial else demos.texts_kmeans()
    chosen = {"n_clusters": n_clusters, "epochs": epochs, "batch_size": batch_size}
    kmeans.set_params(**{name: value for name, value in chosen.items() if value is not None})
    with output_folder(out, force) as new:
        vectors, lines = (demos.random_unit_rows(rows, quiet), None) if tutorial else demo_data.sample()
        run_fit(kmeans, vectors, quiet)
        written = write_fit(kmeans, new)
        if lines is not None:
            written += ["clusters", "report"]
            write_clusters(kmeans, lines, new / FILES["clusters"])
            write_report(kmeans, vectors, new / FILES["report"], texts=lines, title="Dictionary entries")
    files = {name: str(out / FILES[name]) for name in written}
    if lines is not None and not quiet:
        show_clusters(kmeans, lines)
    if isinstance(vectors, Tensor) and not quiet:
        demos.tell_speed_and_memory(kmeans, vectors)
    tell_fit(kmeans, vectors, files, as_json=False, quiet=quiet)
    _exit_if_interrupted(kmeans)


def run_fit(kmeans: KMeans, rows: Any, quiet: bool, sample_weight: Any = None) -> None:
    """Fit with progress on stderr; the first Ctrl-C ends it cleanly."""
    observer = watch(len(rows), flops_per_row=2 * kmeans.n_clusters * rows.shape[1], verbose=int(not quiet))
    kmeans.verbose = int(not quiet)
    set_observer(kmeans, observer)
    try:
        with stop_on_interrupt(observer):
            kmeans.fit(rows, sample_weight=sample_weight)
    except KeyboardInterrupt:
        say("Interrupted before the first epoch: there is nothing to save.")
        raise typer.Exit(1) from None
    finally:
        set_observer(kmeans, None)  # it was for this fit: it may have been told to stop


def _new_kmeans(values: dict[str, Any]) -> KMeans:
    if values["n_clusters"] is None:
        raise OptionError("The number of clusters is missing: pass -k K, or --from MODEL to go on from a model.")
    return KMeans(**values)


def _old_kmeans(model: Path, values: dict[str, Any], given: set[str]) -> KMeans:
    """A saved model with the options that were given now; it keeps its number of clusters and its seed."""
    if clash := [name for name in _MAKES_THE_START if name in given]:
        flag = "--" + clash[0].replace("_", "-")
        raise OptionError(f"--from goes on from the centroids of {model}, so {flag} has no effect. Remove one of them.")
    changed = {name: value for name, value in values.items() if name in given}
    kmeans = KMeans.load(find_model(model))
    kmeans.set_params(warm_start=True, max_iter=None, **changed)
    return kmeans


def _without_effect(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Raise OptionError for the first of these options that was given: nothing that is asked for is ignored."""
    for parameter in context.command.params:
        if parameter.name in names and _was_given(context, parameter.name):
            raise OptionError(f"{max(parameter.opts, key=len)} has no effect {why}. Remove it.")


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _exit_if_interrupted(kmeans: KMeans) -> None:
    if kmeans.stop_reason_ is StopReason.INTERRUPTED:
        raise typer.Exit(1)

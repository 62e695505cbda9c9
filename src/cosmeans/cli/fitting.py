"""The work of `fit` and `demo`: read, fit, write, tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from torch import Tensor

from cosmeans import demo_data
from cosmeans.analysis.matching import check_order, reorder
from cosmeans.cli import demo as demos
from cosmeans.cli import extras
from cosmeans.cli.interrupt import stop_on_interrupt
from cosmeans.cli.outputs import FILES, find_model, output_folder, write_fit
from cosmeans.cli.row_cache import copied_rows
from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.silence import doing
from cosmeans.cli.tell import show_clusters, tell_fit, write_clusters
from cosmeans.cli.texts import described, given_texts
from cosmeans.console import say
from cosmeans.errors import OptionError
from cosmeans.estimator import KMeans
from cosmeans.label_files.columns import Carried
from cosmeans.label_files.folder import LabelFolder, TableOptions
from cosmeans.label_files.writers import PARQUET, layout_of
from cosmeans.progress import set_observer, watch
from cosmeans.report import check_options, write_report
from cosmeans.result import StopReason
from cosmeans.rows.readers.array_files import open_array

_PACKAGES = {"plot": "matplotlib", "table": "pyarrow", "report": "jinja2"}  # what files of a fit need


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a fit besides its options, as the flags of `fit` have it."""

    weights: str | None
    texts: str | None
    column: str | None
    order: str | None
    report: bool
    labels: str | None
    partition: bool
    out: Path | None
    keep_cache: bool
    beside: bool  # keep a checkpoint beside the output
    resume: bool | str
    force: bool
    quiet: bool
    rates: bool
    as_json: bool


def old_model(path: Path, changed: dict[str, Any]) -> KMeans:
    """A saved model with the options that were given now; it keeps its number of clusters and its seed."""
    kmeans = KMeans.load(find_model(path))
    kmeans.set_params(warm_start=True, max_iter=None, **changed)
    return kmeans


def fit(kmeans: KMeans, embeddings: RowFiles, asked: Asked) -> None:
    """Fit the model, and write everything that is asked for into one folder."""
    verbosity(asked.quiet, asked.rates)
    check_order(asked.order)
    check_options() if asked.report else None
    wanted = TableOptions(asked.labels, embeddings.carried, asked.partition)
    if not extras.missing("pyarrow") or wanted != TableOptions():  # a table that nobody asked for may be left out
        wanted.check()
    folder = asked.out or Path(f"cosmeans-{embeddings.name}")
    if asked.beside:
        kmeans.set_params(checkpoint=f"{folder}.checkpoint")
    kmeans.set_params(resume=asked.resume)
    with output_folder(folder, asked.force) as new:
        rows = embeddings.open()
        if asked.weights is not None and rows.weight_column is not None:
            raise OptionError("--weights and --weight-column both give weights. Remove one of them.")
        sample_weight = None if asked.weights is None else open_array(asked.weights, n_dims=1)
        lines = given_texts(asked.texts, rows, asked.column)
        wanted = replace(wanted, carried=replace(wanted.carried, texts=lines))
        wanted.carried.refuse_clash()
        several = len(rows.names) > 1 or asked.labels is not None or asked.partition
        tables = LabelFolder(new / FILES["tables"], rows, wanted) if several else None
        layout_of(PARQUET, rows, wanted.carried)
        skipped = _left_out("plot", *([] if tables else ["table"]))
        with copied_rows(kmeans, rows, folder, keep=asked.keep_cache, quiet=asked.quiet):
            _run(kmeans, rows, verbosity(asked.quiet, asked.rates), sample_weight)
            kmeans = kmeans if asked.order is None else reorder(kmeans, asked.order, rows)
            with doing(f"writing the files of {folder}"):
                written = write_fit(kmeans, new, rows, wanted.carried, tables, skipped)
                if lines is not None:
                    written.append("clusters")
                    write_clusters(kmeans, lines, new / FILES["clusters"])
            if asked.report:
                written.append("report")
                about = described(embeddings, rows)
                title = f"Clusters of {embeddings.name}"
                write_report(kmeans, rows, new / FILES["report"], texts=lines, title=title, **about)
    files = {name: str(folder / FILES[name]) for name in written}
    if not (asked.quiet or asked.as_json):
        with doing("finding the words of the clusters"):
            show_clusters(kmeans, lines, files.get("clusters"))
    tell_fit(kmeans, rows, files, as_json=asked.as_json, quiet=asked.quiet)
    _exit_if_interrupted(kmeans)


def demo(
    chosen: dict[str, Any], *, tutorial: bool, rows: int, out: Path, force: bool, verbose: int, as_json: bool
) -> None:
    """Fit the rows of the demo. chosen: options in place of the demo's own."""
    quiet = not verbose
    kmeans = demos.tutorial_kmeans() if tutorial else demos.texts_kmeans()
    kmeans.set_params(**chosen)
    skipped = _left_out("plot", "table", *([] if tutorial else ["report"]))
    with output_folder(out, force) as new:
        vectors, lines = (demos.random_unit_rows(rows, quiet), None) if tutorial else demo_data.sample()
        _run(kmeans, vectors, verbose)
        with doing(f"writing the files of {out}"):
            written = write_fit(kmeans, new, carried=Carried(texts=lines), skipped=skipped)
            if lines is not None:
                written.append("clusters")
                write_clusters(kmeans, lines, new / FILES["clusters"])
        if lines is not None and "report" not in skipped:
            written.append("report")
            write_report(kmeans, vectors, new / FILES["report"], texts=lines, title="Dictionary entries")
    files = {name: str(out / FILES[name]) for name in written}
    if not (quiet or as_json):
        show_clusters(kmeans, lines, files.get("clusters"))
    if isinstance(vectors, Tensor) and not quiet:
        demos.tell_speed_and_memory(kmeans, vectors)
    tell_fit(kmeans, vectors, files, as_json=as_json, quiet=quiet)
    _exit_if_interrupted(kmeans)


def _left_out(*names: str) -> list[str]:
    """Those of these files of a fit that can't be written without a package, which is told."""
    packages = {_PACKAGES[name]: name for name in names}
    return [packages[package] for package in extras.left_out({p: FILES[name] for p, name in packages.items()})]


def verbosity(quiet: bool, rates: bool) -> int:
    """The option `verbose` that two flags say. Raises OptionError if both were given."""
    if quiet and rates:
        raise OptionError("--quiet and --verbose say the opposite. Remove one of them.")
    return 0 if quiet else 1 + rates


def _run(kmeans: KMeans, rows: Any, verbose: int, sample_weight: Any = None) -> None:
    """Fit with progress on stderr; the first Ctrl-C ends it cleanly."""
    flops = 2 * kmeans.n_clusters * rows.shape[1] if verbose > 1 else 0
    observer = watch(len(rows), flops_per_row=flops, verbose=verbose)
    kmeans.verbose = verbose
    set_observer(kmeans, observer)
    try:
        with stop_on_interrupt(observer):
            kmeans.fit(rows, sample_weight=sample_weight)
    except KeyboardInterrupt:
        say("Interrupted before the first epoch: there is nothing to save.")
        raise typer.Exit(1) from None
    finally:
        set_observer(kmeans, None)  # it was for this fit: it may have been told to stop


def _exit_if_interrupted(kmeans: KMeans) -> None:
    if kmeans.stop_reason_ is StopReason.INTERRUPTED:
        raise typer.Exit(1)

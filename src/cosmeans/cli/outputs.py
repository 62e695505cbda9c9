"""What the commands write: each file whole or not at all, and the files of a fit all or none."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosmeans._estimator import file_labels
from cosmeans._estimator.file_labels import FileLabels, pieces_of
from cosmeans._estimator.fitted_state import state_of
from cosmeans.atomic import new_file, new_folder, put_back, refuse_existing
from cosmeans.cli.silence import doing
from cosmeans.errors import OptionError, OutputExistsError, WriteError
from cosmeans.estimator import KMeans
from cosmeans.label_files.columns import Carried
from cosmeans.label_files.folder import LabelFolder, Written, refuse_foreign
from cosmeans.label_files.writers import (
    NPY,
    PARQUET,
    Pieces,
    in_chunks,
    layout_of,
    require_tables,
    write_table,
)
from cosmeans.model_file import TENSORS, VALUES, is_model
from cosmeans.plot import plot_fit
from cosmeans.rows.files import FileRows

LABEL_SUFFIXES = (".npy", ".parquet")
FILES = {
    "model": "model",
    "labels": "labels.npy",
    "table": "labels.parquet",
    "tables": "labels",
    "history": "history.json",
    "plot": "convergence.png",
    "clusters": "clusters.md",
    "report": "report.html",
}


@contextmanager
def output_folder(folder: Path, force: bool) -> Iterator[Path]:
    """An empty folder for the outputs of one fit, all of which appear at once in `folder` when the block ends well.

    Checked before the work: raises OutputExistsError if `folder` exists and force is False, or if one of `FILES` in it
    is something that force doesn't replace; WriteError if nothing can be written there. If the work fails, everything
    that was there is still there. Other things in an older folder are carried over to the new one.
    """
    put_back(folder)
    if force and folder.is_dir():
        for name in FILES.values():
            if os.path.lexists(folder / name):
                model, tables = name == FILES["model"], name == FILES["tables"]
                owned = (TENSORS, VALUES) if model else None
                refuse_existing(folder / name, force, folder=model or tables, owned=owned)
                if tables:
                    refuse_foreign(folder / name)
    with new_folder(folder, force, owned=FILES.values(), keep_others=True) as new:
        try:
            yield new
        except WriteError as error:  # people know the folder by its own name
            raise WriteError(str(error).replace(str(new), str(folder))) from error


def write_fit(
    kmeans: KMeans,
    new: Path,
    rows: FileRows | None = None,
    carried: Carried = Carried(),  # noqa: B008  a value that nobody changes
    tables: LabelFolder | None = None,
    skipped: Collection[str] = (),
) -> list[str]:
    """Model, labels, history and plot of a fit into a new folder; returns their names in `FILES`.

    rows     of the fit, where they came from files: carried columns are read from there
    tables   one for each file of rows; None: labels are in one array and one table
    skipped  names in `FILES` that are not written
    """
    kmeans.save(new / FILES["model"])
    if tables is None:
        for kind, name in ((NPY, "labels"), (PARQUET, "table")):
            if name not in skipped:
                pieces = pieces_of(kmeans, 0, len(kmeans.labels_))
                _write_table(new / FILES[name], kind, rows, len(kmeans.labels_), carried, pieces)
    else:
        file_labels.write_fit(tables, state_of(kmeans))
    write_text(new / FILES["history"], json.dumps(history_record(kmeans), indent=1) + "\n")
    if "plot" not in skipped:
        plot_fit(kmeans.history_, counts=kmeans.counts_, path=new / FILES["plot"])
    written = ["model", *(["labels", "table"] if tables is None else ["tables"]), "history", "plot"]
    return [name for name in written if name not in skipped]


def given_seed(kmeans: KMeans) -> int:
    """The seed that gives this fit again: as it was given, or the one that was drawn."""
    given = kmeans.random_state
    return given if isinstance(given, int) else kmeans.random_state_


def history_record(kmeans: KMeans) -> dict[str, Any]:
    """Seed, outcome and every epoch, and what the epochs of the last fit cost: it tells how a run went."""
    return {
        "random_state": given_seed(kmeans),
        "seed": kmeans.random_state_,
        "stop_reason": kmeans.stop_reason_.value,
        "iterations": kmeans.history_.to_json(),
        "costs": [cost.to_json() for cost in kmeans.costs_],
    }


def write_labels(path: Path, rows: FileRows, labels: FileLabels, carried: Carried, force: bool) -> Written:
    """Labels of all rows in one file: .npy (N,) int64, or a table. Raises OutputExistsError, OptionError."""
    check_label_path(path, carried)
    kind = path.suffix.removeprefix(".")
    pieces = labels.watched_pieces(rows.whole(), similarity=kind != NPY)
    _write_table(path, kind, rows, len(rows), carried, pieces, force)
    labels.warn_of_left_out()
    return Written(len(rows), labels.left_out, 1, 0)


def _write_table(
    path: Path, kind: str, rows: FileRows | None, n_rows: int, carried: Carried, pieces: Pieces, force: bool = False
) -> None:
    layout = layout_of(kind, rows, carried, old_name=True)
    with new_file(path, force) as temporary, temporary.open("wb") as file:
        write_table(kind, file, n_rows, layout, in_chunks(kind, rows, layout, pieces))


def check_label_path(path: Path, carried: Carried, texts: bool = False) -> None:
    """Raise OptionError unless labels can be written in the kind that the suffix names, with texts or without."""
    if path.suffix not in LABEL_SUFFIXES:
        raise OptionError(
            f"--out {path}: labels are written as {' or '.join(LABEL_SUFFIXES)}, or into a folder (--out {path}/). "
            "Change the suffix."
        )
    if (carried.names or texts) and path.suffix != ".parquet":
        what = "columns are" if carried.names else "texts are"
        table = path.with_suffix(".parquet")
        raise OptionError(f"--out {path} holds labels alone; {what} carried to .parquet. Pass --out {table}.")
    if path.suffix == ".parquet":
        require_tables()
    carried.refuse_clash()


def refuse_model(path: Path) -> None:
    """Raise OutputExistsError for a model folder, which holds nothing else."""
    if is_model(path):
        raise OutputExistsError(f"{path} is a model folder, and labels go to a folder of their own. Choose another.")


def write_text(path: Path, text: str, force: bool = False) -> None:
    with new_file(path, force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def find_model(path: Path) -> Path:
    """The model folder at a path: the path itself, or `model` in the folder that `fit` wrote."""
    put_back(path)
    return path / "model" if not is_model(path) and is_model(path / "model") else path


def load_model(path: Path, quiet: bool) -> KMeans:
    """The model at a path, with or without progress bars."""
    with doing("loading the model"):
        kmeans = KMeans.load(find_model(path))
    kmeans.set_params(verbose=int(not quiet))
    return kmeans

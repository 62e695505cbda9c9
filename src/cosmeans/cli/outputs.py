"""What the commands write: each file whole or not at all, and the files of a fit all or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cosmeans.atomic import new_file, new_folder, put_back, refuse_existing
from cosmeans.errors import OptionError, WriteError
from cosmeans.estimator import KMeans
from cosmeans.model_file import TENSORS, VALUES, is_model
from cosmeans.plot import plot_fit

LABEL_SUFFIXES = (".npy", ".parquet")
FILES = {
    "model": "model",
    "labels": "labels.npy",
    "table": "labels.parquet",
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
                model = name == FILES["model"]
                refuse_existing(folder / name, force, folder=model, owned=(TENSORS, VALUES) if model else None)
    with new_folder(folder, force, owned=FILES.values(), keep_others=True) as new:
        try:
            yield new
        except WriteError as error:  # people know the folder by its own name
            raise WriteError(str(error).replace(str(new), str(folder))) from error


def write_fit(kmeans: KMeans, new: Path, others: Mapping[str, np.ndarray] | None = None) -> list[str]:
    """Model, labels, history and plot of a fit into a new folder; returns their names in `FILES`.

    others  columns (N,) of the rows that go into the table of labels
    """
    labels, similarity = np.asarray(kmeans.labels_), np.asarray(kmeans.similarity_)
    kmeans.save(new / FILES["model"])
    write_labels(new / FILES["labels"], labels, None)
    write_labels(new / FILES["table"], labels, similarity, others=others)
    write_text(new / FILES["history"], json.dumps(history_record(kmeans), indent=1) + "\n")
    plot_fit(kmeans.history_, counts=kmeans.counts_, path=new / FILES["plot"])
    return ["model", "labels", "table", "history", "plot"]


def history_record(kmeans: KMeans) -> dict[str, Any]:
    """Seed, outcome and every epoch, and what the epochs of the last fit cost: it tells how a run went."""
    return {
        "seed": kmeans.random_state_,
        "stop_reason": kmeans.stop_reason_.value,
        "iterations": kmeans.history_.to_json(),
        "costs": [cost.to_json() for cost in kmeans.costs_],
    }


def write_labels(
    path: Path,
    labels: np.ndarray,
    similarity: np.ndarray | None,
    force: bool = False,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Labels as .npy (N,) int64, or as .parquet with columns row, label and, where given, similarity and others."""
    check_label_path(path)
    with new_file(path, force) as temporary:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, labels)
            return
        import pyarrow
        from pyarrow import parquet

        columns = {"row": np.arange(len(labels)), "label": labels}
        if similarity is not None:
            columns["similarity"] = similarity
        columns = {**(others or {}), **columns}
        with temporary.open("wb") as file:  # Arrow takes some names for addresses, and can't say others in UTF-8
            parquet.write_table(pyarrow.table(columns), file)


def check_label_path(path: Path) -> None:
    """Raise OptionError unless labels can be written in the kind that the suffix names."""
    if path.suffix not in LABEL_SUFFIXES:
        raise OptionError(f"--out {path}: labels are written as {' or '.join(LABEL_SUFFIXES)}. Change the suffix.")


def write_text(path: Path, text: str, force: bool = False) -> None:
    with new_file(path, force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def find_model(path: Path) -> Path:
    """The model folder at a path: the path itself, or `model` in the folder that `fit` wrote."""
    put_back(path)
    return path / "model" if not is_model(path) and is_model(path / "model") else path


def load_model(path: Path, quiet: bool) -> KMeans:
    """The model at a path, with or without progress bars."""
    kmeans = KMeans.load(find_model(path))
    kmeans.set_params(verbose=int(not quiet))
    return kmeans

"""What the commands write: each file whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cosmeans.atomic import new_file, refuse_existing
from cosmeans.errors import OptionError, WriteError
from cosmeans.estimator import KMeans
from cosmeans.model_file import is_model
from cosmeans.plot import plot_fit

LABEL_SUFFIXES = (".npy", ".parquet")


@contextmanager
def output_folder(folder: Path, force: bool) -> Iterator[None]:
    """Make the folder before the work, so that a path that can't be written fails at once.

    Raises OutputExistsError if it exists and force is False. If the work fails, an empty new folder goes again.
    """
    refuse_existing(folder, force)
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"Can't make the folder {folder}: {error.strerror}. Choose another with --out.") from error
    try:
        if not os.access(folder, os.W_OK):
            raise WriteError(f"Can't write into {folder}: permission denied. Choose another with --out.")
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):  # not empty: something was saved, and stays
                folder.rmdir()
        raise


def write_fit(kmeans: KMeans, folder: Path, force: bool) -> dict[str, str]:
    """Model, labels, history and plot of a fit; returns what lies where."""
    labels, similarity = np.asarray(kmeans.labels_), np.asarray(kmeans.similarity_)
    files = {
        name: folder / file
        for name, file in {
            "model": "model",
            "labels": "labels.npy",
            "table": "labels.parquet",
            "history": "history.json",
            "plot": "convergence.png",
        }.items()
    }
    kmeans.save(files["model"], force=force)
    write_labels(files["labels"], labels, None, force)
    write_labels(files["table"], labels, similarity, force)
    write_text(files["history"], json.dumps(history_record(kmeans), indent=1) + "\n", force)
    plot_fit(kmeans.history_, counts=kmeans.counts_, path=files["plot"])
    return {name: str(path) for name, path in files.items()}


def history_record(kmeans: KMeans) -> dict[str, Any]:
    """Seed, outcome and every epoch, and what the epochs of the last fit cost: it tells how a run went."""
    return {
        "seed": kmeans.random_state_,
        "stop_reason": kmeans.stop_reason_.value,
        "iterations": kmeans.history_.to_json(),
        "costs": [cost.to_json() for cost in kmeans.costs_],
    }


def write_labels(path: Path, labels: np.ndarray, similarity: np.ndarray | None, force: bool) -> None:
    """Labels as .npy (N,) int64, or as .parquet with columns row, label and, where given, similarity."""
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
        with temporary.open("wb") as file:  # Arrow takes some names for addresses, and can't say others in UTF-8
            parquet.write_table(pyarrow.table(columns), file)


def check_label_path(path: Path) -> None:
    """Raise OptionError unless labels can be written in the kind that the suffix names."""
    if path.suffix not in LABEL_SUFFIXES:
        raise OptionError(f"--out {path}: labels are written as {' or '.join(LABEL_SUFFIXES)}. Change the suffix.")


def write_text(path: Path, text: str, force: bool) -> None:
    with new_file(path, force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def find_model(path: Path) -> Path:
    """The model folder at a path: the path itself, or `model` in the folder that `fit` wrote."""
    return path / "model" if not is_model(path) and is_model(path / "model") else path


def load_model(path: Path, quiet: bool) -> KMeans:
    """The model at a path, with or without progress bars."""
    kmeans = KMeans.load(find_model(path))
    return kmeans.set_params(verbose=int(not quiet))

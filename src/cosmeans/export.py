"""Rows with their clusters, names and places on a map, in one Parquet file: for explorers of embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans._estimator.opening import log_of, open_fitted
from cosmeans.analysis.assignments import checked_copy, loaded
from cosmeans.atomic import new_file, refuse_existing
from cosmeans.calls import public
from cosmeans.choices import ProjectionName
from cosmeans.containers.converted import on_host
from cosmeans.contracts import Session
from cosmeans.errors import InputError, OptionError
from cosmeans.estimator import KMeans
from cosmeans.label_files.columns import CLUSTER, ROW, SIMILARITY, as_similarity, in_order, refuse_clash
from cosmeans.label_files.writers import CHUNK_ROWS, require_tables
from cosmeans.options import check_switch
from cosmeans.page.analysis import rows_of
from cosmeans.page.columns import check_column
from cosmeans.page.examples import check_texts
from cosmeans.page.keywords import distinctive_words, name_of
from cosmeans.page.names import read_names
from cosmeans.page.projection import announce, check_projection, place_rows
from cosmeans.page.statistics import Placed, place
from cosmeans.paths import as_path
from cosmeans.printable import writable

OWN = (ROW, CLUSTER, "name", SIMILARITY, "x", "y")


@public
def write_parquet(
    model: KMeans[Any] | str | os.PathLike[str],
    X: Any,
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    id_column: str | None = None,
    names: Mapping[Any, str] | str | os.PathLike[str] | None = None,
    projection: ProjectionName = "auto",
    force: bool = False,
) -> Path:
    """Write one line per row: row, cluster, name, similarity, x, y, columns and text, in Parquet (needs pyarrow).

    x and y are float32 in units of the projection. Rows left out have cluster -1, and no name, x and y. Returns the
    path. Raises OptionError, InputError or FileError before any work is done.

    Parameters
    ----------
    model
        A fitted KMeans, or the folder of a saved one.
    X
        Rows (N, D), as `KMeans.predict` takes them; they are labelled by the model again.
    texts
        N texts: a column `text`, and distinctive words as names of clusters.
    columns
        A dict of names and N values each, more columns of the table.
    id_column
        Which of `columns` comes directly after `row`.
    names
        Names of clusters: a dict such as {0: "fish"}, or the names.json that a page saves.
    projection
        What x and y are: "umap" (needs umap-learn), "tsne", "pca", or "auto" for UMAP if it is installed, else t-SNE.
    force
        Replace a file at `path`.
    """
    target = as_path(path)
    refuse_existing(target, check_switch("force", force), folder=False)
    require_tables()
    check_projection(projection)
    refuse_clash((*OWN, "text"), columns or ())
    if id_column is not None and id_column not in (columns or ()):
        raise OptionError(f"id_column is {id_column!r}, which is none of the columns. Add it to columns.")
    kmeans = checked_copy(loaded(model), attribute="counts_")
    named = read_names(names, len(on_host(kmeans.counts_)))
    seen: dict[str, list[str] | None] = {}

    def check(n_rows: int) -> None:
        seen["texts"] = check_texts(texts, n_rows, "texts")
        for name, values in (columns or {}).items():
            check_column(name, values, n_rows)

    with open_fitted(kmeans, X, check=check) as (session, _, centroids):
        placed = place(session, centroids)
        points = _on_a_map(session, centroids, placed, projection, kmeans)
    lines = seen["texts"]
    called = _called(lines, placed.labels, len(centroids), named, kmeans.random_state_)
    carried = dict(columns or {}) | ({} if lines is None else {"text": lines})
    order = in_order(OWN, list(carried), id_column)
    with new_file(target, force) as temporary:
        _write(temporary, placed, points, called, carried, order)
    return target


def _on_a_map(session: Session, centroids: Tensor, placed: Placed, projection: str, kmeans: KMeans[Any]) -> np.ndarray:
    """x and y of all rows, (N, 2) float32, NaN for rows left out."""
    kept = np.flatnonzero(placed.kept)
    size = np.bincount(placed.labels[kept], minlength=len(centroids))
    announce(log_of(kmeans), projection, len(kept))
    host = centroids.cpu().numpy()
    plane = place_rows(rows_of(session), kept, host, size, projection, kmeans.random_state_)
    points = np.full((len(placed.labels), 2), np.nan, np.float32)
    if plane is not None:
        points[kept] = plane.points
    return points


def _called(
    texts: list[str] | None, labels: np.ndarray, n_clusters: int, named: dict[int, str], seed: int
) -> list[str]:
    """What each cluster is called: by people, else by its words, else by its number."""
    words: list[list[str]] = [[] for _ in range(n_clusters)]
    if texts is not None:
        words = distinctive_words(texts, labels, n_clusters, seed).words
    return [named.get(cluster, name_of(words[cluster], cluster)) for cluster in range(n_clusters)]


def _write(
    path: Path, placed: Placed, points: np.ndarray, called: list[str], carried: dict[str, Any], order: list[str]
) -> None:
    """Some rows at a time, so that the table is never in memory as a whole."""
    import pyarrow
    from pyarrow import parquet

    def table(start: int, stop: int) -> Any:
        labels = placed.labels[start:stop]
        found: dict[str, Any] = {
            ROW: np.arange(start, stop),
            CLUSTER: labels,
            "name": pyarrow.array([called[label] if label >= 0 else None for label in labels], pyarrow.string()),
            SIMILARITY: as_similarity(placed.similarity[start:stop]),
            "x": pyarrow.array(points[start:stop, 0], from_pandas=True),
            "y": pyarrow.array(points[start:stop, 1], from_pandas=True),
        }
        found |= {name: whole[name].slice(start, stop - start) for name in carried}
        return pyarrow.table({name: found[name] for name in order})

    whole = {name: _array(name, values) for name, values in carried.items()}
    n_rows = len(placed.labels)
    with path.open("wb") as file, parquet.ParquetWriter(file, table(0, 0).schema) as writer:
        for start in range(0, n_rows, CHUNK_ROWS):
            writer.write_table(table(start, min(start + CHUNK_ROWS, n_rows)))


def _array(name: str, values: Any) -> Any:
    """A column of Arrow; texts as Parquet can hold them."""
    import pyarrow

    listed = list(values) if not isinstance(values, np.ndarray) or values.dtype.kind == "O" else values
    if isinstance(listed, list):
        listed = [writable(value) if isinstance(value, str) else value for value in listed]
    try:
        return pyarrow.array(listed)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
        raise InputError(
            f"columns[{name!r}] can't be a column of a table: {error}. Pass values of one type."
        ) from error

"""A report on clusters for people: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmeans.analysis.assignments import checked_copy
from cosmeans.calls import public
from cosmeans.choices import ProjectionName
from cosmeans.estimator import KMeans
from cosmeans.page.write import check_options, check_target

__all__ = ["check_options", "write_report"]


@public
def write_report(
    model: KMeans[Any] | str | os.PathLike[str],
    X: Any,
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    title: str = "Clusters",
    n_examples: int = 5,
    sample: int = 2500,
    projection: ProjectionName = "pca",
    force: bool = False,
) -> Path:
    """Write a page about the clusters of these rows: one HTML file, which opens anywhere without a network.

    model       a fitted KMeans, or the folder of a saved one
    X           rows (N, D), as `KMeans.predict` takes them; they are labelled by the model again
    texts       N texts: shown for the closest and the worst-fitting rows, and read for distinctive words
    images      N paths of pictures: small ones are put into the page (needs Pillow)
    n_examples  closest and worst-fitting rows per cluster, at most; fewer where the page would exceed 10 MB
    sample      rows on the map, 0 for no map
    projection  of the map: "pca", or "umap" (needs umap-learn)
    force       replace a file at `path`

    The same model, rows and options give the same page. Memory beyond the rows: a few numbers per row, and cosines
    in blocks. Returns the path. Raises OptionError, InputError or FileError before any work is done.
    """
    check_target(path, force=force)
    check_options(n_examples, sample, projection, title)
    loaded = KMeans.load(model) if isinstance(model, str | os.PathLike) else model
    kmeans = checked_copy(loaded, attribute="counts_")
    return kmeans.report(
        X,
        path,
        texts=texts,
        images=images,
        title=title,
        n_examples=n_examples,
        sample=sample,
        projection=projection,
        force=force,
    )

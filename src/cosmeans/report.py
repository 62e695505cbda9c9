"""A report on clusters for people: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cosmeans._estimator.opening import open_fitted
from cosmeans.analysis.assignments import checked_copy, labels_and_scores, loaded
from cosmeans.analysis.matching import match
from cosmeans.calls import public
from cosmeans.choices import ProjectionName
from cosmeans.estimator import KMeans
from cosmeans.page.comparison import Comparison
from cosmeans.page.write import check_options, check_target, write_page

__all__ = ["check_options", "write_report"]

Model = KMeans[Any] | str | os.PathLike[str]


@public
def write_report(
    model: Model,
    X: Any,
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
    links: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    names: Mapping[Any, str] | str | os.PathLike[str] | None = None,
    compare: Model | None = None,
    title: str = "Clusters",
    n_examples: int = 5,
    sample: int = 10_000,
    projection: ProjectionName = "auto",
    force: bool = False,
) -> Path:
    """Write a page about the clusters of these rows: one HTML file, which opens anywhere without a network.

    The same model, rows, options and packages give the same page on the same machine. All rows are in it if they fit
    into 5 MB; otherwise those of the map. Memory beyond the rows: a few numbers per row, and cosines in blocks. Returns
    the path. Raises OptionError, InputError or FileError before any work is done.

    Parameters
    ----------
    model
        A fitted KMeans, or the folder of a saved one.
    X
        Rows (N, D), as `KMeans.predict` takes them; they are labelled by the model again.
    texts
        N texts: shown for the rows, and read for distinctive words.
    images
        N paths of pictures: small ones are put into the page (needs Pillow).
    ids
        N names of rows, shown in place of their numbers.
    links
        N addresses (https://...) that they lead to.
    columns
        A dict of names and N values each: filters of the page.
    names
        Names of clusters: a dict such as {0: "fish"}, or the names.json that the page saves.
    compare
        Another fitted KMeans, or the folder of one: the page says where the rows of each cluster were in it.
    n_examples
        Closest and worst-fitting rows per cluster, at most; fewer where the page would exceed 10 MB.
    sample
        Rows on the map, 0 for no map, at most 50,000.
    projection
        Of the map: "umap" (needs umap-learn), "tsne", "pca", or "auto" for UMAP if it is installed, else t-SNE.
    force
        Replace any file at `path`; a page that this function wrote is replaced in any case.
    """
    check_target(path, force=force)
    check_options(n_examples, sample, projection, title)
    kmeans = checked_copy(loaded(model), attribute="counts_")
    other = None if compare is None else _compared(kmeans, compare, X)
    return write_page(
        kmeans, partial(open_fitted, kmeans, X), path, texts=texts, images=images, ids=ids, links=links,
        columns=columns, names=names, title=title, n_examples=n_examples, sample=sample, projection=projection,
        comparison=other, force=force,
    )  # fmt: skip


def _compared(kmeans: KMeans[Any], compare: Model, X: Any) -> Comparison:
    """Where another model puts the same rows, and which of its clusters continues as which."""
    other = checked_copy(loaded(compare), "compare")
    matched = match(other, kmeans)
    labels, _ = labels_and_scores(other, X)
    title = Path(compare).name if isinstance(compare, str | os.PathLike) else "the other model"
    return Comparison(title, labels, matched.old_of_new, matched.new_of_old, matched.cosines)

"""`write_report`: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cosmeans.assigned import checked_copy
from cosmeans.atomic import new_file, refuse_existing
from cosmeans.calls import public
from cosmeans.errors import OptionError
from cosmeans.estimator import KMeans
from cosmeans.options import check_switch
from cosmeans.paths import as_path
from cosmeans.printable import brief
from cosmeans.report.examples import check_images, check_texts
from cosmeans.report.plane import check_projection
from cosmeans.report.render import render
from cosmeans.report.study import Asked, study

MAX_EXAMPLES, MAX_SAMPLE = 50, 10_000


@public
def write_report(
    model: KMeans | str | os.PathLike[str],
    X: Any,
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    title: str = "Clusters",
    n_examples: int = 5,
    sample: int = 2500,
    projection: str = "pca",
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
    target, force = as_path(path), check_switch("force", force)
    refuse_existing(target, force, folder=False)
    check_options(n_examples, sample, projection)
    if not isinstance(title, str):
        raise OptionError(f"title must be a string; got {brief(title)}.")
    loaded = KMeans.load(model) if isinstance(model, str | os.PathLike) else model
    kmeans = checked_copy(loaded, attribute="counts_")
    seen: dict[str, list[str] | None] = {}

    def check(n_rows: int) -> None:
        seen["images"], seen["texts"] = check_texts(images, n_rows, "images"), check_texts(texts, n_rows, "texts")
        check_images(seen["images"])

    rows, _, backend, observer, centroids = kmeans._open_fitted(X, check=check)
    asked = Asked(seen["texts"], seen["images"], n_examples, sample, projection)
    with observer:
        found = study(rows, centroids, backend, observer, asked, kmeans.random_state_)
    page = render(found, asked, kmeans, title)
    with new_file(target, force) as temporary:
        temporary.write_bytes(page)
    return target


def check_options(n_examples: int = 5, sample: int = 2500, projection: str = "pca") -> None:
    """Raise OptionError for what no report can be made with."""
    if find_spec("jinja2") is None:
        raise OptionError('A report needs jinja2, which is missing. Install it with: pip install "cosmeans[report]".')
    for name, value, low, high in (("n_examples", n_examples, 1, MAX_EXAMPLES), ("sample", sample, 0, MAX_SAMPLE)):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise OptionError(f"{name} must be an integer from {low} to {high:,}; got {brief(value)}.")
    check_projection(projection)

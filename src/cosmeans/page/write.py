"""Rows and a fitted model in, one HTML file out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cosmeans import console
from cosmeans.atomic import new_file, refuse_existing
from cosmeans.choices import ProjectionName
from cosmeans.errors import FileError, OptionError
from cosmeans.options import check_switch
from cosmeans.page.analysis import Asked, analyse
from cosmeans.page.columns import Column, read_columns
from cosmeans.page.comparison import Comparison
from cosmeans.page.examples import check_images, check_texts
from cosmeans.page.names import read_names
from cosmeans.page.projection import check_projection
from cosmeans.page.render import Fitted, render
from cosmeans.page.row_table import Described
from cosmeans.paths import as_path
from cosmeans.printable import brief
from cosmeans.reading import open_regular

MAX_EXAMPLES, MAX_SAMPLE = 50, 50_000
_MARK = b'<meta name="generator" content="cosmeans '  # what a page may replace
_HEAD = 4096  # bytes in which it is


def write_page(
    model: Fitted,
    open_rows: Callable[..., Any],
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
    links: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    names: Mapping[Any, str] | str | os.PathLike[str] | None = None,
    title: str = "Clusters",
    n_examples: int = 5,
    sample: int = 10_000,
    projection: ProjectionName = "auto",
    comparison: Comparison | None = None,
    force: bool = False,
) -> Path:
    """Write the page: `cosmeans.report.write_report` for a model that is loaded.

    open_rows  opens the rows under the model; open_rows(check=...) calls check(N) before any work
    """
    target = check_target(path, force=force)
    check_options(n_examples, sample, projection, title)
    named = read_names(names, len(model.counts_))  # raises where there was no fit
    seen: dict[str, list[str] | None] = {}
    filters: list[Column] = []

    def check(n_rows: int) -> None:
        seen["images"], seen["texts"] = check_texts(images, n_rows, "images"), check_texts(texts, n_rows, "texts")
        seen["ids"] = None if ids is None else check_texts(_as_texts(ids), n_rows, "ids")
        seen["links"] = check_texts(links, n_rows, "links")
        filters.extend(read_columns(columns, n_rows))
        check_images(seen["images"])

    with open_rows(check=check) as (session, _, centroids):
        log = console.log if model.verbose else console.silent
        described = Described(seen["texts"], seen["ids"], seen["links"], tuple(filters))
        asked = Asked(described, seen["images"], n_examples, sample, projection, named, comparison, log)
        found = analyse(session, centroids, asked, model.random_state_)
    page = render(found, asked, model, title)
    with new_file(target, force or _is_ours(target)) as temporary:
        temporary.write_bytes(page)
    return target


def _as_texts(ids: Sequence[Any]) -> Any:
    """Ids may be numbers."""
    if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__"):
        return ids
    return ["" if value is None else str(value) for value in ids]


def check_target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """The path of a page that may be written. Raises OptionError or FileError."""
    target = as_path(path)
    refuse_existing(target, check_switch("force", force) or _is_ours(target), folder=False)
    return target


def _is_ours(target: Path) -> bool:
    """Whether a page of this library is there."""
    try:
        with open_regular(target) as file:
            return _MARK in file.read(_HEAD)
    except (FileError, OSError):
        return False


def check_options(n_examples: int = 5, sample: int = 10_000, projection: str = "auto", title: str = "Clusters") -> None:
    """Raise OptionError for what no report can be made with."""
    if find_spec("jinja2") is None:
        raise OptionError('A report needs jinja2, which is missing. Install it with: pip install "cosmeans[report]".')
    for name, value, low, high in (("n_examples", n_examples, 1, MAX_EXAMPLES), ("sample", sample, 0, MAX_SAMPLE)):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise OptionError(f"{name} must be an integer from {low} to {high:,}; got {brief(value)}.")
    check_projection(projection)
    if not isinstance(title, str):
        raise OptionError(f"title must be a string; got {brief(title)}.")

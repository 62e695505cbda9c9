"""Look at the rows once, and keep what the page tells of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmeans.contracts import Session
from cosmeans.errors import InputError
from cosmeans.page.examples import Examples, gather
from cosmeans.page.findings import Flags, flag, odd_rows
from cosmeans.page.keywords import Keywords, distinctive_words
from cosmeans.page.projection import Projection, project
from cosmeans.page.sample import sample_rows
from cosmeans.page.statistics import Clusters, Nearest, Placed, describe, nearest, place

EXAMPLE_BYTES = 6 << 20  # texts and pictures; with everything else the page stays below 10 MB
MAX_CLUSTERS = 10_000  # more are not shown one by one
N_ODD = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants to see: N texts, N paths of pictures, rows per cluster, rows on the map, and how."""

    texts: list[str] | None
    images: list[str] | None
    n_examples: int
    sample: int
    projection: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found.

    shown    the clusters that the page names, largest first
    odd      rows that fit nowhere, worst first, at most N_ODD
    second   of every example: the most similar centroid other than its own
    n_best, n_worst  rows per cluster that the page has room for
    """

    placed: Placed
    clusters: Clusters
    near: Nearest
    flags: Flags
    shown: np.ndarray
    odd: np.ndarray
    examples: Examples
    second: Nearest
    n_best: int
    n_worst: int
    keywords: Keywords | None
    projection: Projection | None


def analyse(session: Session, centroids: Tensor, asked: Asked, seed: int) -> Analysis:
    """Place the rows and look at them from every side. Raises InputError if no row has a direction."""
    placed, rows = place(session, centroids), session.rows
    if not placed.kept.any():
        raise InputError(f"None of the {rows.n_rows:,} rows has a direction, so there is nothing to report on.")
    clusters = describe(placed, len(centroids), asked.n_examples)
    near = nearest(centroids, centroids, session, skip=np.arange(len(centroids)))
    flags = flag(placed, clusters, near)
    shown = np.argsort(-clusters.size, kind="stable")[:MAX_CLUSTERS]
    odd = odd_rows(placed, flags)[:N_ODD]
    examples, n_best, n_worst = gather(
        clusters.best[shown], clusters.worst[shown], asked.texts, asked.images, EXAMPLE_BYTES
    )
    examples.add(odd)
    vectors = rows.take(torch.tensor(examples.rows, dtype=torch.int64, device="cpu"))
    mapped = sample_rows(placed.kept & np.isin(placed.labels, shown), asked.sample, seed)
    units = rows.take(torch.from_numpy(mapped)).cpu().numpy()
    return Analysis(
        placed=placed,
        clusters=clusters,
        near=near,
        flags=flags,
        shown=shown,
        odd=odd,
        examples=examples,
        second=nearest(vectors, centroids, session, skip=placed.labels[examples.rows], m=1),
        n_best=n_best,
        n_worst=n_worst,
        keywords=None if asked.texts is None else distinctive_words(asked.texts, placed.labels, len(centroids), seed),
        projection=project(units, mapped, asked.projection, seed),
    )

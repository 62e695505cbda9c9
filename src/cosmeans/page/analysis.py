"""Look at the rows once, and keep what the page tells of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmeans.contracts import Session
from cosmeans.errors import InputError
from cosmeans.observer import Log
from cosmeans.page.comparison import Comparison
from cosmeans.page.examples import Examples, gather
from cosmeans.page.findings import Flags, flag, odd_rows
from cosmeans.page.hierarchy import topics
from cosmeans.page.keywords import Keywords, distinctive_words
from cosmeans.page.projection import Projection, announce, project
from cosmeans.page.row_table import ROWS_BYTES, Described, RowTable, row_table
from cosmeans.page.sample import sample_rows
from cosmeans.page.statistics import Clusters, Nearest, Placed, describe, nearest, place
from cosmeans.progress import watching

PAGE_BYTES = 9_500_000  # with the template the page stays below 10 MB
EXAMPLE_BYTES = 4 << 20  # texts and pictures
_CLUSTER_BYTES = 450  # of what is listed for each cluster
MAX_CLUSTERS = 10_000  # more are not shown one by one
N_ODD = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants to see.

    described   what is known of the rows; images: N paths of pictures
    n_examples  rows per cluster; sample: rows on the map, by which projection
    names       of clusters, by the people who know them
    log         where long work is announced
    """

    described: Described
    images: list[str] | None
    n_examples: int
    sample: int
    projection: str
    names: dict[int, str]
    comparison: Comparison | None
    log: Log

    @property
    def texts(self) -> list[str] | None:
        """One per row."""
        return self.described.texts


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found.

    shown    the clusters that the page names, largest first
    odd      rows that fit no cluster well, worst first, at most N_ODD
    second   of every example: the most similar centroid other than its own
    n_best, n_worst  rows per cluster that the page has room for
    topic    (K,) the topic of every cluster, and of topics the words
    rows     those that a reader can go through
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
    topic: np.ndarray
    topic_words: Keywords | None
    projection: Projection | None
    rows: RowTable


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
    texts = asked.texts
    examples, n_best, n_worst = gather(clusters.best[shown], clusters.worst[shown], texts, asked.images, EXAMPLE_BYTES)
    examples.add(odd)
    vectors = rows.take(torch.tensor(examples.rows, dtype=torch.int64, device="cpu"))
    host = centroids.cpu().numpy()
    topic = topics(host, clusters.size)
    watching().phase("map")
    projection = _mapped(session, host, placed, clusters, shown, asked, seed)
    watching().phase("examples" if texts is None else "keywords")
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
        keywords=None if texts is None else distinctive_words(texts, placed.labels, len(centroids), seed),
        topic=topic,
        topic_words=None if texts is None else _words_of_topics(texts, placed.labels, topic, seed),
        projection=projection,
        rows=row_table(placed, asked.described, projection, shown, _room(examples, len(shown))),
    )


def _room(examples: Examples, n_clusters: int) -> int:
    """Bytes that packed rows may take: what the examples and the clusters leave."""
    return min(ROWS_BYTES, PAGE_BYTES - examples.bytes - _CLUSTER_BYTES * n_clusters)


def _words_of_topics(texts: list[str], labels: np.ndarray, topic: np.ndarray, seed: int) -> Keywords:
    # -1 stays -1: the last entry is that of no cluster
    return distinctive_words(texts, np.append(topic, -1)[labels], int(topic.max()) + 1, seed)


def _mapped(
    session: Session,
    centroids: np.ndarray,
    placed: Placed,
    clusters: Clusters,
    shown: np.ndarray,
    asked: Asked,
    seed: int,
) -> Projection | None:
    """The map, after a word on what takes its time."""
    mapped = sample_rows(placed.kept & np.isin(placed.labels, shown), asked.sample, seed)
    announce(asked.log, asked.projection, len(mapped))
    return project(rows_of(session), mapped, centroids, clusters.size, asked.projection, seed)


def rows_of(session: Session) -> Callable[[np.ndarray], np.ndarray]:
    """What fetches unit rows by index, on the host."""

    def take(indices: np.ndarray) -> np.ndarray:
        return np.asarray(session.rows.take(torch.from_numpy(indices)).cpu().numpy())

    return take

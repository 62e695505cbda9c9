"""Clusters for readers: size, mean similarity and the texts that stand for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.table import Table
from rich.text import Text

from cosmeans import printable
from cosmeans.estimator import KMeans

TEXTS_PER_CLUSTER = 10


@dataclass(frozen=True, slots=True)
class Cluster:
    """label, number of rows, mean cosine with the centroid, and the closest rows, best first."""

    label: int
    size: int
    similarity: float
    closest: list[int]


def describe(kmeans: KMeans) -> list[Cluster]:
    """Clusters with rows, largest first (lowest label at a tie)."""
    labels, similarity = np.asarray(kmeans.labels_), np.asarray(kmeans.similarity_)
    # by cluster, then best first, then by row; rows without a label (-1) come first and are skipped
    order = np.lexsort((np.arange(len(labels)), -similarity, labels))
    starts = np.searchsorted(labels[order], np.arange(len(kmeans.cluster_centers_) + 1))
    clusters = []
    for label, (start, end) in enumerate(pairwise(starts)):
        rows = order[start:end]
        if len(rows):
            mean = float(similarity[rows].mean())
            clusters.append(Cluster(label, len(rows), mean, rows[:TEXTS_PER_CLUSTER].tolist()))
    return sorted(clusters, key=lambda cluster: (-cluster.size, cluster.label))


def table(clusters: list[Cluster], names: list[str] | None, n_shown: int) -> Table:
    """The largest clusters, one line for each, cut to the width of the screen.

    names  what each of these clusters is about
    """
    grid = Table(box=None, pad_edge=False)
    for name in ("cluster", "rows", "similarity"):
        grid.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    if names is not None:
        grid.add_column("words")
    for place, cluster in enumerate(clusters[:n_shown]):
        cells: list[str | Text] = [str(cluster.label), f"{cluster.size:,}", f"{cluster.similarity:.4f}"]
        if names is not None:
            # the words must not wrap, the column must: rich narrows only columns that do
            cells.append(Text(printable.line(names[place]), no_wrap=True, overflow="ellipsis"))
        grid.add_row(*cells)
    return grid


def markdown(clusters: list[Cluster], texts: list[str]) -> str:
    """All clusters with their closest texts, each as one line without markup of its own."""
    parts = ["# Clusters, largest first\n"]
    for cluster in clusters:
        parts.append(f"\n## Cluster {cluster.label}: {cluster.size:,} rows, similarity {cluster.similarity:.3f}\n\n")
        parts += [f"- {printable.markdown(texts[row])}\n" for row in cluster.closest]
    return "".join(parts)

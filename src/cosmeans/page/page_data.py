"""Everything the page shows, as plain values: what the template writes and what the script reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosmeans.page.analysis import Analysis, Asked
from cosmeans.page.comparison import comparison_columns
from cosmeans.page.examples import Examples, clean
from cosmeans.page.findings import Flags
from cosmeans.page.hierarchy import FLAT_UP_TO
from cosmeans.page.keywords import Keywords, name_of
from cosmeans.page.row_table import Described
from cosmeans.page.statistics import Clusters, Nearest, Placed
from cosmeans.result import History, StopReason

FLAG_NAMES = ("empty", "tiny", "giant", "twin", "loose")  # bit by bit, in `flags` of every cluster
_ENDED = {
    StopReason.FIXED_POINT: "no centroid moves",
    StopReason.TOLERANCE: "ended at the tolerance",
    StopReason.EPOCHS: "all epochs used",
    StopReason.INTERRUPTED: "interrupted",
}


def page_data(found: Analysis, asked: Asked, seed: int) -> dict[str, Any]:
    """What the script reads."""
    quantiles = found.clusters.quantiles[found.clusters.size > 0]
    listed = cluster_columns(found.shown, found.clusters, found.near, found.flags, found.keywords, found.examples)
    listed["name"] = [asked.names.get(cluster) for cluster in found.shown.tolist()]
    listed["topic"] = found.topic[found.shown].tolist()
    compared = asked.comparison
    return {
        "flagNames": FLAG_NAMES,
        "range": _short(np.array([quantiles[:, 0].min(), quantiles[:, -1].max()])),
        "clusters": listed,
        "topics": topic_columns(found),
        "examples": example_columns(found.examples, found.placed, found.second, asked.described),
        "columns": [
            {"name": column.name, "values": column.values} for column in asked.described.columns
        ],
        "comparison": None if compared is None else comparison_columns(
            compared, found.placed.labels, found.shown, asked.texts, seed
        ),
        "map": None if found.projection is None else {"proportional": found.projection.proportional},
        "rows": {"count": found.rows.n_rows, "complete": found.rows.complete},
        "odd": [found.examples.index[int(row)] for row in found.odd],
    }  # fmt: skip


def topic_columns(found: Analysis) -> dict[str, Any]:
    """The topics in the order of their numbers; `chapters`: whether the table has a chapter for each."""
    n_topics = int(found.topic.max()) + 1
    words = [[] for _ in range(n_topics)] if found.topic_words is None else found.topic_words.words
    return {
        "chapters": len(found.topic) > FLAT_UP_TO,
        "name": [name_of(words[topic], topic).replace("Cluster", "Topic") for topic in range(n_topics)],
    }


def cluster_columns(
    shown: np.ndarray, clusters: Clusters, near: Nearest, flags: Flags, keywords: Keywords | None, examples: Examples
) -> dict[str, list[Any]]:
    """One list per property, over the clusters shown; rows are places in the list of examples."""
    bits = sum(getattr(flags, name).astype(int) << bit for bit, name in enumerate(FLAG_NAMES))
    where = examples.index
    listed: dict[str, list[Any]] = {
        "id": shown.tolist(),
        "size": clusters.size[shown].tolist(),
        "mean": _short(clusters.mean[shown]),
        "spread": _short(clusters.spread[shown]),
        "quantiles": _short(clusters.quantiles[shown]),
        "flags": np.asarray(bits)[shown].tolist(),
        "near": near.cluster[shown].tolist(),
        "cosine": _short(near.cosine[shown]),
        "best": [[where[row] for row in rows if row in where] for rows in clusters.best[shown].tolist()],
        "worst": [[where[row] for row in rows if row in where] for rows in clusters.worst[shown].tolist()],
    }
    if keywords is not None:
        listed["words"] = [keywords.words[cluster] for cluster in shown]
        listed["shares"] = [[round(share, 2) for share in keywords.shares[cluster]] for cluster in shown]
    return listed


def example_columns(examples: Examples, placed: Placed, second: Nearest, described: Described) -> dict[str, list[Any]]:
    """The rows shown: index, cluster, similarity, the second nearest cluster with its cosine, text, picture, id."""
    rows = np.asarray(examples.rows, dtype=np.int64)
    listed: dict[str, list[Any]] = {
        "row": rows.tolist(),
        "cluster": placed.labels[rows].tolist(),
        "similarity": _short(placed.similarity[rows]),
        "text": examples.shown,
    }
    if second.cluster.shape[1]:
        listed["second"] = second.cluster[:, 0].tolist()
        listed["cosine"] = _short(second.cosine[:, 0])
    if examples.images is not None:
        listed["picture"] = list(examples.pictures)
    for name, values in (("ids", described.ids), ("links", described.links)):
        if values is not None:
            listed[name] = [clean(values[row]) for row in rows.tolist()]
    return listed


def key_figures(
    placed: Placed, clusters: Clusters, history: History, stop: StopReason, n_features: int
) -> list[dict[str, str]]:
    """The figures at the head of the page: name, value, note."""
    size = clusters.size
    similarity = placed.similarity[placed.kept]
    return [
        _fact("Rows", f"{len(placed.labels):,}", f"{n_features:,} features each"),
        _fact("Clusters", f"{len(size):,}", _sizes(size)),
        _fact("Mean similarity", f"{similarity.mean():.3f}", f"middle half {_middle(similarity)}"),
        _fact("Epochs", f"{len(history):,}", _ENDED[stop]),
    ]


def epoch_table(history: History) -> list[tuple[str, ...]]:
    """One line per epoch, as written into the page's table."""
    return [
        (
            f"{number:,}",
            f"{epoch.similarity:.6f}",
            "" if epoch.changed is None else f"{epoch.changed:,}",
            f"{epoch.shift:.4f}",
            f"{epoch.imbalance:.2f}",
            f"{epoch.largest:,}",
            f"{epoch.empty:,}",
        )
        for number, epoch in enumerate(history, 1)
    ]


def _fact(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _sizes(size: np.ndarray) -> str:
    if size.min() == size.max():
        return f"{size[0]:,} rows" + (" each" if len(size) > 1 else "")
    return f"{size.min():,} to {size.max():,} rows, mean {size.mean():,.0f}"


def _middle(similarity: np.ndarray) -> str:
    low, high = np.quantile(similarity, (0.25, 0.75))
    return f"{low:.3f} to {high:.3f}"


def _short(values: np.ndarray) -> list[Any]:
    """Four decimals: one more than the page shows."""
    rounded: list[Any] = np.round(values.astype(np.float64), 4).tolist()
    return rounded

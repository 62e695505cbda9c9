"""Everything the page shows, as plain values: what the template writes and what the script reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosmeans.page.analysis import Analysis
from cosmeans.page.examples import Examples
from cosmeans.page.findings import Flags
from cosmeans.page.keywords import Keywords
from cosmeans.page.projection import Projection, styles
from cosmeans.page.statistics import Clusters, Nearest, Placed
from cosmeans.result import History, StopReason

FLAG_NAMES = ("empty", "tiny", "giant", "twin", "loose")  # bit by bit, in `flags` of every cluster
_MAP_TEXT = 120
_ENDED = {
    StopReason.FIXED_POINT: "no centroid moves",
    StopReason.TOLERANCE: "ended at the tolerance",
    StopReason.EPOCHS: "all epochs used",
    StopReason.INTERRUPTED: "interrupted",
}


def page_data(found: Analysis) -> dict[str, Any]:
    """What the script reads."""
    quantiles = found.clusters.quantiles[found.clusters.size > 0]
    return {
        "flagNames": FLAG_NAMES,
        "range": _short(np.array([quantiles[:, 0].min(), quantiles[:, -1].max()])),
        "clusters": cluster_columns(
            found.shown, found.clusters, found.near, found.flags, found.keywords, found.examples
        ),
        "examples": example_columns(found.examples, found.placed, found.second),
        "map": map_columns(found.projection, found.placed, found.examples),
        "odd": [found.examples.index[int(row)] for row in found.odd],
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
        "style": styles(clusters.size, near.cluster)[shown].tolist(),
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


def example_columns(examples: Examples, placed: Placed, second: Nearest) -> dict[str, list[Any]]:
    """The rows shown: index, cluster, similarity, the second nearest cluster with its cosine, text, picture."""
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
    return listed


def map_columns(projection: Projection | None, placed: Placed, examples: Examples) -> dict[str, list[Any]] | None:
    """The sample on the plane: x, y, cluster, similarity, row, text."""
    if projection is None:
        return None
    return {
        "x": projection.x.tolist(),
        "y": projection.y.tolist(),
        "row": projection.rows.tolist(),
        "cluster": placed.labels[projection.rows].tolist(),
        "similarity": _short(placed.similarity[projection.rows]),
        "text": [examples.caption(int(row), _MAP_TEXT) for row in projection.rows],
    }


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
            f"{epoch.changed:,}",
            f"{epoch.shift:.2g}",
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
    return f"{size.min():,} to {size.max():,} rows, mean {size.mean():,.1f}"


def _middle(similarity: np.ndarray) -> str:
    low, high = np.quantile(similarity, (0.25, 0.75))
    return f"{low:.3f} to {high:.3f}"


def _short(values: np.ndarray) -> list[Any]:
    """Four decimals: one more than the page shows."""
    rounded: list[Any] = np.round(values.astype(np.float64), 4).tolist()
    return rounded

"""What a reader should look at first: each finding says what was seen, how it was decided, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmeans.page.charts import percent
from cosmeans.page.statistics import Clusters, Nearest, Placed, fence
from cosmeans.result import History, StopReason

# Two equal clusters whose centroids have cosine c fit a common centroid with sqrt((1 + c) / 2) of their similarity:
# at 0.96 merging them would cost 1 %
TWIN_COSINE = 0.96
TINY_SHARE = 0.05  # of the mean size
GIANT_SHARE, GIANT_FACTOR = 0.2, 5.0  # of all rows, and times the mean size
STILL_MOVING = 0.01  # of the rows, in the last epoch


@dataclass(frozen=True, slots=True)
class Finding:
    """title and text for people; `show` names the clusters or rows it is about (a key of `Flags`, or "odd")."""

    title: str
    text: str
    show: str | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """Which clusters stand out, (K,) bool each; and below what similarity a row fits no cluster well."""

    empty: np.ndarray
    tiny: np.ndarray
    giant: np.ndarray
    twin: np.ndarray
    loose: np.ndarray
    odd_below: float


def flag(placed: Placed, clusters: Clusters, near: Nearest) -> Flags:
    """Decide what stands out among these rows and clusters."""
    size, n_rows = clusters.size, int(clusters.size.sum())
    filled = size > 0
    mean_size = n_rows / len(size)
    twin = near.cosine[:, 0] >= TWIN_COSINE if near.cosine.shape[1] else np.zeros(len(size), bool)
    enough = filled & (size > 1)
    loose = enough & (clusters.mean < fence(clusters.mean[enough])) if enough.any() else enough
    similarity = placed.similarity[placed.kept]
    return Flags(
        empty=~filled,
        tiny=filled & (size <= max(1.0, TINY_SHARE * mean_size)) & (mean_size > 1.0),
        giant=(size > GIANT_SHARE * n_rows) & (size > GIANT_FACTOR * mean_size),
        twin=twin,
        loose=loose,
        odd_below=fence(similarity) if len(similarity) else 0.0,
    )


def findings(
    placed: Placed, clusters: Clusters, flags: Flags, history: History, stop: StopReason, fitted: np.ndarray
) -> list[Finding]:
    """The findings, gravest first. `fitted` (K,): cluster sizes at the end of the fit."""
    found = [
        _left_out(placed),
        _other_rows(clusters, fitted),
        _unfinished(history, stop, int(fitted.sum())),
        _giant(clusters, flags),
        _few(
            flags.empty,
            "empty cluster",
            "No row is closest to {its} centroid. Fewer clusters may do.",
            "empty",
        ),
        _few(
            flags.twin,
            "cluster with a near twin",
            f"Another centroid has a cosine of at least {TWIN_COSINE} with {{its}} own: merging two such clusters "
            "would cost about 1 % of their similarity. Fewer clusters may do.",
            "twin",
        ),
        _few(
            flags.tiny,
            "tiny cluster",
            f"At most {_tiny_rows(clusters):,} row{_s(_tiny_rows(clusters))} each, where the mean is "
            f"{clusters.size.mean():,.1f}. Often outliers or duplicates.",
            "tiny",
        ),
        _few(
            flags.loose,
            "loose cluster",
            "The mean similarity is far below that of the other clusters: often leftovers without a common topic.",
            "loose",
        ),
        _odd(placed, flags),
    ]
    return [finding for finding in found if finding is not None]


def odd_rows(placed: Placed, flags: Flags) -> np.ndarray:
    """Rows that fit no cluster well, worst first, ties by index."""
    rows = np.flatnonzero(placed.kept & (placed.similarity < flags.odd_below))
    return rows[np.lexsort((rows, placed.similarity[rows]))]


def _left_out(placed: Placed) -> Finding | None:
    reasons = [
        f"{count:,} {what}"
        for count, what in ((placed.zero, "without direction (all zero)"), (placed.bad, "with NaN or infinity"))
        if count
    ]
    if not reasons:
        return None
    count = placed.zero + placed.bad
    return Finding(
        f"{count:,} row{_s(count)} left out",
        f"{' and '.join(reasons)}; the first is row {placed.first_left_out:,}. They have label −1 and are not "
        "counted below. Was their text empty?",
    )


def _other_rows(clusters: Clusters, fitted: np.ndarray) -> Finding | None:
    if np.array_equal(clusters.size, fitted):
        return None
    return Finding(
        "Not the rows of the fit",
        f"The model was fitted on {int(fitted.sum()):,} rows with other cluster sizes; this report assigns "
        f"{int(clusters.size.sum()):,} rows to its clusters. The convergence is that of the fit.",
    )


def _unfinished(history: History, stop: StopReason, n_rows: int) -> Finding | None:
    if stop not in (StopReason.EPOCHS, StopReason.INTERRUPTED) or not len(history) or not n_rows:
        return None
    changed = history.iterations[-1].changed
    share = 0.0 if changed is None else changed / n_rows
    if share < STILL_MOVING:
        return None
    return Finding(
        "The fit was not finished",
        f"In the last of {len(history):,} epochs {percent(100 * share)} of the rows still changed cluster. "
        f"{stop.advice}",
    )


def _giant(clusters: Clusters, flags: Flags) -> Finding | None:
    if not flags.giant.any():
        return None
    share = clusters.size.max() / clusters.size.sum()
    return Finding(
        "One cluster holds " + f"{percent(100 * share)} of the rows",
        f"The mean is {percent(100 / len(clusters.size))}. Rows that have little in common with anything often "
        "end up like this; more clusters, or other embeddings, may separate them.",
        "giant",
    )


def _few(mask: np.ndarray, what: str, text: str, key: str) -> Finding | None:
    count = int(mask.sum())
    if not count:
        return None
    noun = what.replace("cluster", "clusters", 1) if count > 1 else what
    return Finding(f"{count:,} {noun}", text.replace("{its}", "their" if count > 1 else "its"), key)


def _odd(placed: Placed, flags: Flags) -> Finding | None:
    count = len(odd_rows(placed, flags))
    if not count:
        return None
    return Finding(
        f"{count:,} row{_s(count)} ({percent(100 * count / int(placed.kept.sum()))}) "
        f"fit{'s' if count == 1 else ''} no cluster well",
        f"Their similarity with their own centroid is below {flags.odd_below:.3f}, far below what is usual here "
        "(lower quartile minus 1.5 times the interquartile range).",
        "odd",
    )


def _tiny_rows(clusters: Clusters) -> int:
    return int(max(1.0, TINY_SHARE * clusters.size.mean()))


def _s(count: int) -> str:
    return "" if count == 1 else "s"

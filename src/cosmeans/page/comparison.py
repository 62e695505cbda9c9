"""Two models on one page: where the rows of each cluster were before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans.page.keywords import Keywords, distinctive_words, name_of

_N_SOURCES = 5  # clusters of the other model that are named for each cluster
_N_ENDED = 50


@dataclass(frozen=True, slots=True)
class Comparison:
    """Another model on the same rows, and which of its clusters continues as which (`analysis.matching.Match`).

    title       what the other model is called
    labels      (N,) by the other model, -1 for rows left out
    old_of_new  (K,) the cluster that each one continues, -1 for none
    new_of_old  (K_old,) the other way round
    cosines     (K_old,) of the two centroids
    """

    title: str
    labels: np.ndarray
    old_of_new: np.ndarray
    new_of_old: np.ndarray
    cosines: np.ndarray


def comparison_columns(
    compared: Comparison, labels: np.ndarray, shown: np.ndarray, texts: list[str] | None, seed: int
) -> dict[str, Any]:
    """What the page shows of it: for each cluster shown what it continues and where its rows were; what ended."""
    n_old, n_new = len(compared.new_of_old), len(compared.old_of_new)
    both = (labels >= 0) & (compared.labels >= 0)
    pairs, rows = np.unique(compared.labels[both] * n_new + labels[both], return_counts=True)
    old, new = pairs // n_new, pairs % n_new
    words = Keywords([[]] * n_old, [[]] * n_old, 0)
    if texts is not None:
        words = distinctive_words(texts, compared.labels, n_old, seed)
    stayed = int(rows[compared.old_of_new[new] == old].sum())
    ended = np.flatnonzero(compared.new_of_old < 0)
    size = np.bincount(compared.labels[both], minlength=n_old)
    ended = ended[np.argsort(-size[ended], kind="stable")][:_N_ENDED]
    return {
        "title": compared.title,
        "rows": int(both.sum()),
        "stayed": stayed,
        "clusters": n_old,
        "started": int((compared.old_of_new < 0).sum()),
        "nEnded": int((compared.new_of_old < 0).sum()),
        "continues": compared.old_of_new[shown].tolist(),
        "cosine": [round(float(compared.cosines[old]), 4) if old >= 0 else None for old in compared.old_of_new[shown]],
        "sources": _most(new, old, rows, shown),
        "ended": [[int(cluster), int(size[cluster]), goes] for cluster, goes in zip(ended, _most(old, new, rows, ended),
                                                                                   strict=True)],
        "names": {str(cluster): name_of(words.words[cluster], cluster) for cluster in range(n_old)},
    }  # fmt: skip


def _most(of: np.ndarray, other: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> list[list[list[int]]]:
    """For each cluster wanted, the clusters on the other side with most of its rows: [[cluster, rows], ...]."""
    order = np.lexsort((other, -rows, of))
    starts = np.searchsorted(of[order], wanted)
    ends = np.searchsorted(of[order], wanted, "right")
    return [
        [[int(other[at]), int(rows[at])] for at in order[start : min(end, start + _N_SOURCES)]]
        for start, end in zip(starts, ends, strict=True)
    ]

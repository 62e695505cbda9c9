"""Topics: clusters grouped by their centroids, so that a thousand of them have chapters and colours."""

from __future__ import annotations

import numpy as np

FLAT_UP_TO = 12  # so many clusters are their own topics
MAX_TOPICS = 40
_MOST_LINKED = 4000  # the distances between so many centroids take 64 MB


def n_topics(n_clusters: int) -> int:
    """About the square root of K: 8 topics for 60 clusters, 32 for a thousand."""
    return n_clusters if n_clusters <= FLAT_UP_TO else min(MAX_TOPICS, max(6, round(n_clusters**0.5)))


def topics(centroids: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The topic of each cluster, (K,) int64 from 0 on, by Ward's method (1963) on the centroids (K, D).

    Topics are numbered in the order of the tree's leaves, so that neighbours in number are alike. Of more than
    _MOST_LINKED clusters the largest are linked, and the others join the topic whose mean centroid is most similar.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

    wanted = n_topics(len(centroids))
    if wanted == len(centroids):
        return np.arange(len(centroids))
    linked = np.sort(np.argsort(-size, kind="stable")[:_MOST_LINKED])
    tree = linkage(np.asarray(centroids[linked], np.float64), "ward")
    group = fcluster(tree, wanted, "maxclust")
    # in the order in which the leaves of the tree first meet them
    met = group[leaves_list(tree)]
    _, first = np.unique(met, return_index=True)
    number = np.empty(int(group.max()) + 1, np.int64)
    number[met[np.sort(first)]] = np.arange(len(first))
    found = np.full(len(centroids), -1, np.int64)
    found[linked] = number[group]
    rest = np.flatnonzero(found < 0)
    if len(rest):
        means = np.stack([centroids[found == topic].mean(axis=0) for topic in range(len(first))])
        found[rest] = (centroids[rest] @ means.T).argmax(axis=1)
    return found

"""Topics group clusters whose centroids are close, and are numbered so that neighbours are alike."""

import numpy as np
import pytest

from cosmeans.page.hierarchy import MAX_TOPICS, n_topics, topics


def families(n_families, each, dim=64, noise=0.05):
    """Centroids in families around orthogonal directions, shuffled; and the family of each."""
    rng = np.random.default_rng(1)
    family = rng.permutation(np.arange(n_families * each) % n_families)
    rows = np.eye(dim)[family] + noise * rng.standard_normal((len(family), dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), family


def same_partition(a, b):
    return len({*zip(a.tolist(), b.tolist(), strict=True)}) == len({*a.tolist()}) == len({*b.tolist()})


def test_topics_are_the_families_of_the_centroids():
    centroids, family = families(8, 8)
    assert n_topics(64) == 8
    assert same_partition(topics(centroids, np.ones(64)), family)


def test_few_clusters_are_their_own_topics():
    centroids, _ = families(4, 3)
    assert topics(centroids, np.ones(12)).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("n_clusters", "expected"), [(1, 1), (12, 12), (13, 6), (60, 8), (1000, 32), (10_000, MAX_TOPICS)]
)
def test_a_thousand_clusters_have_twenty_to_forty_topics(n_clusters, expected):
    assert n_topics(n_clusters) == expected


def test_neighbours_in_number_are_alike():
    """Two groups of families: all of one come before all of the other."""
    rng = np.random.default_rng(2)
    centroids, family = families(8, 8)
    centroids = centroids + 2.0 * np.eye(64)[60 + (family % 2)] + 0.01 * rng.standard_normal(centroids.shape)
    found = topics(centroids, np.ones(64))
    halves = [family[found == topic][0] % 2 for topic in range(8)]
    assert halves in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)


def test_of_very_many_clusters_the_small_ones_join_the_most_similar_topic():
    centroids, family = families(40, 110, noise=0.03)
    size = np.ones(len(centroids))
    size[:4000] = 2.0
    found = topics(centroids, size)
    assert same_partition(found, family)

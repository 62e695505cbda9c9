"""Topics are what a brute force over rows and texts finds; they belong to the clusters by number."""

import numpy as np
import pandas
import pytest
import torch

from cosmeans import KMeans, topics
from cosmeans.errors import InputError, OptionError

FRUIT = ["apple", "banana", "cherry", "damson"]
RNG = np.random.default_rng(0)
KIND = RNG.integers(0, 4, 300)
ROWS = (np.eye(4, 12)[KIND] + 0.15 * RNG.standard_normal((300, 12))).astype(np.float32)
ROWS[11] = 0.0
TEXTS = [f"{FRUIT[kind]} number {row}" for row, kind in enumerate(KIND)]
MODEL = KMeans(4, random_state=3, verbose=0, zero_rows="skip").fit(ROWS)


def brute_force():
    unit = ROWS.astype(np.float64) / np.maximum(1e-9, np.linalg.norm(ROWS, axis=1, keepdims=True))
    cosines = unit @ MODEL.cluster_centers_.astype(np.float64).T
    labels = np.where(np.arange(300) == 11, -1, cosines.argmax(axis=1))
    return labels, cosines.max(axis=1)


@pytest.mark.parametrize("given", [ROWS, torch.from_numpy(ROWS)], ids=["arrays", "tensors"])
def test_words_sizes_similarity_and_examples_are_those_of_each_cluster(given):
    labels, cosines = brute_force()

    found = topics(MODEL, given, TEXTS, m=2)

    assert repr(found) == "Topics(4 clusters of 299 rows)"
    for cluster in range(4):
        own = np.flatnonzero(labels == cluster)
        best = own[np.argsort(-cosines[own])][:2]
        assert found.sizes[cluster] == len(own)
        assert found.similarity[cluster] == pytest.approx(cosines[own].mean(), abs=1e-7)
        assert found.words[cluster][0] == FRUIT[np.bincount(KIND[own]).argmax()]
        assert found.exemplars[cluster] == [TEXTS[row] for row in best]


def test_a_cluster_without_rows_is_empty_and_missing_texts_count_as_none():
    kept = brute_force()[0] != 2
    texts = pandas.Series(TEXTS, dtype="string").where(np.arange(300) % 2 == 0)

    found = topics(MODEL, ROWS[kept], texts[kept])

    assert (found.sizes[2], found.similarity[2], found.words[2], found.exemplars[2]) == (0, 0.0, [], [])
    assert found.words[0]


def test_mistakes_are_told_before_any_work():
    with pytest.raises(InputError, match="texts has 2 entries, the rows are 300"):
        topics(MODEL, ROWS, TEXTS[:2])
    with pytest.raises(OptionError, match="m must be an integer of at least 1, got 0"):
        topics(MODEL, ROWS, TEXTS, m=0)

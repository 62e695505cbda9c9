"""The start on growing samples: what it computes, and that nothing but the seed decides it."""

import numpy as np
import pytest

import truth
from cosmeans import KMeans
from generators import heavy_tailed, text_rows, unit_rows

SEED = 2**40 + 1


def expected_start(x, k):
    """Random rows, then two epochs on 8 K, 16 K, ... rows of x up to a quarter of them."""
    centroids = truth.random_start(x, k, SEED)
    size = 8 * k
    while size <= len(x) // 4:
        words = np.random.Philox(key=(SEED, 4), counter=(0, 0, 0, 0)).random_raw(len(x))
        sample = np.sort(sorted(range(len(x)), key=lambda i: (int(words[i]), i))[:size])
        centroids = truth.fit(x[sample], centroids, 2).centroids
        size *= 2
    return centroids


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("rows", [lambda: text_rows(900), lambda: heavy_tailed(700, 12)])
def test_nested_start_is_that_of_its_definition(rows, backend):
    x = rows()
    k = 7
    found = KMeans(k, epochs=3, init="nested", random_state=SEED, backend=backend, batch_size=100, verbose=0).fit(x)
    expected = truth.fit(x, expected_start(x, k), 3)
    assert found.cluster_centers_.tobytes() == expected.centroids.tobytes()
    np.testing.assert_array_equal(found.labels_, expected.labels)
    assert found.similarities == expected.similarities


def test_few_rows_start_at_random():
    x = unit_rows(200, 9)
    nested, random = (KMeans(10, epochs=2, init=i, random_state=5, verbose=0).fit(x) for i in ("nested", "random"))
    assert nested.cluster_centers_.tobytes() == random.cluster_centers_.tobytes()


def test_nested_is_ahead_after_one_epoch():
    x = text_rows(5000)
    nested, random = (KMeans(20, epochs=1, init=i, random_state=5, verbose=0).fit(x) for i in ("nested", "random"))
    assert nested.score(x) > random.score(x)

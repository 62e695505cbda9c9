"""Canonical scores in registers have the bits of the definition."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

import truth
from cosmeans.backends.cpu.kernels import canonical
from generators import normal

SOME = canonical.TOGETHER


@njit
def scores_with(rows, centroids, together, out):
    """Scores of rows, `together` of them at once, with ordered centroids."""
    q, size = canonical.stride_of(rows.shape[1]), centroids.shape[1]
    wide, room = canonical.room_for(together, size), canonical.room_for(together, q)
    score = np.empty(together)
    for i in range(0, rows.shape[0], together):
        for r in range(together):
            canonical.widen(rows[i + r], q, wide, r, together)
        for j in range(centroids.shape[0]):
            if together == 1:
                canonical.score_one(wide, centroids[j], q, size // q, room, score)
            else:
                canonical.score_some(wide, centroids[j], q, size // q, room, score)
            out[i : i + together, j] = score


@pytest.mark.parametrize("together", [1, SOME])
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 24, 96, 97, 100, 128, 129, 384, 385, 500, 768, 1000, 1536, 4097])
def test_scores_have_the_bits_of_the_definition(d, together):
    """Every number of leaves and levels; entries of any size, so that another order of adding shows."""
    rng = np.random.default_rng(d)
    x = truth.unit((normal(8, d, d) * 10.0 ** rng.uniform(-6, 6, (8, d))).astype(np.float32))[0]
    x[1] = -x[0]
    x[2, ::2], x[3, 0] = 1e-40, -0.0  # as rows are stored: entries below float32's range count as zero
    x[4], x[5], x[5, ::3] = 1e-40, -1e-40, 2.0**-126
    centroids = truth.unit(normal(5, d, d + 1))[0]
    out = np.empty((8, 5))
    scores_with(x, canonical.ordered(centroids), together, out)
    assert out.tobytes() == truth.scores(truth.clean(x), centroids).tobytes()


@pytest.mark.parametrize("d", [8, 100, 384])
def test_entries_that_are_not_neighbours_are_refused(d):
    with pytest.raises(TypingError):
        scores_with(normal(1, 2 * d, d)[:, ::2], canonical.ordered(normal(1, d, d)), 1, np.empty((1, 1)))


@njit
def ordered_one(centroid, q, out):
    canonical.order(centroid, q, out)


@pytest.mark.parametrize("d", [1, 7, 8, 96, 100, 129, 384, 1000])
def test_one_centroid_is_ordered_as_many_are(d):
    centroids = normal(3, d, d)
    expected = canonical.ordered(centroids)
    for centroid, line in zip(centroids, expected, strict=True):
        out = np.full(len(line), np.nan, np.float32)
        ordered_one(centroid, canonical.stride_of(d), out)
        np.testing.assert_array_equal(out, line)

"""Scores of batches that are smaller than the number of centroids use few of these, and have the same bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends import reference
from cosmeans.backends.cpu import scores
from cosmeans.data import Batch
from generators import unit_rows


@pytest.mark.parametrize("d", [1, 5, 33, 130])
@pytest.mark.parametrize(
    "labels", [[-1], [6], [-1, -1], [0, 8, 3], [3, -1, 3, 8, -1], [8, 7, 6, 5, 4, 3, 2, 1, 0, -1, 4]]
)
def test_a_batch_of_any_size_has_the_scores_and_chords_of_the_reference(labels, d):
    x, centroids = unit_rows(len(labels), d), torch.from_numpy(unit_rows(9, d, 1))
    batch, given = Batch(0, torch.from_numpy(x)), torch.tensor(labels, dtype=torch.int32)
    found, squared = scores.chords(batch, centroids, given)
    expected = np.where(np.array(labels) >= 0, truth.scores(x, centroids.numpy())[range(len(labels)), labels], 0.0)
    assert scores.scores(batch, centroids, given).numpy().tobytes() == expected.tobytes()
    assert found.numpy().tobytes() == expected.tobytes()
    assert torch.equal(squared, reference.chords(batch, centroids, given)[1])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_limbs_of_the_inertia_are_those_of_the_definition(n, weighted):
    """In fractions: each number is split at the units 1, 2^-30 and 2^-60, and the rest is rounded to 2^-90."""
    rng = np.random.default_rng(n)
    squared = rng.random(n) * 10.0 ** rng.uniform(-20, 1, n)
    weights = rng.integers(1, 9, n) * 2.0**-3 if weighted else None
    given = (torch.from_numpy(squared), None if weights is None else torch.from_numpy(weights))
    found = scores.inertia_limbs(*given)
    expected = [0, 0, 0, 0]
    for value in squared if weights is None else squared * weights:
        left = Fraction(float(value))
        for limb in range(3):
            whole = math.floor(left)
            expected[limb] += whole
            left = (left - whole) * 2**30
        expected[3] += round(left)
    assert found.dtype is torch.int64
    assert found.tolist() == expected


@pytest.mark.parametrize("d", [1, 5, 130, 384])
def test_cosines_that_float64_products_leave_open_are_canonical(d):
    """Many are: rows and centroids have few bits, so scores are near the middle between two float32 numbers."""
    rng = np.random.default_rng(d)
    x, centroids = (truth.unit(rng.integers(-2, 3, (n, d)).astype(np.float32) + 0.25)[0] for n in (40, 30))
    x[:10], centroids[:10] = np.eye(1, d, 0, np.float32), np.eye(1, d, d - 1, np.float32)
    found = scores.cosines(Batch(0, torch.from_numpy(x)), torch.from_numpy(centroids))
    np.testing.assert_array_equal(found.numpy(), truth.scores(x, centroids).astype(np.float32))

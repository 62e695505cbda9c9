"""Canonical scores, chords, cosines and inertia: the bits of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import truth
from cosmeans import sphere
from cosmeans.backends.gpu.kernels.scores import cosines, improve, inertia_limbs, own_chords, own_scores

SHAPES = [(1, 1, 1), (63, 17, 5), (130, 70, 33)]  # N, D, K


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_scores_chords_and_cosines_are_the_truth(n: int, d: int, k: int, a_batch: Any, directions: Any) -> None:
    batch, centroids = a_batch(n, d), sphere.normalise(directions(k, d, 1))
    labels = torch.randint(-1, k, (n,), dtype=torch.int32, generator=torch.Generator().manual_seed(3))
    rows = truth.unit(batch.rows.numpy())[0]
    all_scores = truth.scores(rows, centroids.numpy())
    own = np.where(labels < 0, 0.0, all_scores[np.arange(n), labels.clamp(min=0)])
    raised = torch.full((n,), -0.1, dtype=torch.float64)

    scores, squared = own_chords(batch, centroids, labels)
    improve(batch, centroids[0], raised)

    assert scores.tolist() == own.tolist() == own_scores(batch, centroids, labels).tolist()
    assert squared.tolist() == truth.chords(rows, centroids.numpy(), labels.numpy()).tolist()
    assert raised.tolist() == np.maximum(-0.1, all_scores[:, 0]).tolist()
    assert cosines(batch, centroids).tolist() == all_scores.astype(np.float32).tolist()


def test_labels_may_be_a_column_of_a_table(a_batch: Any, directions: Any) -> None:
    batch, centroids = a_batch(63, 17), sphere.normalise(directions(5, 17, 1))
    table = torch.randint(-1, 5, (63, 2), dtype=torch.int32)

    for column in table.unbind(dim=1):
        assert torch.equal(own_scores(batch, centroids, column), own_scores(batch, centroids, column.contiguous()))


def test_rows_that_are_left_out_have_cosines_of_zero(a_batch: Any, directions: Any) -> None:
    batch, centroids = a_batch(9, 17), sphere.normalise(directions(5, 17, 1))
    keep = torch.arange(9) != 4
    left_out = type(batch)(0, batch.rows, batch.norms, keep)

    assert (cosines(left_out, centroids)[4] == 0).all()
    assert torch.equal(cosines(left_out, centroids)[keep], cosines(batch, centroids)[keep])


@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_is_added_up_exactly(weighted: bool, directions: Any) -> None:
    """Chords of all sizes, which leave something in every limb; more rows than a block has."""
    n = 1500
    squared = 4.0 * torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    squared = squared * 2.0 ** -torch.linspace(0, 100, n, dtype=torch.float64).round()
    weights = 1.0 + 1e6 * directions(n, 1, 2)[:, 0].abs().double() if weighted else None

    found = inertia_limbs(squared, weights)

    assert torch.equal(found, sphere.inertia_limbs(squared, weights))
    assert (found > 0).all()

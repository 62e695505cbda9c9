"""The portable screen: what it certifies is true, what it can't is listed; brute force is the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import truth
from cosmeans import sphere
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace
from cosmeans.backends.gpu.kernels.screen import Errors, GatherList, Uncertified, accumulation_error, screen
from cosmeans.backends.gpu.tuning import TILES
from cosmeans.data import Batch

CPU = torch.device("cpu")
SHAPES = [(1, 1, 1), (63, 17, 5), (130, 70, 33), (67, 130, 140)]  # N, D, K: odd, so that every mask is used


def truth_of(batch: Batch, centroids: Tensor) -> list[int]:
    rows, keep = truth.unit(batch.rows.float().numpy())
    found: list[int] = truth.labels(rows, centroids.numpy(), keep).tolist()
    return found


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_screened_and_refined_labels_are_the_truth(
    n: int, d: int, k: int, dtype: torch.dtype, integers: bool, a_batch: Any, directions: Any, assign: Any
) -> None:
    batch, centroids = a_batch(n, d, dtype), sphere.normalise(directions(k, d, 1))

    assert assign(batch, centroids, integers=integers).tolist() == truth_of(batch, centroids)


@pytest.mark.parametrize("gathered", [False, True], ids=["all rows", "gathered rows"])
def test_what_is_not_listed_is_proved(gathered: bool, directions: Any, quantize: Any) -> None:
    rows, centroids = sphere.normalise(directions(200, 40)), sphere.normalise(directions(30, 40, 1))
    centroids[24:] = sphere.normalise(centroids[:6] + 3e-5 * directions(6, 40, 2))  # float16 can't tell these apart
    rows[5] = 0.0
    batch = Batch(0, rows, None, torch.arange(200) != 5)
    copy, columns = quantize(batch), CentroidWorkspace(30, 40, 0, CPU).quantize(centroids)
    chosen, listed = torch.arange(200), None
    if gathered:  # every second row, from the last one on
        chosen = torch.arange(199, 0, -2)
        listed = GatherList(chosen.int(), torch.tensor([len(chosen)], dtype=torch.int32))
        copy = quantize(Batch(0, rows[chosen], None, batch.keep[chosen]))
    labels, found = torch.full((200,), -7, dtype=torch.int32), Uncertified.empty(200, CPU)
    found.counts.zero_()

    screen(copy, 0, columns, labels, found, Errors(accumulation_error(40, CPU), 0.0), TILES["interpreter"], listed)

    open_rows = set(found.rows[: int(found.counts[0])].tolist())
    expected = truth.labels(rows.numpy(), centroids.numpy(), np.arange(200) != 5)
    proved = [row for row in chosen.tolist() if row not in open_rows]
    assert open_rows <= set(chosen.tolist())
    assert [labels[row].item() for row in proved] == [expected[row] for row in proved]
    assert len(proved) > 0.5 * len(chosen)
    assert any(labels[row].item() != expected[row] for row in open_rows)  # which would be wrong without the list
    assert set(labels[[row for row in range(200) if row not in chosen.tolist()]].tolist()) <= {-7}


def near_ties(a_batch: Any, directions: Any) -> tuple[Batch, Tensor]:
    """64 centroids within 1e-4 of one another, some of them equal, and rows that can't tell them apart in float16."""
    one = directions(1, 40)
    centroids = sphere.normalise(one / one.norm() + 1e-5 * directions(64, 40, 1))
    centroids[9] = centroids[8]
    return a_batch(40, 40), centroids


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
def test_near_ties_and_equal_centroids_get_canonical_labels(
    integers: bool, a_batch: Any, directions: Any, assign: Any
) -> None:
    batch, centroids = near_ties(a_batch, directions)

    assert assign(batch, centroids, integers=integers).tolist() == truth_of(batch, centroids)


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
def test_a_certificate_that_hears_of_a_hundredth_of_the_errors_lets_wrong_labels_through(
    integers: bool, a_batch: Any, directions: Any, assign: Any
) -> None:
    batch, centroids = near_ties(a_batch, directions)

    labels = assign(batch, centroids, integers=integers, told=0.01).tolist()

    assert labels != truth_of(batch, centroids)

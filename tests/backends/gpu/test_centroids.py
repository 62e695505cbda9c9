"""Equal centroids are one column of the screen, that of the first of them, however hashes fall."""

from __future__ import annotations

import pytest
import torch

from cosmeans.backends.gpu.centroids import CentroidSpace


@pytest.mark.parametrize("buckets", [None, 1, 4], ids=["as made", "one bucket", "four buckets"])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (40, 7), (150, 3)])
def test_columns_are_the_first_of_equal_centroids(k: int, d: int, buckets: int | None) -> None:
    centroids = torch.randint(-1, 2, (k, d), generator=torch.Generator().manual_seed(k)).float()
    rows = [tuple(row) for row in centroids.tolist()]
    firsts = [i for i, row in enumerate(rows) if rows.index(row) == i]
    space = CentroidSpace(k, d, 0, torch.device("cpu"))
    if buckets:
        space.heads = space.heads[:buckets]

    found = space.quantise(centroids)

    assert found.original[: int(found.n_columns)].tolist() == firsts

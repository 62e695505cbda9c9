"""Equal centroids are one column of the screen, that of the first of them, however hashes fall."""

from __future__ import annotations

import pytest
import torch

from cosmeans.backends.gpu.kernels import columns as module
from cosmeans.backends.gpu.kernels.columns import CentroidSpace


@pytest.mark.parametrize("buckets", [None, 1, 4], ids=["as made", "one bucket", "four buckets"])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (40, 7), (150, 3)])
def test_columns_are_the_first_of_equal_centroids(k: int, d: int, buckets: int | None) -> None:
    centroids = torch.randint(-1, 2, (k, d), generator=torch.Generator().manual_seed(k)).float()
    rows = [tuple(row) for row in centroids.tolist()]
    firsts = [i for i, row in enumerate(rows) if rows.index(row) == i]
    space = CentroidSpace(k, d, 0, torch.device("cpu"))
    if buckets:
        space.heads = space.heads[:buckets]

    for _ in range(2):  # the second time on what the first one left
        found = space.quantise(centroids)

        assert found.original[: int(found.n_columns)].tolist() == firsts
        columns = found.values.view(-1, space.width)[: len(firsts), :d]
        assert torch.equal(columns, centroids[firsts].half())
        lengths = torch.stack((torch.zeros(k), *2 * (torch.linalg.vector_norm(centroids, dim=1),)))
        assert torch.allclose(found.bounds, lengths.amax(dim=1))


@pytest.mark.parametrize("left", [0, 5])
def test_what_an_interrupted_pass_left_in_the_buckets_does_no_harm(left: int) -> None:
    centroids = torch.randint(-1, 2, (40, 3), generator=torch.Generator().manual_seed(1)).float()
    clean, spoiled = (CentroidSpace(40, 3, 0, torch.device("cpu")) for _ in range(2))
    spoiled.heads.fill_(left)

    found, expected = (space.quantise(centroids) for space in (spoiled, clean))

    n_columns = int(expected.n_columns)
    assert int(found.n_columns) == n_columns
    assert torch.equal(found.original[:n_columns], expected.original[:n_columns])


@pytest.mark.parametrize("scan", [1, 16])
def test_columns_of_many_centroids_are_counted_in_blocks(scan: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCAN", module.tl.constexpr(scan))
    centroids = torch.randint(-5, 6, (150, 2), generator=torch.Generator().manual_seed(2)).float()
    rows = [tuple(row) for row in centroids.tolist()]

    found = CentroidSpace(150, 2, 0, torch.device("cpu")).quantise(centroids)

    assert found.original[: int(found.n_columns)].tolist() == [i for i, row in enumerate(rows) if rows.index(row) == i]

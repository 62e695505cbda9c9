"""Equal centroids are one column of the screen, that of the first of them, however hashes fall."""

from __future__ import annotations

import pytest
import torch

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.cascade import MOST_FEATURES, IntegerWorkspace
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace, compare_bits
from cosmeans.errors import BackendUnavailableError


@pytest.mark.parametrize("buckets", [None, 1, 4], ids=["as made", "one bucket", "four buckets"])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (40, 7), (150, 3)])
def test_columns_are_the_first_of_equal_centroids(k: int, d: int, buckets: int | None) -> None:
    centroids = torch.randint(-1, 2, (k, d), generator=torch.Generator().manual_seed(k)).float()
    rows = [tuple(row) for row in centroids.tolist()]
    firsts = [i for i, row in enumerate(rows) if rows.index(row) == i]
    space = CentroidWorkspace(k, d, 0, torch.device("cpu"))
    if buckets:
        space.heads = space.heads[:buckets]

    for _ in range(2):  # the second time on what the first one left
        found = space.quantize(centroids)

        assert found.original[: int(found.n_columns)].tolist() == firsts
        columns = found.values.view(-1, space.width)[: len(firsts), :d]
        assert torch.equal(columns, centroids[firsts].half())
        lengths = torch.stack((torch.zeros(k), *2 * (torch.linalg.vector_norm(centroids, dim=1),)))
        assert torch.allclose(found.bounds, lengths.amax(dim=1))


@pytest.mark.parametrize("left", [0, 5])
def test_what_an_interrupted_pass_left_in_the_buckets_does_no_harm(left: int) -> None:
    centroids = torch.randint(-1, 2, (40, 3), generator=torch.Generator().manual_seed(1)).float()
    clean, spoiled = (CentroidWorkspace(40, 3, 0, torch.device("cpu")) for _ in range(2))
    spoiled.heads.fill_(left)

    found, expected = (space.quantize(centroids) for space in (spoiled, clean))

    n_columns = int(expected.n_columns)
    assert int(found.n_columns) == n_columns
    assert torch.equal(found.original[:n_columns], expected.original[:n_columns])


@pytest.mark.parametrize("scan", [1, 16])
def test_columns_of_many_centroids_are_counted_in_blocks(scan: int) -> None:
    centroids = torch.randint(-5, 6, (150, 2), generator=torch.Generator().manual_seed(2)).float()
    rows = [tuple(row) for row in centroids.tolist()]

    found = CentroidWorkspace(150, 2, 0, torch.device("cpu"), scan=scan).quantize(centroids)

    assert found.original[: int(found.n_columns)].tolist() == [i for i, row in enumerate(rows) if rows.index(row) == i]


def test_8_bit_columns_lose_no_more_than_their_bounds_say() -> None:
    k, d = 40, 70
    centroids = sphere.normalise(torch.randn(k, d, generator=torch.Generator().manual_seed(3)))
    centroids[7] = centroids[3]
    columns = CentroidWorkspace(k, d, 0, torch.device("cpu")).quantize(centroids)

    coded = IntegerWorkspace(k, d, 0, torch.device("cpu")).quantize(columns)

    n_columns, unit = int(coded.n_columns), coded.bounds[3].double()
    distinct = centroids[coded.original[:n_columns].long()].double()
    screened = coded.values.view(-1, coded.width)[:n_columns, :d].double() * unit
    lost, length, screened_length = ((x).norm(dim=1).max() for x in (distinct - screened, distinct, screened))
    assert n_columns == k - 1
    for bound, truth in zip(coded.bounds[:3].double(), (lost, length, screened_length), strict=True):
        assert truth <= bound <= truth * (1 + 1e-3)
    assert (coded.values.view(-1, coded.width)[:, d:] == 0).all()


def test_more_features_than_8_bit_products_can_be_added_up_are_refused() -> None:
    IntegerWorkspace(2, MOST_FEATURES, 0, torch.device("cpu"))

    with pytest.raises(BackendUnavailableError, match=r"at most 2080 features .* these rows have 2081"):
        IntegerWorkspace(2, MOST_FEATURES + 1, 0, torch.device("cpu"))


@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 2048), (3, 1365), (1, 4097), (7, 1200)])
def test_centroids_with_any_other_bit_are_found(k: int, d: int) -> None:
    ours = sphere.normalise(torch.randn(k, d, generator=torch.Generator().manual_seed(k)))
    ours[0, 0] = 0.0
    differ = torch.zeros(1, dtype=torch.int32)

    compare_bits(ours, ours.clone(), differ)
    assert int(differ) == 0
    for at in {0, k * d // 2, k * d - 1}:
        for bit in (0, 31):  # 0.0 and -0.0 are others, too
            theirs = ours.clone()
            theirs.view(torch.int32).view(-1)[at] ^= 1 << bit if bit < 31 else -(1 << 31)
            compare_bits(ours, theirs, differ.zero_())
            assert int(differ) == 1, (at, bit)
            compare_bits(ours, ours.clone(), differ)
            assert int(differ) == 1  # it stays


def test_equal_bits_of_no_number_are_equal() -> None:
    ours, differ = torch.full((2, 3), torch.nan), torch.zeros(1, dtype=torch.int32)

    compare_bits(ours, ours.clone(), differ)

    assert int(differ) == 0

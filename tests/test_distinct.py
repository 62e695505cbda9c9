"""Rows of different content: found in blocks however few they are, counted whatever rounding did to copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, seeding
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.distinct import DistinctRows, block_rows, fingerprints, n_distinct
from cosmeans.errors import DistinctRowsWarning
from generators import normal, unit_rows

N, D = 6_000, 400


def few(n_contents, seed=0):
    return normal(n_contents, D, seed)[np.random.default_rng(seed).integers(0, n_contents, N)]


def nearly_one(n_others):
    rows = np.repeat(normal(1, D), N, axis=0)
    at = np.random.default_rng(1).choice(N, n_others, replace=False)
    rows[at] = normal(n_others, D, 2)
    return rows


def rare_last():
    """The contents that draws do not find stand at the end."""
    rows = np.repeat(normal(1, D), N, axis=0)
    rows[-3:] = normal(3, D, 3)
    return rows


ROWS = {
    "10 contents": (few(10), 11, None),
    "one content": (few(1), 5, None),
    "exactly K contents": (few(60), 60, None),
    "one row is 99 %": (nearly_one(200), 150, None),
    "rare rows last": (rare_last(), 4, None),
    "few among zero rows": (few(7) * (np.arange(N) % 3 > 0)[:, None], 9, None),
    "weights of one row": (few(12), 12, np.r_[1e9, np.ones(N - 1)]),
    "weights of zero": (few(12), 13, (np.arange(N) % 5 == 0) * 1.0),
}


class Counted:
    """Rows that note how many are taken at a time."""

    def __init__(self, rows):
        self.rows, self.readings = rows, []

    def __getattr__(self, name):
        return getattr(self.rows, name)

    def take(self, indices):
        self.readings.append(len(indices))
        return self.rows.take(indices)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_few_contents_are_the_start_of_the_definition_in_few_readings(name, open_session):
    x, k, weights = ROWS[name]
    rows = Counted(open_session(x, ReferenceBackend(), weights).rows)

    found = seeding.random_rows(rows, k, 3)

    assert found.numpy().tobytes() == truth.random_start(x, k, 3, weights).tobytes()
    assert len(rows.readings) <= N // block_rows(D) + 20
    assert sum(rows.readings) <= N + 32 * k + 1000


@pytest.mark.parametrize("d", [1, 2, 37])
def test_a_fingerprint_is_a_weighted_sum_of_bits(d):
    rows = normal(50, d, 4)
    weights = [int(word) for word in np.random.Philox(key=0).random_raw(d)]
    sums = [sum(int(bits) * by for bits, by in zip(row, weights, strict=True)) for row in rows.view(np.int32)]
    for given in (rows, np.asfortranarray(rows)):
        assert [key % 2**64 for key in fingerprints(torch.from_numpy(given)).tolist()] == [n % 2**64 for n in sums]


@pytest.mark.parametrize("init", ["random", "k-means++", "nested"])
@pytest.mark.parametrize("contents", [1, 4, 10])
def test_copies_of_rows_are_counted_once(init, contents):
    x = few(contents, 5)[:2000, :30]

    with pytest.warns(DistinctRowsWarning, match=f"only {contents} centroid"):
        kmeans = KMeans(13, init=init, random_state=0, verbose=0).fit(x)

    assert kmeans.n_distinct_ == contents


@pytest.mark.parametrize("keys", [1, 3, 1 << 62])
@pytest.mark.parametrize("block", [1, 7, 36])
def test_rows_of_equal_fingerprints_are_told_apart_by_their_bits(keys, block, open_session):
    x = np.tile(unit_rows(12, 4), (3, 1))[np.random.default_rng(keys % 5).permutation(36)]
    rows = open_session(x, ReferenceBackend()).rows

    found = DistinctRows(rows, 12, lambda taken: (taken[:, 0] * 1e6).to(torch.int64) % keys)
    for start in range(0, 36, block):
        found.offer(np.arange(start, min(start + block, 36)))

    assert found.centroids().numpy().tobytes() == b"".join(dict.fromkeys(row.tobytes() for row in x))


def by_definition(centroids):
    """Each counted that is farther than 2^-20 from all counted before it."""
    counted = np.empty((0, centroids.shape[1]))
    for row in centroids.astype(np.float64):
        if (((row - counted) ** 2).sum(axis=1) > 2.0**-40).all():
            counted = np.concatenate([counted, row[None]])
    return len(counted)


def one_group(spread, n=300, d=20):
    return truth.unit(unit_rows(1, d) + spread * unit_rows(n, d, 1))[0]


CENTROIDS = {
    "random": unit_rows(500, 33),
    "D = 1": np.array([[1.0], [-1.0], [1.0], [1.0]], np.float32),
    "D = 2": unit_rows(1000, 2),
    "one": unit_rows(1, 8),
    "copies": unit_rows(20, 9)[np.arange(200) % 20],
    "last bits": np.nextafter(unit_rows(20, 9)[np.arange(200) % 20], np.float32(2), dtype=np.float32),
    "last bits of some": np.where(
        np.arange(200)[:, None] < 90,
        unit_rows(20, 9)[np.arange(200) % 20],
        np.nextafter(unit_rows(20, 9)[np.arange(200) % 20], np.float32(2)),
    ),
    "opposite": np.concatenate([unit_rows(40, 5), -unit_rows(40, 5)]),
    "axes": np.eye(64, dtype=np.float32),
    **{f"within {spread}": one_group(spread) for spread in (1e-8, 3e-7, 1e-6, 3e-6, 1e-4)},
}


@pytest.mark.parametrize("name", sorted(CENTROIDS))
def test_centroids_that_differ_by_more_than_rounding_are_counted(name):
    centroids = CENTROIDS[name].astype(np.float32)
    assert n_distinct(torch.from_numpy(centroids)) == by_definition(centroids)

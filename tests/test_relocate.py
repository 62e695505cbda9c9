"""Clusters without direction: where they move, bit by bit, in any order of rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.errors import EmptyClusterError
from cosmeans.relocate import relocate, worst_rows
from cosmeans.sphere import Update
from generators import normal, unit_rows


def found_by(x, centroids, wanted, backend, open_session, weights=None, batch_size=None):
    """Worst rows by the package, and by the definition."""
    session = open_session(x, backend, weights, batch_size=batch_size)
    units, keep = truth.unit(x)
    labels = truth.labels(units, centroids, keep)
    all_scores = truth.scores(units, centroids)
    eligible = keep if weights is None else keep & (np.asarray(weights) > 0)
    expected = truth.worst(units, all_scores[np.arange(len(x)), labels], eligible, wanted)
    labels = torch.from_numpy(labels.astype(np.int32))
    return worst_rows(session, torch.from_numpy(centroids), labels, wanted).numpy(), expected


@pytest.mark.parametrize("wanted", [1, 2, 7, 60])
def test_the_worst_rows_are_those_of_the_definition(wanted, backend, open_session):
    x = normal(300, 11)
    x[[0, 17]] = 0.0
    found, expected = found_by(x, unit_rows(5, 11, 1), wanted, backend, open_session, batch_size=64)
    assert found.tobytes() == expected.tobytes()


def test_rows_of_weight_zero_are_no_targets(backend, open_session):
    x, centroids = unit_rows(100, 6), unit_rows(3, 6, 1)
    weights = (np.arange(100) % 2).astype(float)
    found, expected = found_by(x, centroids, 60, backend, open_session, weights)
    assert len(found) == 50
    assert found.tobytes() == expected.tobytes()


def mirror_images():
    """Rows whose scores with the only centroid are equal in groups: content must decide, not place."""
    x = np.abs(normal(40, 4))
    x = np.concatenate([x, x * [1, -1, 1, 1], x * [1, 1, -1, 1], x * [1, -1, -1, 1], x]).astype(np.float32)
    return x, np.array([[1.0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_mirror_images_are_ordered_by_content(seed, backend, open_session):
    x, centroids = mirror_images()
    order = np.random.default_rng(seed).permutation(len(x))
    here, expected = found_by(x, centroids, 10, backend, open_session)
    there, _ = found_by(x[order], centroids, 10, backend, open_session, batch_size=13)
    assert here.tobytes() == expected.tobytes() == there.tobytes()


def test_ties_by_place_would_be_noticed():
    x, centroids = mirror_images()
    units = truth.unit(x)[0]
    own = truth.scores(units, centroids)[:, 0]
    orders = [np.random.default_rng(seed).permutation(len(x)) for seed in range(2)]
    one, other = (units[order][np.argsort(own[order], kind="stable")[:10]] for order in orders)
    assert one.tobytes() != other.tobytes()


def test_each_content_is_taken_once_and_rows_that_fit_never(backend, open_session):
    centroids = np.eye(3, dtype=np.float32)[:2]
    x = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1e-4, 0], [2, 0, 2]], np.float32)
    found, expected = found_by(x, centroids, 5, backend, open_session)
    assert len(found) == 1
    assert found.tobytes() == expected.tobytes()


def moved(policy, backend, open_session):
    """The centroids that an update without direction for clusters 1 and 3 ends with: before and after relocation."""
    x, centroids = unit_rows(50, 5), torch.from_numpy(unit_rows(4, 5, 1))
    session = open_session(x, backend, None, 4)
    epoch = next(session.epochs(centroids, 2))
    lost = torch.tensor([False, True, False, True])
    updated = torch.from_numpy(unit_rows(4, 5, 2))
    return updated, *relocate(session, replace(epoch, update=Update(updated, lost)), policy)


def test_several_lost_clusters_take_the_worst_rows_in_turn(backend, open_session):
    updated, centroids, count = moved("move", backend, open_session)
    x, previous = unit_rows(50, 5), unit_rows(4, 5, 1)
    own = truth.scores(x, previous).max(axis=1)
    assert count == 2
    assert torch.equal(centroids[[0, 2]], updated[[0, 2]])
    assert centroids[[1, 3]].numpy().tobytes() == x[np.argsort(own)[:2]].tobytes()


def test_they_are_an_error_when_told_so(backend, open_session):
    with pytest.raises(EmptyClusterError, match=r"2 clusters have no direction \(the first is cluster 1\)"):
        moved("error", backend, open_session)


def copies(n):
    """Nearly all rows are copies of a few: of the worst, of one that fits well, and of some between."""
    middle = unit_rows(1, 40)
    contents = np.concatenate([middle + 0.01 * normal(1, 40, 1), -middle, normal(6, 40, 2)])
    return contents[np.random.default_rng(0).choice(8, n, p=[0.5, 0.44, *[0.01] * 6])].astype(np.float32), middle


@pytest.mark.parametrize("wanted", [1, 3, 8, 20])
def test_copies_are_read_in_few_readings(wanted, open_session):
    x, middle = copies(9000)
    session, readings = open_session(x, ReferenceBackend(), batch_size=3000), []
    units = truth.unit(x)[0]
    take = session.rows.take
    session.rows.take = lambda indices: readings.append(len(indices)) or take(indices)

    found = worst_rows(session, torch.from_numpy(middle), torch.zeros(len(x), dtype=torch.int32), wanted)

    expected = truth.worst(units, truth.scores(units, middle)[:, 0], np.ones(len(x), bool), wanted)
    assert found.numpy().tobytes() == expected.tobytes()
    assert len(readings) <= 40
    assert sum(readings) <= len(x)


def test_few_rows_are_read_where_few_are_wanted(open_session):
    x = normal(5000, 11)
    session, readings = open_session(x, ReferenceBackend(), batch_size=1000), []
    take = session.rows.take
    session.rows.take = lambda indices: readings.append(len(indices)) or take(indices)

    worst_rows(session, torch.from_numpy(unit_rows(1, 11)), torch.zeros(len(x), dtype=torch.int32), 2)

    assert sum(readings) <= 5 * 64


def test_entries_of_both_signs_are_ordered_as_numbers(backend, open_session):
    """Rows at right angles to the centroid have one score: content alone decides."""
    x = np.zeros((60, 5), np.float32)
    x[:, 1:] = np.random.default_rng(0).integers(-2, 3, (60, 4))
    found, expected = found_by(x, np.eye(1, 5, dtype=np.float32), 30, backend, open_session, batch_size=7)
    assert found.tobytes() == expected.tobytes()

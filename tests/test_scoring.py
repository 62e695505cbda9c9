"""Scores of all rows with their own centroids, and the inertia: in batches of any size, those of the definition."""

import numpy as np
import pytest
import torch

import truth
from cosmeans import scoring
from cosmeans.progress import Silent
from generators import CASES, normal, unit_rows


@pytest.mark.filterwarnings("ignore::cosmeans.errors.WeightRangeWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", ["random", "any lengths", "zero rows", "duplicates", "D = 1", "D = 129"])
def test_every_row_is_scored_with_its_own_centroid(case, weighted, backend, open_session):
    x, first = CASES[case]()
    centroids, (units, keep) = truth.unit(first)[0], truth.unit(x)
    weights = np.random.default_rng(1).random(len(x)) / 7 if weighted else None
    labels = np.where(keep, np.random.default_rng(0).integers(0, len(first), len(x)), -1).astype(np.int32)
    every = truth.scores(units, centroids)[np.arange(len(x)), labels]
    expected = np.where(keep, every, 0.0)
    for batch_size in (None, 64):
        session = open_session(x, backend, weights, len(first), batch_size=batch_size)
        given = torch.from_numpy(centroids), torch.from_numpy(labels)
        own = scoring.own_scores(session, *given)
        both, inertia = scoring.own_chords(session, *given)
        assert own.numpy().tobytes() == both.numpy().tobytes() == expected.tobytes()
        assert inertia == truth.inertia(x, centroids, labels, weights)


def test_the_rows_of_a_sample_are_scored_in_its_order(backend, open_session):
    x, centroids = normal(200, 9), unit_rows(4, 9, 1)
    session = open_session(x, backend, None, 4, batch_size=64)
    index = torch.from_numpy(np.random.default_rng(0).permutation(200)[:90])
    labels = torch.from_numpy(truth.labels(truth.unit(x)[0], centroids)[index].astype(np.int32))
    with session.subset(index, Silent()) as part:
        own = scoring.own_scores(part, torch.from_numpy(centroids), labels)
    expected = truth.scores(truth.unit(x)[0], centroids)[index, labels]
    assert own.numpy().tobytes() == expected.tobytes()


def test_no_rows_have_no_scores_and_no_inertia(backend, open_session):
    session, first = open_session(normal(0, 7), backend, None, 3), torch.from_numpy(unit_rows(3, 7))
    nothing = torch.empty(0, dtype=torch.int32)
    own, inertia = scoring.own_chords(session, first, nothing)
    assert (len(scoring.own_scores(session, first, nothing)), len(own), inertia) == (0, 0, 0.0)

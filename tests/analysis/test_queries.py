"""The best clusters of a row, the rows that stand for a cluster, the rows that fit nowhere: by canonical scores."""

import numpy as np
import pytest
import torch

import generators
import truth
from cosmeans import KMeans
from cosmeans.analysis.queries import exemplars, members, outliers, top
from cosmeans.errors import OptionError


def with_centers(centroids, **options):
    model = KMeans(len(centroids), verbose=0, zero_rows="skip", **options)
    model.centers = centroids
    return model


@pytest.fixture(params=["text", "duplicates", "zero rows", "64 within 1e-7", "one ulp apart", "antipodal", "D = 1"])
def case(request):
    rows, centroids = generators.CASES[request.param]()
    unit, kept = truth.unit(rows)
    return rows, with_centers(centroids), truth.scores(unit, truth.unit(centroids)[0]), kept


def ranked(scores):
    """Columns by falling score, the lowest first at a tie."""
    return np.argsort(-scores, axis=1, kind="stable")


@pytest.mark.parametrize("m", [1, 3])
def test_top_gives_the_largest_canonical_scores_and_the_lowest_labels_at_ties(case, m):
    rows, model, scores, kept = case
    expected = ranked(scores)[:, :m]

    found = top(model, rows, m)

    assert np.array_equal(found.labels, np.where(kept[:, None], expected, -1))
    assert np.array_equal(
        found.cosines, np.where(kept[:, None], np.take_along_axis(scores, expected, 1), 0.0).clip(-1, 1)
    )


def test_top_of_one_is_predict(case):
    rows, model, _, _ = case

    assert np.array_equal(top(model, rows, 1).labels[:, 0], model.predict(rows))


def test_top_does_not_depend_on_the_batch():
    rows, centroids = generators.CASES["64 within 1e-7"]()
    whole = top(with_centers(centroids), rows, 5)

    cut = top(with_centers(centroids, batch_size=7), rows, 5)

    assert np.array_equal(whole.labels, cut.labels)
    assert np.array_equal(whole.cosines, cut.cosines)


def test_torch_in_gives_torch_out():
    rows, centroids = generators.CASES["random"]()
    model, tensor = with_centers(centroids), torch.from_numpy(rows)

    results = [top(model, tensor, 2).labels, outliers(model, tensor).rows, exemplars(model, tensor, 2).rows]

    assert all(isinstance(result, torch.Tensor) and result.dtype == torch.int64 for result in results)


def own(scores, kept):
    return np.where(kept, ranked(scores)[:, 0], -1), scores.max(axis=1)


def test_a_share_that_is_a_whole_number_of_rows_is_that_number():
    rows = generators.unit_rows(100, 6)
    assert 0.29 * 100 < 29, "what this test is about"
    assert len(outliers(KMeans(3, random_state=0, verbose=0).fit(rows), rows, quantile=0.29).rows) == 29


@pytest.mark.parametrize("quantile", [0.0, 0.05, 0.333, 1.0])
def test_a_quantile_gives_exactly_that_share_of_the_rows_worst_first(case, quantile):
    rows, model, scores, kept = case
    best = own(scores, kept)[1]
    expected = sorted(np.flatnonzero(kept), key=lambda row: (best[row], row))[: int(quantile * kept.sum())]

    found = outliers(model, rows, quantile=quantile)

    assert found.rows.tolist() == expected
    assert np.array_equal(found.cosines, best[expected].clip(-1, 1))
    assert (found.cosines <= found.threshold).all()


def test_a_threshold_gives_every_row_below_it_and_none_at_it(case):
    rows, model, scores, kept = case
    best = own(scores, kept)[1]
    threshold = float(np.median(best[kept]))

    found = outliers(model, rows, threshold=threshold)

    assert sorted(found.rows.tolist()) == np.flatnonzero(kept & (best < threshold)).tolist()


def test_exemplars_are_the_closest_rows_of_each_cluster(case):
    rows, model, scores, kept = case
    labels, best = own(scores, kept)

    found = exemplars(model, rows, 4)

    for cluster, (nearest, cosines) in enumerate(zip(found.rows, found.cosines, strict=True)):
        expected = sorted(np.flatnonzero(labels == cluster), key=lambda row: (-best[row], row))[:4]
        assert nearest.tolist() == expected + [-1] * (4 - len(expected))
        assert np.array_equal(cosines[: len(expected)], best[expected].clip(-1, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, rows: top(model, rows, 18), "m=18, but the model has 17 clusters"),
        (lambda model, rows: top(model, rows, 0), "m must be an integer of at least 1, got 0"),
        (lambda model, rows: exemplars(model, rows, 2.5), "m must be an integer of at least 1, got 2.5"),
        (lambda model, rows: outliers(model, rows, quantile=1.5), "must be between 0 and 1"),
        (lambda model, rows: outliers(model, rows, quantile=0.1, threshold=0.5), "choose one"),
        (lambda model, rows: outliers(model, rows, threshold="low"), "threshold must be a number, got 'low'"),
    ],
)
def test_options_that_can_not_be_are_told(call, message):
    rows, centroids = generators.CASES["random"]()

    with pytest.raises(OptionError, match=message):
        call(with_centers(centroids), rows)


def test_more_exemplars_than_rows_are_all_rows(case):
    rows, model, _, _ = case

    found = exemplars(model, rows, 10**8)

    assert found.rows.shape == (model.n_clusters, len(rows))
    assert np.array_equal(found.rows, exemplars(model, rows, len(rows)).rows)


def test_members_are_all_rows_of_a_cluster_best_first_the_lowest_row_at_a_tie(case):
    rows, model, scores, kept = case
    labels = np.where(kept, ranked(scores)[:, 0], -1)

    for cluster in range(len(model.cluster_centers_)):
        own = np.flatnonzero(labels == cluster)
        expected = own[np.argsort(-scores[own, cluster], kind="stable")]

        found = members(model, rows, cluster)

        assert found.cluster == cluster
        assert np.array_equal(found.rows, expected)
        assert np.array_equal(found.cosines, scores[expected, cluster].clip(-1, 1))


def test_members_of_no_cluster_are_an_error():
    model = with_centers(np.eye(3))

    for cluster in (3, -1, "2", True):
        with pytest.raises(OptionError, match="cluster must be an integer of at least 0 and at most 2, got"):
            members(model, np.eye(3), cluster)

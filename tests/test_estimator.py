"""KMeans: its answer is the definition, its parameters mean what they say, a second fit goes on."""

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, StopReason
from cosmeans.errors import DistinctRowsWarning, SkippedRowsWarning, ZeroRowsWarning
from generators import normal, unit_rows

X = normal(300, 9)
FIRST = unit_rows(7, 9, 1)


def quiet(*args, **params):
    return KMeans(*args, **{"random_state": 0, "verbose": 0, **params})


def same(a, b):
    """Whether two models hold the same bits."""
    return (
        np.array_equal(a.labels_, b.labels_)
        and np.array_equal(a.cluster_centers_, b.cluster_centers_)
        and a.similarities == b.similarities
    )


def assert_answer(kmeans, expected):
    """The bits of the brute force, whole."""
    assert np.asarray(kmeans.cluster_centers_).tobytes() == expected.centroids.tobytes()
    assert np.array_equal(kmeans.labels_, expected.labels)
    assert kmeans.similarities == expected.similarities
    assert kmeans.n_iter_ == len(expected.similarities)


# ---------------------------------------------------------------- first centroids


def test_random_start_is_the_definition():
    kmeans = quiet(7).fit(X)

    assert_answer(kmeans, truth.fit(X, truth.random_start(X, 7, kmeans.random_state_), 100))


def test_plus_plus_start_is_the_definition():
    kmeans = quiet(7, init="k-means++").fit(X)

    assert_answer(kmeans, truth.fit(X, truth.plus_plus_start(X, 7, kmeans.random_state_), 100))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist, lambda first: 5.0 * first])
def test_given_first_centroids(kind):
    assert_answer(quiet(7, init=kind(FIRST)).fit(X), truth.fit(X, kind(FIRST), 100))


def test_a_callable_gets_the_rows_and_a_state_of_its_own():
    def init(rows, n_clusters, random_state):
        assert rows is X or np.shares_memory(rows, X)
        return rows[random_state.permutation(len(rows))[:n_clusters]]

    kmeans = quiet(7, init=init).fit(X)

    state = np.random.RandomState(kmeans.random_state_ % 2**32)
    assert_answer(kmeans, truth.fit(X, X[state.permutation(300)[:7]], 100))


def test_given_centroids_are_not_touched():
    given = 3.0 * FIRST
    before = given.copy()
    kmeans = quiet(7, init=given).fit(X)
    kmeans.cluster_centers_[:] = 0.0

    assert np.array_equal(given, before)


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_of_several_runs_the_best_is_kept(init):
    kmeans = quiet(12, None, 3, init=init, n_init=4).fit(X)

    start = {"random": truth.random_start, "k-means++": truth.plus_plus_start}[init]
    runs = [truth.fit(X, start(X, 12, kmeans.random_state_, run=run), 3) for run in range(4)]
    cosines = [truth.scores(truth.unit(X)[0], run.centroids).max(axis=1).mean() for run in runs]
    assert np.ptp(cosines) > 1e-3, "the runs must differ for the choice to mean something"
    assert_answer(kmeans, runs[int(np.argmax(cosines))])


def test_a_callable_is_asked_for_every_run():
    states = []

    def init(rows, n_clusters, random_state):
        states.append(random_state.randint(10**9))
        return FIRST

    quiet(7, init=init, n_init=3).fit(X)

    assert len(set(states)) == 3


# ---------------------------------------------------------------- the end


def test_a_fit_ends_at_its_fixed_point():
    kmeans = quiet(7, init=FIRST).fit(X)

    assert kmeans.stop_reason_ is StopReason.FIXED_POINT
    assert truth.fit(X, FIRST, 100).fixed
    assert kmeans.n_iter_ < 100


def test_a_fit_ends_after_its_epochs():
    kmeans = quiet(7, None, 3, init=FIRST).fit(X)

    assert kmeans.stop_reason_ is StopReason.EPOCHS
    assert_answer(kmeans, truth.fit(X, FIRST, 3))


def test_tol_ends_the_fit_at_the_first_small_shift():
    whole = quiet(7, init=FIRST).fit(X)
    shifts = [iteration.shift for iteration in whole.history_]
    small = sorted(shifts)[2]
    first_small = next(i for i, shift in enumerate(shifts) if shift <= small * 1.001)

    kmeans = quiet(7, init=FIRST, tol=small * 1.001).fit(X)

    assert kmeans.stop_reason_ is StopReason.TOLERANCE
    assert kmeans.n_iter_ == first_small + 1 < whole.n_iter_
    assert_answer(kmeans, truth.fit(X, FIRST, first_small + 1))


def test_the_shift_is_the_longest_chord():
    kmeans = quiet(7, None, 1, init=FIRST).fit(X)

    chords = np.linalg.norm(kmeans.cluster_centers_.astype(float) - FIRST, axis=1)
    assert abs(next(iter(kmeans.history_)).shift - chords.max()) < 1e-6


def test_max_iter_is_another_name_for_epochs():
    assert same(quiet(7, max_iter=2).fit(X), quiet(7, epochs=2).fit(X))
    assert quiet(7, max_iter=2).fit(X).n_iter_ == 2


# ---------------------------------------------------------------- random_state


def test_an_integer_repeats_a_fit():
    a, b, other = quiet(7).fit(X), quiet(7).fit(X), quiet(7, random_state=1).fit(X)

    assert same(a, b)
    assert a.random_state_ == b.random_state_ != other.random_state_


def test_without_a_state_every_fit_differs_and_any_can_be_repeated():
    a, b = quiet(7, random_state=None).fit(X), quiet(7, random_state=None).fit(X)

    assert a.random_state_ != b.random_state_
    again = quiet(7, random_state=a.random_state_).fit(X)
    assert same(a, again)
    assert again.random_state_ == a.random_state_


def test_a_random_state_object_moves_on():
    state = np.random.RandomState(5)
    seeds = [quiet(7, random_state=state).fit(X).random_state_ for _ in range(2)]

    source = np.random.RandomState(5)
    assert seeds == [source.randint(0, 2**63 - 1, dtype=np.int64) for _ in range(2)]


# ---------------------------------------------------------------- what a fit says


def test_labels_are_those_of_predict_and_lie_under_the_centers_returned():
    kmeans = quiet(7, None, 2).fit(X)

    assert np.array_equal(kmeans.labels_, kmeans.predict(X))
    assert np.array_equal(kmeans.labels_, truth.labels(truth.unit(X)[0], kmeans.cluster_centers_))
    assert kmeans.labels_.dtype == np.int64
    assert np.array_equal(quiet(7, None, 2).fit_predict(X), kmeans.labels_)


def test_cosines_are_the_canonical_ones():
    kmeans = quiet(7).fit(X)
    cosines = truth.scores(truth.unit(X)[0], kmeans.cluster_centers_)

    assert kmeans.transform(X).tobytes() == cosines.astype(np.float32).tobytes()
    assert kmeans.similarity_.tobytes() == cosines.max(axis=1).tobytes()
    assert quiet(7).fit_transform(X).tobytes() == cosines.astype(np.float32).tobytes()


def test_score_is_the_mean_cosine_and_inertia_the_sum_of_squared_chords():
    weights = np.random.default_rng(4).uniform(0, 3, 300)
    kmeans = quiet(7).fit(X, sample_weight=weights)
    rows = truth.unit(X)[0].astype(float)

    chords = ((rows - kmeans.cluster_centers_[kmeans.labels_]) ** 2).sum(axis=1)
    cosines = (rows * kmeans.cluster_centers_[kmeans.labels_]).sum(axis=1)
    assert abs(kmeans.inertia_ / (weights @ chords) - 1) < 1e-6
    assert abs(kmeans.score(X, sample_weight=weights) - np.average(cosines, weights=weights)) < 1e-7
    assert abs(kmeans.score(X) - cosines.mean()) < 1e-7


def test_inertia_does_not_depend_on_how_small_the_weights_are():
    weights = np.random.default_rng(4).uniform(0, 1, 300) * 2.0**-30

    small, large = (quiet(7).fit(X, sample_weight=w) for w in (weights, weights * 2.0**30))

    assert same(small, large)
    assert small.inertia_ * 2.0**30 == large.inertia_


def test_counts_and_features():
    kmeans = quiet(7).fit(X)

    assert np.array_equal(kmeans.counts_, np.bincount(kmeans.labels_, minlength=7))
    assert kmeans.n_distinct_ == 7
    assert kmeans.n_features_in_ == 9


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_integer_weights_are_repeated_rows(init):
    repeats = np.random.default_rng(3).integers(0, 4, 300)

    weighted = quiet(7, init=init).fit(X, sample_weight=repeats)
    repeated = quiet(7, init=init).fit(np.repeat(X, repeats, axis=0))

    assert weighted.cluster_centers_.tobytes() == repeated.cluster_centers_.tobytes()
    assert np.array_equal(np.repeat(weighted.labels_, repeats), repeated.labels_)
    assert weighted.similarities == repeated.similarities


@pytest.mark.parametrize("weight", [1, 0.25, np.ones(300), [2] * 300, torch.ones(300, dtype=torch.int32)])
def test_equal_weights_of_a_power_of_two_change_nothing(weight):
    assert same(quiet(7).fit(X, sample_weight=weight), quiet(7).fit(X))


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_rows_left_out_have_label_minus_one_and_no_say(init):
    rows = np.insert(X, [0, 100, 100], [[0.0] * 9, [np.nan] * 9, [np.inf] * 9], axis=0)
    left_out = np.array([0, 101, 102])

    with pytest.warns(SkippedRowsWarning, match=r"2 of 303 rows contain NaN or infinity \(the first is row 101\)"):
        kmeans = quiet(7, init=init, nonfinite="skip", zero_rows="skip").fit(rows)

    assert np.array_equal(np.flatnonzero(kmeans.labels_ == -1), left_out)
    assert not kmeans.similarity_[left_out].any()
    with pytest.warns(SkippedRowsWarning):
        assert not kmeans.transform(rows)[left_out].any()
    kept = np.delete(rows, left_out, axis=0)
    assert np.array_equal(np.delete(kmeans.labels_, left_out), kmeans.predict(kept))
    assert kmeans.counts_.sum() == 300


def test_zero_rows_give_one_warning_with_count_and_first():
    rows = X * (np.arange(300) % 100 != 5)[:, None]

    with pytest.warns(ZeroRowsWarning, match=r"3 of 300 rows are zero \(the first is row 5\)") as caught:
        kmeans = quiet(7, 10).fit(rows)

    assert len(caught) == 1
    assert np.array_equal(np.flatnonzero(kmeans.labels_ == -1), [5, 105, 205])


def test_more_clusters_than_distinct_rows_end_and_say_so():
    rows = np.tile(np.eye(4, 6, dtype=np.float32), (10, 1))

    with pytest.warns(DistinctRowsWarning, match=r"n_clusters=9, but only 4 centroids are distinct.*Lower n_clusters"):
        kmeans = quiet(9).fit(rows)

    assert kmeans.n_distinct_ == 4
    assert len(np.unique(kmeans.labels_)) == 4
    assert kmeans.stop_reason_ is StopReason.FIXED_POINT


@pytest.mark.parametrize("policy", ["keep", "move"])
def test_clusters_without_rows(policy):
    init = np.concatenate([unit_rows(1, 9), -np.abs(unit_rows(2, 9, 3))])
    rows = np.abs(normal(50, 9, 5)) + init[0] * 2

    kmeans = quiet(3, None, 1, init=init, empty_clusters=policy).fit(rows)

    assert np.array_equal(kmeans.cluster_centers_[1:], truth.unit(init)[0][1:]) == (policy == "keep")


def test_a_model_fitted_on_a_gpu_answers_on_any_machine(tmp_path):
    kmeans = quiet(7).fit(X)
    kmeans.set_params(backend="gpu", device="cuda:3").save(tmp_path / "gpu")
    kmeans.set_params(backend="reference", device="auto").save(tmp_path / "reference")

    loaded = KMeans.load(tmp_path / "gpu")

    assert (loaded.backend, loaded.device) == ("auto", "auto")
    assert np.array_equal(loaded.predict(X), kmeans.labels_)
    assert KMeans.load(tmp_path / "reference").backend == "reference"


def test_plot_gives_a_figure(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")

    figure = quiet(7).fit(X).plot(tmp_path / "fit.png")

    assert (tmp_path / "fit.png").stat().st_size > 1000
    assert figure.axes

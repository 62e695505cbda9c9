"""What README, docs/differences.md and the docstring of `fit` promise, over every way to start and to weigh."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cosmeans import KMeans
from generators import normal, unit_rows

N, D, K = 420, 9, 5
X = normal(N, D)
GIVEN = unit_rows(K, D, 1)


def called(rows, n_clusters, random_state):
    return rows[random_state.choice(len(rows), n_clusters, replace=False)]


INITS = {"random": "random", "k-means++": "k-means++", "nested": "nested", "given": GIVEN, "callable": called}
INTEGERS = np.random.default_rng(1).integers(0, 4, N)
WEIGHTS = {
    "no weights": None,
    "integers": INTEGERS.astype(float),
    "reals": np.random.default_rng(2).exponential(1.0, N),
    "below one": np.random.default_rng(3).random(N) / 50,
}

every_init = pytest.mark.parametrize("init", INITS)
every_weight = pytest.mark.parametrize("kind", WEIGHTS)


def fit(x, weights, init, **options):
    """init: one of INITS by name, or centroids."""
    options = {"n_clusters": K, "epochs": 6, "random_state": 0, "verbose": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return KMeans(init=INITS[init] if isinstance(init, str) else init, **options).fit(x, sample_weight=weights)


def assert_same(one, other):
    assert np.array_equal(one.labels_, other.labels_)
    assert one.cluster_centers_.tobytes() == other.cluster_centers_.tobytes()
    assert one.similarities == other.similarities


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("init", ["random", "k-means++", "given"])
def test_integer_weights_are_repeated_rows(init, seed):
    weighted = fit(X, INTEGERS, init, random_state=seed)
    repeated = fit(np.repeat(X, INTEGERS, axis=0), None, init, random_state=seed)

    assert weighted.cluster_centers_.tobytes() == repeated.cluster_centers_.tobytes()
    assert np.array_equal(np.repeat(weighted.labels_, INTEGERS), repeated.labels_)
    assert weighted.similarities == repeated.similarities
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=2.0**-50, abs=0.0)


@pytest.mark.parametrize("size", [100, 300])
def test_the_largest_sample_that_repeats_is_that_of_all_rows(size):
    """k-means++ reads all rows of both sides up to 256 K; beyond, nothing is promised."""
    x, weights = normal(size, 4, 5), np.full(size, 512 // size if size < 257 else 1)
    assert weights.sum() <= 256 * 2
    weighted = fit(x, weights, "k-means++", n_clusters=2)
    repeated = fit(np.repeat(x, weights, axis=0), None, "k-means++", n_clusters=2)
    assert weighted.cluster_centers_.tobytes() == repeated.cluster_centers_.tobytes()


@every_init
@pytest.mark.parametrize("factor", [2, 64, 0.5])
def test_integer_weights_times_a_power_of_two_give_every_bit(init, factor):
    """With sums below 2^22 on both sides."""
    assert_same(fit(X, INTEGERS * 2, init), fit(X, INTEGERS * 2 * factor, init))


@every_init
@pytest.mark.parametrize("factor", [2.0**-40, 0.5, 64.0])
def test_weights_below_two_times_a_power_of_two_give_every_bit(init, factor):
    weights = WEIGHTS["below one"]
    assert (weights * factor).max() < 2
    assert_same(fit(X, weights, init), fit(X, weights * factor, init))


@every_init
@pytest.mark.parametrize("factor", [3, 100, 777])
def test_weights_times_an_integer_start_alike_and_end_alike(init, factor):
    one, other = (fit(X, INTEGERS * c, init, epochs=1, empty_clusters="keep") for c in (1, factor))
    np.testing.assert_allclose(one.cluster_centers_, other.cluster_centers_, atol=1e-6)
    assert (one.labels_ == other.labels_).mean() > 0.99


@every_init
def test_one_weight_for_all_is_no_weight(init):
    assert_same(fit(X, None, init), fit(X, np.full(N, 4.0), init))
    assert_same(fit(X, None, init), fit(X, 0.25, init))


# -------------------------------------------------------- order, batches, seeds


@every_weight
@pytest.mark.parametrize("empty", [False, True])
def test_rows_in_any_order_give_the_same_centroids_from_given_ones(kind, empty):
    order, weights = np.random.default_rng(4).permutation(N), WEIGHTS[kind]
    first = np.concatenate([GIVEN[:-1], [-X.mean(axis=0)]]) if empty else GIVEN
    one, other = fit(X, weights, first), fit(X[order], None if weights is None else weights[order], first)

    assert one.cluster_centers_.tobytes() == other.cluster_centers_.tobytes()
    assert np.array_equal(one.labels_[order], other.labels_)
    assert (one.similarities, one.inertia_) == (other.similarities, other.inertia_)


@every_init
@every_weight
def test_batches_and_threads_change_nothing(init, kind, threads):
    expected = fit(X, WEIGHTS[kind], init)
    for batch_size, count in ((1 + N // 3, 1), (64, 2)):
        threads(count)
        found = fit(X, WEIGHTS[kind], init, batch_size=batch_size)
        assert_same(expected, found)
        assert expected.inertia_ == found.inertia_


@every_init
@pytest.mark.parametrize("n_init", [1, 3])
def test_a_seed_given_back_repeats_the_fit(init, n_init):
    options = {"n_init": 1 if init == "given" else n_init}
    drawn = fit(X, None, init, random_state=None, **options)
    assert_same(drawn, fit(X, None, init, random_state=drawn.random_state_, **options))
    assert_same(fit(X, None, init, random_state=7, **options), fit(X, None, init, random_state=7, **options))


# ------------------------------------------------------------------ a second fit


@every_init
@every_weight
def test_a_fit_stopped_and_continued_is_the_fit_that_was_not(init, kind):
    parts = KMeans(K, init=INITS[init], random_state=0, verbose=0)
    for epochs in (1, 2, 3):
        parts.set_params(epochs=epochs).fit(X, sample_weight=WEIGHTS[kind])
    assert_same(parts, fit(X, WEIGHTS[kind], init))


@pytest.mark.parametrize("init", ["random", "k-means++", "nested"])
def test_of_several_starts_the_best_goes_on_alone(init):
    parts = fit(X, None, init, n_init=3, epochs=2)
    alone = fit(X, None, parts.cluster_centers_.copy(), epochs=4)
    assert parts.set_params(epochs=4).fit(X).cluster_centers_.tobytes() == alone.cluster_centers_.tobytes()

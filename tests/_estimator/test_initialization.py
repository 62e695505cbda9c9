"""Several starts: which is kept, and what is kept when a stop is requested in between."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from cosmeans import KMeans, StopReason, choose_k, open_rows, printable
from cosmeans._estimator.initialization import FirstCentroids
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.errors import IgnoredOptionWarning, OptionError
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent, set_observer
from generators import normal, unit_rows

X = normal(300, 9)


class StopAt(Silent):
    """Requests a stop at one moment: in run `run`, at the first sign of its seeding or of its epoch 2."""

    def __init__(self, run, what):
        super().__init__()
        self.wanted, self.number = (run, what), 0
        self.runs = []

    def run(self, number, of):
        self.number = number
        self.runs.append((number, of))

    def seeding(self, done, total):
        self.stop_requested |= (self.number, "seeding") == self.wanted

    def epoch(self, number, of):
        self.stop_requested |= (self.number, f"epoch {number}") == self.wanted


def watched(observer, n_init):
    kmeans = KMeans(12, init="k-means++", n_init=n_init, random_state=0, verbose=0)
    set_observer(kmeans, observer)
    return kmeans


@pytest.mark.parametrize("what", ["seeding", "epoch 2"])
def test_a_stop_in_a_later_run_keeps_the_best_so_far(what):
    observer = StopAt(3, what)
    kmeans = watched(observer, n_init=9).fit(X)

    runs = [KMeans(12, init="k-means++", n_init=n, random_state=0, verbose=0).fit(X) for n in (1, 2)]
    best = max(runs, key=lambda run: run.score(X))
    assert observer.runs == [(1, 9), (2, 9), (3, 9)]
    assert kmeans.stop_reason_ is StopReason.INTERRUPTED
    assert kmeans.score(X) >= best.score(X)
    if what == "seeding":
        assert kmeans.cluster_centers_.tobytes() == best.cluster_centers_.tobytes()
    assert np.array_equal(kmeans.labels_, kmeans.predict(X))


def test_of_equal_runs_the_first_is_kept():
    starts = []

    def init(rows, n_clusters, random_state):
        starts.append(rows[:2] if not starts else rows[1::-1])
        return starts[-1]

    kmeans = KMeans(2, init=init, n_init=2, random_state=0, verbose=0).fit(X)

    # two centroids the other way round: the same similarity to the last bit, other labels
    first, second = (KMeans(2, init=start, verbose=0).fit(X) for start in starts)
    assert first.score(X) == second.score(X)
    assert not np.array_equal(first.labels_, second.labels_)
    assert np.array_equal(kmeans.labels_, first.labels_)


def test_a_stop_before_anything_was_reached_leaves_nothing():
    kmeans = watched(StopAt(1, "seeding"), n_init=3)

    with pytest.raises(KeyboardInterrupt):
        kmeans.fit(X)

    assert not hasattr(kmeans, "labels_")


def test_ctrl_c_without_a_stop_requested_is_not_swallowed():
    calls = []

    def init(rows, n_clusters, random_state):
        calls.append(n_clusters)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rows[:n_clusters]

    with pytest.raises(KeyboardInterrupt):
        KMeans(12, init=init, n_init=3, random_state=0, verbose=0).fit(X)


def test_more_starts_than_one_of_given_centroids_are_told():
    with pytest.warns(IgnoredOptionWarning, match="instead of n_init=10") as told:
        kmeans = KMeans(3, init=unit_rows(3, 9), n_init=10, verbose=0).fit(X)
    assert issubclass(told[0].category, RuntimeWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IgnoredOptionWarning)
        kmeans.fit(X)  # goes on, and says so by itself
        KMeans(3, n_init=3, random_state=0, verbose=0).fit(X)
        KMeans(3, init=unit_rows(3, 9), verbose=0).fit(X)


# ------------------------------------------------ before all rows are read


def first_of(init, given=None, n_init=2):
    return FirstCentroids(init, given, X, 1 << 33, FitOptions(n_clusters=12, n_init=n_init))


WEIGHTS = np.random.default_rng(5).integers(0, 3, len(X)).astype(np.float64)


def early_of(first, x=X, weights=None, source=None):
    weights = None if weights is None else torch.from_numpy(weights)
    return first.before_reading(source or MemoryRows(torch.from_numpy(x)), ReferenceBackend(), weights)


def of_run(first, run, open_session, weights=None):
    return first.of_run(run, open_session(X, ReferenceBackend(), weights), Silent())


def test_given_centroids_are_known_early():
    given = torch.from_numpy(normal(12, 9))

    assert early_of(first_of(given, given)) is given
    assert early_of(first_of(given, given), weights=WEIGHTS) is given


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS / 7], ids=["one", "integers", "below 1"])
def test_random_rows_are_found_early_and_not_again(weights, open_session, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    first = first_of("random")

    early = early_of(first, weights=weights, source=open_rows(tmp_path / "rows.npy"))

    assert torch.equal(early, of_run(first_of("random"), 0, open_session, weights))
    assert of_run(first, 0, open_session, weights) is early
    assert torch.equal(of_run(first, 1, open_session, weights), of_run(first_of("random"), 1, open_session, weights))


def test_with_weights_rows_in_memory_are_inspected_first():
    assert early_of(first_of("random")) is not None
    assert early_of(first_of("random"), weights=WEIGHTS) is None


def test_a_row_without_direction_among_those_drawn_leaves_the_start_for_later(open_session):
    gaps = X.copy()
    gaps[::2] = 0.0
    first = first_of("random")

    assert early_of(first, gaps) is None
    assert torch.equal(of_run(first, 0, open_session), of_run(first_of("random"), 0, open_session))


@pytest.mark.parametrize(
    "init", ["k-means++", "nested", lambda *_, **__: X[:12]], ids=["k-means++", "nested", "callable"]
)
def test_other_starts_are_not_known_early(init):
    assert early_of(first_of(init)) is None


WRONG_SEEDS = [10**20, -1, -(10**30), 2**63, 10**5000, 1.5, 0.0, float("nan"), Fraction(1, 2), 1j]
WRONG_SEEDS += ["7", b"7", [1, 2], (1,), {}, object(), type, np.array([0.5]), np.random.default_rng(0)]


@pytest.mark.parametrize("seed", WRONG_SEEDS, ids=lambda seed: f"{printable.brief(seed):.20}")
def test_a_random_state_that_is_none_is_told_in_our_words(seed):
    rows = np.eye(6)

    with pytest.raises(OptionError, match=r"random_state must be an integer from 0 to 2\^63 - 1, .* or None; got "):
        KMeans(2, random_state=seed, verbose=0).fit(rows)
    with pytest.raises(OptionError, match="random_state must be an integer of at least 0"):
        choose_k(rows, [2], random_state=seed, verbose=0)


GOOD_SEEDS = [0, 2**32 - 1, 2**32, 2**63 - 1, np.uint64(7), np.int8(7), None, np.random.RandomState(0)]


@pytest.mark.parametrize("seed", GOOD_SEEDS)
def test_every_random_state_that_is_one_is_taken(seed):
    first = KMeans(2, random_state=seed, verbose=0).fit(np.eye(6))

    again = KMeans(2, random_state=first.random_state_, verbose=0).fit(np.eye(6))
    assert again.labels_.tolist() == first.labels_.tolist()

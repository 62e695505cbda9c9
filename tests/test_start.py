"""Several starts: which is kept, and what is kept when a stop is requested in between."""

import numpy as np
import pytest

from cosmeans import KMeans, StopReason
from cosmeans.progress import Silent
from generators import normal

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
    kmeans._observer = observer
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

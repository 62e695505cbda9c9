"""The plain session of every backend: epochs, labels, restarts and passes are those of the definition."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd
from cosmeans.backends import reference
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.backends.session import PlainSession
from cosmeans.data import ClusterSums, Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import CASES, normal, text_rows, unit_rows

KINDS = ["random", "any lengths", "zero rows", "duplicates", "one ulp apart", "D = 1"]


class Notes(Silent):
    """What a session tells, in order; requests a stop after so many batches."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.told, self.left = [], stop_after

    def reading(self, rows, total):
        self.told.append(("reading", rows, total))

    def epoch(self, number, of):
        self.told.append(("epoch", number, of))

    def batch(self, rows):
        self.told.append(("batch", rows))
        if self.left is not None:
            self.left -= 1
            self.stop_requested = self.left <= 0


def centroids_of(first):
    return torch.from_numpy(truth.unit(first)[0])


def true_labels(x, centroids):
    units, keep = truth.unit(x)
    return truth.labels(units, centroids.numpy(), keep)


def assert_labelled(found, x, centroids, weights=None):
    """Labels, counts and similarity are those of rows x under these centroids."""
    labels = true_labels(x, centroids)
    np.testing.assert_array_equal(found.labels.numpy(), labels)
    assert found.labels.dtype == torch.int32
    assert found.counts.tolist() == [int((labels == k).sum()) for k in range(len(centroids))]
    assert torch.equal(found.centroids, centroids)
    units, keep = truth.unit(x)
    weights = [1.0] * len(x) if weights is None else truth.scaled_weights(weights)
    scale = truth.scale_of(weights)
    added = truth.terms(np.where(keep[:, None], units, 0), weights, scale)
    total = sum(truth.term(w, 1 << scale) for w, k in zip(weights, keep, strict=True) if k)
    sums = truth.sums(added, labels, len(centroids))
    assert found.similarity == truth.similarity(sums, centroids.numpy(), total)


# ------------------------------------------------------------------- epochs


@pytest.mark.parametrize("case", KINDS)
def test_epochs_are_those_of_the_definition(case, backend, open_session):
    x, first = CASES[case]()
    session, number = open_session(x, backend, None, len(first), batch_size=90), 0
    for number, epoch in enumerate(session.epochs(centroids_of(first), 4), 1):
        assert epoch.number == number
        labels = true_labels(x, epoch.centroids)
        np.testing.assert_array_equal(session.labels(epoch).numpy(), labels)
        expected = truth.fit(x, epoch.centroids.numpy(), 1)
        if not epoch.update.degenerate.any():
            assert epoch.update.centroids.numpy().tobytes() == expected.centroids.tobytes()
        stats, sizes = epoch.stats(), np.bincount(labels[labels >= 0], minlength=len(first))
        assert stats.similarity == expected.similarities[0]
        assert (
            stats.squared_shift
            == truth.tree(np.square((epoch.update.centroids - epoch.centroids).numpy().astype(np.float64))).max()
        )
        assert (stats.assigned, stats.largest, stats.empty) == (sizes.sum(), sizes.max(), (sizes == 0).sum())
        assert stats.squared_sizes == (sizes.astype(float) ** 2).sum()
        assert stats.degenerate == int(epoch.update.degenerate.sum())
        assert stats.moved == (not torch.equal(epoch.update.centroids, epoch.centroids))
    assert number == 4


def test_each_epoch_starts_from_the_centroids_that_the_last_one_ended_with(backend, open_session):
    x, first = CASES["text"]()
    session = open_session(x, backend, None, len(first))
    start, labels = centroids_of(first), np.full(len(x), -1)
    for epoch in session.epochs(start, 5):
        assert torch.equal(epoch.centroids, start)
        found = session.labels(epoch).numpy()
        assert epoch.stats().changed == int((found != labels).sum())
        start, labels = epoch.update.centroids, found.copy()


def test_a_restart_goes_on_from_other_centroids_with_the_labels_at_hand(backend, open_session):
    x, first = normal(300, 8), unit_rows(6, 8, 1)
    session, other = open_session(x, backend, None, 6, batch_size=70), centroids_of(unit_rows(6, 8, 2))
    epochs = session.epochs(centroids_of(first), 3)
    one = next(epochs)
    before = session.labels(one).numpy().copy()
    session.restart(other)
    two = next(epochs)
    assert two.number == 2
    assert torch.equal(two.centroids, other)
    np.testing.assert_array_equal(session.labels(two).numpy(), true_labels(x, other))
    assert two.stats().changed == int((before != session.labels(two).numpy()).sum())
    assert two.stats().similarity == truth.fit(x, other.numpy(), 1).similarities[0]


# --------------------------------------------------------------- the last pass


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_finish_labels_the_rows_under_the_centroids_it_is_given(epochs, backend, open_session):
    x, first = normal(300, 8), unit_rows(6, 8, 1)
    notes = Notes()
    session, centroids = open_session(x, backend, None, 6, notes, batch_size=70), centroids_of(first)
    for epoch in session.epochs(centroids, epochs):
        centroids = epoch.update.centroids
    notes.told.clear()
    assert_labelled(session.finish(centroids), x, centroids)
    assert notes.told == [("epoch", epochs + 1, 0), *[("batch", n) for n in (70, 70, 70, 70, 20)]]


def test_at_rest_the_labels_at_hand_are_the_last(backend, open_session):
    x, first = CASES["duplicates"]()
    notes = Notes()
    session = open_session(x, backend, None, len(first), notes)
    for epoch in session.epochs(centroids_of(first), 50):
        if not epoch.stats().moved:
            break
    assert not epoch.stats().moved
    notes.told.clear()
    assert_labelled(session.finish(epoch.update.centroids, at_rest=True), x, epoch.centroids)
    assert notes.told == []


@pytest.mark.parametrize("batches", [1, 4, 5, 7, 10])
def test_a_stop_ends_epochs_and_not_the_last_pass(batches, backend, open_session):
    """300 rows in 5 batches: an epoch that is not complete is not yielded."""
    x, first = normal(300, 8), unit_rows(6, 8, 1)
    notes = Notes(stop_after=batches)
    session, centroids = open_session(x, backend, None, 6, notes, batch_size=60), centroids_of(first)
    found = []
    for epoch in session.epochs(centroids, 9):
        found.append(epoch.number)
        centroids = epoch.update.centroids
    assert found == list(range(1, batches // 5 + 1))
    assert [told for told in notes.told if told[0] == "batch"] == [("batch", 60)] * batches
    expected = truth.fit(x, first, len(found))
    assert centroids.numpy().tobytes() == expected.centroids.tobytes()
    assert_labelled(session.finish(centroids), x, centroids)


def test_what_a_fit_returned_stays_when_others_follow(backend, open_session):
    x, first = normal(300, 8), [unit_rows(6, 8, seed) for seed in (1, 2)]
    session, options = open_session(x, backend, None, 6), FitOptions(n_clusters=6, epochs=3)
    one = lloyd.fit(session, centroids_of(first[0]), options, Silent())
    kept = [value.clone() for value in (one.labels, one.centroids, one.counts)]
    two = lloyd.fit(session, centroids_of(first[1]), options, Silent())
    session.measure(centroids_of(first[1]))
    assert all(torch.equal(a, b) for a, b in zip(kept, (one.labels, one.centroids, one.counts), strict=True))
    for result, start in ((one, first[0]), (two, first[1])):
        expected = truth.fit(x, start, 3)
        assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
        np.testing.assert_array_equal(result.labels.numpy(), expected.labels)


# ------------------------------------------------------------------ one pass


@pytest.mark.filterwarnings("ignore::cosmeans.errors.WeightRangeWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", KINDS)
def test_one_pass_finds_labels_counts_and_similarity(case, weighted, backend, open_session):
    x, first = CASES[case]()
    weights = np.random.default_rng(0).exponential(1.0, len(x)) if weighted else None
    notes = Notes()
    session, centroids = open_session(x, backend, weights, len(first), notes, batch_size=90), centroids_of(first)
    notes.told.clear()
    np.testing.assert_array_equal(session.assign(centroids).numpy(), true_labels(x, centroids))
    assert notes.told[0] == ("epoch", 1, 0)
    assert sum(rows for what, rows, *_ in notes.told[1:] if what == "batch") == len(x)
    assert_labelled(session.measure(centroids), x, centroids, weights)


def test_reading_tells_how_far_it_is(backend, open_session):
    notes = Notes()
    session = open_session(normal(150, 4), backend, None, 2, notes, batch_size=60)
    assert notes.told == [("reading", rows, 150) for rows in (60, 120, 150)]
    assert not session.labels_while_reading


@pytest.mark.parametrize("sampled", [False, True])
def test_no_rows_are_no_interrupted_pass(sampled, backend, open_session):
    none, x = torch.empty(0, dtype=torch.int64), normal(60, 7)
    session = open_session(x if sampled else x[:0], backend, None, 3)
    if sampled:
        session = session.subset(none, Silent()).subset(none, Silent())
    first = torch.from_numpy(unit_rows(3, 7))

    result = lloyd.fit(session, first, FitOptions(n_clusters=3, epochs=4), Silent())
    measured = session.measure(first)

    assert torch.equal(result.centroids, first)
    assert result.counts.tolist() == measured.counts.tolist() == [0, 0, 0]
    assert len(result.labels) == len(measured.labels) == len(session.assign(first)) == 0


# -------------------------------------------------------------------- subsets


def test_a_subset_is_a_session_over_its_rows(backend, open_session):
    x, first = text_rows(500), text_rows(20)[::2].copy()
    session, notes = open_session(x, backend, None, 10, batch_size=90), Notes()
    index = torch.from_numpy(np.sort(np.random.default_rng(0).choice(500, 200, replace=False)))
    start = centroids_of(first)
    with session.subset(index, notes) as part:
        assert part.rows.n_rows == 200
        result = lloyd.fit(part, start, FitOptions(n_clusters=10, epochs=3), notes)
        np.testing.assert_array_equal(part.assign(start).numpy(), true_labels(x[index], start))
    expected = truth.fit(x[index], first, 3)
    assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
    np.testing.assert_array_equal(result.labels.numpy(), expected.labels)
    assert ("epoch", 1, 3) in notes.told
    assert_labelled(session.measure(start), x, start)  # nothing that was kept of the part is taken for the whole
    np.testing.assert_array_equal(session.assign(start).numpy(), true_labels(x, start))


# ----------------------------------------------------------------- operations


def test_operations_are_told_when_a_fit_and_when_a_pass_begins():
    told, x = [], normal(100, 5)

    def assign(batch, prepared, before):
        told.append(("assign", prepared, before.tolist()))
        return reference.assign(batch, prepared[0], before)

    operations = replace(
        reference.OPERATIONS,
        assign=assign,
        prepare=lambda centroids: told.append(("prepare", centroids)) or (centroids, len(told)),
        begin=lambda rows: told.append(("begin", rows)),
    )
    task, device = Task(3, batch_size=60), torch.device("cpu")
    session = PlainSession(lambda: operations, MemoryRows(torch.from_numpy(x)), task, device, Alone(), Silent())
    session.read()
    centroids = torch.from_numpy(unit_rows(3, 5, 1))
    epochs = list(session.epochs(centroids, 2))
    assert [what for what, *_ in told] == ["begin", *["prepare", "assign", "assign"] * 2]
    assert told[0][1] is session.rows
    assert told[1][1] is centroids
    assert told[4][1] is epochs[0].update.centroids
    assert told[2][1] is told[3][1]  # what was prepared goes to every batch
    assert told[2][2] == [-1] * 60
    assert told[5][2] == true_labels(x, centroids)[:60].tolist()
    session.finish(centroids)
    session.assign(centroids)
    assert [what for what, *_ in told].count("begin") == 1


def test_sessions_over_some_of_the_rows_have_operations_of_their_own():
    """What is kept of rows is never taken for that of others."""
    x, centroids = torch.from_numpy(unit_rows(100, 5)), torch.from_numpy(unit_rows(3, 5, 1))
    begun = []

    def operations():
        mine = len(begun)
        begun.append([])
        return replace(reference.OPERATIONS, begin=begun[mine].append)

    session = PlainSession(operations, MemoryRows(x), Task(3), torch.device("cpu"), Alone(), Silent())
    session.read()
    with session.subset(torch.arange(50), Silent()) as part, part.subset(torch.arange(9), Silent()) as fewer:
        for each in (fewer, session, part):
            next(each.epochs(centroids, 1))
        assert begun == [[session.rows], [part.rows], [fewer.rows]]


class OfTwo:
    """One of two processes, here threads, that hold a part of the rows each."""

    alone = False

    def __init__(self, sums, barrier):
        self._sums, self._barrier = sums, barrier

    def sum(self, sums):
        self._barrier.wait(30)
        self._sums.append(copied(sums))
        self._barrier.wait(30)
        first, second = self._sums[-2:]
        return ClusterSums(first.direction + second.direction, first.count + second.count, sums.scale)


def copied(sums):
    return ClusterSums(sums.direction.clone(), sums.count.clone(), sums.scale)


def test_processes_that_share_the_rows_find_the_centroids_and_counts_of_all():
    x, first = normal(200, 6), unit_rows(5, 6, 1)
    shared, barrier, found = [], threading.Barrier(2), {}

    def process(part):
        task, group = Task(5, batch_size=64), OfTwo(shared, barrier)
        source = MemoryRows(torch.from_numpy(x[part].copy()))
        with ReferenceBackend().session(source, task, group, Silent(), print) as session:
            session.read()
            options = FitOptions(n_clusters=5, epochs=3)
            found[part.start] = lloyd.fit(session, centroids_of(first), options, Silent())

    threads = [threading.Thread(target=process, args=(part,)) for part in (slice(0, 90), slice(90, 200))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = truth.fit(x, first, 3)
    for start, result in found.items():
        assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
        assert result.counts.tolist() == np.bincount(expected.labels, minlength=5).tolist()
        np.testing.assert_array_equal(result.labels.numpy(), expected.labels[start : start + len(result.labels)])
    assert len(found) == 2


def test_the_rows_of_a_session_do_not_outlive_it(backend):
    """Rows may fill the memory: they must not wait for the collector of cycles."""
    rows = MemoryRows(torch.from_numpy(normal(50, 4)))
    gone = weakref.ref(rows)
    gc.collect()
    gc.disable()
    try:
        with backend.session(rows, Task(3), Alone(), Silent(), lambda line: None) as session:
            session.read()
            session.assign(torch.from_numpy(unit_rows(3, 4)))
        del session, rows
        assert gone() is None
    finally:
        gc.enable()

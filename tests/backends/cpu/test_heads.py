"""Passes over heads of rows: a label is taken from them by proof alone, however they lie within what they lost."""

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import ClusterSums, Task
from cosmeans.group import Alone
from cosmeans.progress import Silent
from generators import CASES, near_ties, unit_rows
from halved import Headed, between, opposite, towards
from screening import assigned_by

STRATEGIES = ["auto", "float32", "split", "pca", "int8"]


def opened(source, backend, n_clusters=1, weights=None, **options):
    task = Task(n_clusters, weights=weights, zero_rows="skip", **options)
    session = backend.session(source, task, Alone(), Silent(), lambda line: None)
    session.__enter__().read()
    return session


def backend_of(strategy, library=False):
    return CpuBackend(strategy, 1 << 30, Host(pack=lambda columns: None) if library else Host())


@pytest.mark.parametrize("library", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_labels_are_those_of_the_definition(strategy, case, library):
    """In passes over heads alone, with and without bounds of a pass before."""
    x, centroids = CASES[case]()
    moved = centroids.copy()
    moved[::7] = moved[::7][::-1]
    backend = backend_of(strategy, library)
    rows = opened(Headed(x), backend, batch_size=130).rows
    passes = [centroids, moved, moved]
    keep = truth.unit(x)[1]
    for (labels, _, _), those in zip(assigned_by(backend, rows, passes, narrow=(0, 1, 2)), passes, strict=True):
        np.testing.assert_array_equal(labels, np.where(keep, truth.labels(x, those), -1))


def labels_between(strategy, claimed, passes=1):
    """Labels of the last of some passes, which is over heads, and the true ones."""
    x, centroids, heads = between()
    backend = backend_of(strategy)
    rows = opened(Headed(x, heads, claimed), backend).rows
    *_, (labels, _, _) = assigned_by(backend, rows, passes * [centroids], narrow=(passes - 1,))
    return labels, truth.labels(x, centroids)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_heads_that_lie_prove_nothing_wrong(strategy, passes):
    labels, expected = labels_between(strategy, 1.0, passes)
    np.testing.assert_array_equal(labels, expected)
    assert (labels_between(strategy, 0.3, passes)[0] != expected).any()  # what they lost is needed


def labels_turned(strategy, claimed):
    """Labels of a second pass, over heads that lie towards the labels of the first, and the true ones of both."""
    x, centroids, turned = opposite()
    before, after = truth.labels(x, centroids), truth.labels(x, turned)
    backend = backend_of(strategy)
    rows = opened(Headed(x, towards(x, centroids, before), claimed), backend).rows
    *_, (labels, prepared, _) = assigned_by(backend, rows, [centroids, turned], narrow=(1,))
    return labels, before, after, prepared


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_heads_that_lie_towards_the_label_before_keep_none_that_is_wrong(strategy):
    labels, before, after, prepared = labels_turned(strategy, 1.0)
    assert (before != after).sum() > 100
    np.testing.assert_array_equal(labels, after)
    assert (labels_turned(strategy, 0.3)[0] != after).any()
    assert strategy == "float32" or prepared.split.heavy < 40  # bounds took part


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bounds_that_heads_leave_hold_for_the_rows(strategy):
    """A pass over heads, then one over the rows: nothing that the first has kept is too small."""
    x, centroids, turned = opposite()
    before = truth.labels(x, centroids)
    backend = backend_of(strategy)
    rows = opened(Headed(x, towards(x, centroids, before)), backend).rows
    *_, (labels, _, _) = assigned_by(backend, rows, [centroids, turned], narrow=(0,))
    np.testing.assert_array_equal(labels, truth.labels(x, turned))


def test_most_rows_are_not_fetched():
    x, centroids = unit_rows(3000, 64), unit_rows(50, 64, 1)
    source, backend = Headed(x), backend_of("split")
    rows = opened(source, backend, batch_size=1000).rows
    source.asked.clear()
    for labels, _, _ in assigned_by(backend, rows, [centroids], narrow=(0,)):
        np.testing.assert_array_equal(labels, truth.labels(x, centroids))
    fetched = sum(size for what, size in source.asked if what == "joined")
    assert 0 < fetched < 0.05 * len(x)


def test_heads_that_are_the_rows_are_never_fetched_to_be_labelled():
    x = unit_rows(500, 16).astype(np.float16).astype(np.float32)
    source, backend = Headed(x), backend_of("split")
    rows = opened(source, backend).rows
    centroids = np.repeat(unit_rows(3, 16, 1), 2, axis=0) + np.float32(1e-7) * unit_rows(6, 16, 2)
    for labels, _, _ in assigned_by(backend, rows, [truth.unit(centroids)[0]], narrow=(0,)):
        np.testing.assert_array_equal(labels, truth.labels(x, truth.unit(centroids)[0]))
    assert "joined" not in dict(source.asked)


@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", ["random", "any lengths", "zero rows", "64 within 1e-4"])
def test_a_fit_over_heads_has_the_bits_of_one_over_rows(strategy, case, weights):
    x, first = CASES[case]()
    given = None if weights is None else torch.from_numpy(np.random.default_rng(1).uniform(0, 3, len(x)))
    source, backend = Headed(x), backend_of(strategy)
    options = {"weights": given, "n_clusters": len(first), "batch_size": 130}
    fits = [opened(one, backend, **options) for one in (source, Headed(x))]
    fits[1].rows.source.heads = lambda span: None
    source.asked.clear()
    runs = [list(session.epochs(torch.from_numpy(first), 4)) for session in fits]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one.update.centroids, other.update.centroids)
        assert (one.stats().similarity, one.stats().changed) == (other.stats().similarity, other.stats().changed)
    asked = {what for what, _ in source.asked}
    assert "heads" in asked
    last = runs[0][-1].update.centroids
    found, expected = (session.finish(last) for session in fits)
    assert torch.equal(found.labels, expected.labels)
    assert found.own.inertia == expected.own.inertia
    assert torch.equal(found.own.scores, expected.own.scores)


def test_sums_are_those_of_the_rows():
    x = unit_rows(300, 24)
    source, backend = Headed(x), backend_of("float32")
    (batch,) = opened(source, backend).rows.batches(narrow=True)
    before, after = torch.full((300,), -1, dtype=torch.int32), torch.arange(300, dtype=torch.int32) % 5
    sums, expected = (ClusterSums.zeros(5, 24, 40, "cpu") for _ in range(2))
    operations = backend.operations()
    assert operations.accumulate(batch, before.clone(), after, sums) == 300
    (exact,) = opened(source, backend).rows.batches()
    operations.accumulate(exact, before, after, expected)
    assert torch.equal(sums.direction, expected.direction)


def test_rows_that_are_too_close_together_for_heads_are_read_whole():
    """A pass that fetched most rows one by one is the last one over heads."""
    x, centroids = near_ties(900, 40, 64, 1e-5)
    source, backend = Headed(x), backend_of("split")
    session = opened(source, backend, len(centroids), batch_size=300)
    source.asked.clear()
    list(session.epochs(torch.from_numpy(centroids), 3))
    kinds = [what for what, _ in source.asked if what != "joined"]
    assert kinds == 3 * ["heads"] + 6 * ["read"]


def test_the_reference_is_given_rows():
    x = unit_rows(60, 8)
    source = Headed(x)
    session = opened(source, ReferenceBackend("cpu"), n_clusters=4)
    list(session.epochs(torch.from_numpy(x[:4].copy()), 3))
    assert {what for what, _ in source.asked} == {"read"}

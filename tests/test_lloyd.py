"""The whole loop, bit by bit against a loop over Python integers; and what must hold of any fit."""

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import StopReason
from generators import CASES, normal, text_rows, unit_rows


def fitted(x, first, epochs, backend, open_session, weights=None, batch_size=None, **options):
    session = open_session(x, backend, weights, len(first), batch_size=batch_size)
    options = FitOptions(n_clusters=len(first), epochs=epochs, **options)
    return lloyd.fit(session, torch.from_numpy(truth.unit(first)[0]), options, Silent())


def assert_same_answer(result, expected):
    assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
    np.testing.assert_array_equal(result.labels.numpy(), expected.labels)
    assert result.history.similarities == expected.similarities
    assert sum(iteration.moved for iteration in result.history) == expected.moved
    assert (result.stop_reason is StopReason.FIXED_POINT) == expected.fixed
    sizes = [int((expected.labels == k).sum()) for k in range(len(expected.centroids))]
    assert result.counts.tolist() == sizes


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_the_fit_of_the_definition(case, backend, open_session):
    x, first = CASES[case]()
    assert_same_answer(fitted(x, first, 6, backend, open_session, batch_size=90), truth.fit(x, first, 6))


@pytest.mark.filterwarnings("ignore::cosmeans.errors.WeightRangeWarning")
@pytest.mark.parametrize("kind", ["integers", "reals", "all below one", "far apart"])
def test_a_weighted_fit_is_the_fit_of_the_definition(kind, backend, open_session):
    rng = np.random.default_rng(1)
    x, first = normal(250, 14), unit_rows(9, 14, 1)
    weights = {
        "integers": rng.integers(0, 4, 250),
        "reals": rng.exponential(1.0, 250),
        "all below one": rng.random(250) / 777,
        "far apart": 10.0 ** rng.uniform(-9, 9, 250),
    }[kind]
    assert_same_answer(fitted(x, first, 7, backend, open_session, weights), truth.fit(x, first, 7, weights))


def test_several_clusters_move_at_once_and_rows_may_come_in_any_order(backend, open_session):
    x, first = CASES["many lost"]()
    x = np.concatenate(
        [x, x[:, [1, 0, 2, 3, 4, 5]], x[:, [1, 0, 2, 3, 4, 5]]]
    )  # mirror images about the first centroid
    expected = truth.fit(x, first, 1)
    assert expected.moved == 5
    order = np.random.default_rng(0).permutation(len(x))
    for rows in (x, x[order]):
        assert fitted(rows, first, 1, backend, open_session).centroids.numpy().tobytes() == expected.centroids.tobytes()


def test_rows_that_cancel_move_their_cluster(backend, open_session):
    half = unit_rows(6, 5)
    x = np.concatenate([half, -half])
    expected = truth.fit(x, unit_rows(1, 5, 1), 1)
    assert expected.moved == 1
    assert_same_answer(fitted(x, unit_rows(1, 5, 1), 1, backend, open_session), expected)


def test_a_cluster_without_rows_stays_when_told_so(backend, open_session):
    x, first = CASES["many lost"]()
    result = fitted(x, first, 3, backend, open_session, empty_clusters="keep")
    kept = truth.unit(first)[0][1:]
    assert result.centroids[1:].numpy().tobytes() == kept.tobytes()
    assert [iteration.empty for iteration in result.history] == [5, 5][: len(result.history)]


@pytest.mark.parametrize("case", ["random", "text", "duplicates", "zero rows", "many lost"])
def test_labels_belong_to_the_centroids_returned(case, backend, open_session):
    x, first = CASES[case]()
    units, keep = truth.unit(x)
    for epochs in (1, 2, 50):
        result = fitted(x, first, epochs, backend, open_session)
        np.testing.assert_array_equal(result.labels.numpy(), truth.labels(units, result.centroids.numpy(), keep))


def test_old_labels_would_be_noticed(backend, open_session):
    x, first = CASES["random"]()
    result = fitted(x, first, 1, backend, open_session)
    assert (truth.labels(x, truth.unit(first)[0]) != result.labels.numpy()).any()


def test_similarity_never_falls_and_its_last_value_is_that_of_the_answer(backend, open_session):
    x = text_rows(500)
    result = fitted(x, x[:12], 60, backend, open_session)
    assert result.stop_reason is StopReason.FIXED_POINT
    steps = np.diff(result.history.similarities)
    assert (steps[:-1] > -1e-12).all()
    rows = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    mean = (rows @ result.centroids.numpy().astype(np.float64).T).max(axis=1).mean()
    assert result.similarity == pytest.approx(mean, abs=1e-7)
    assert result.history.similarities[-1] == result.similarity


def test_a_fixed_point_is_kept_by_one_more_epoch(backend, open_session):
    x, first = CASES["duplicates"]()
    result = fitted(x, first, 100, backend, open_session)
    assert result.stop_reason is StopReason.FIXED_POINT
    again = fitted(x, result.centroids.numpy(), 100, backend, open_session)
    assert len(again.history) == 1
    assert torch.equal(again.centroids, result.centroids)
    assert torch.equal(again.labels, result.labels)


@pytest.mark.parametrize("cuts", [(1, 6), (3, 4), (6, 1), (2, 3, 2)])
@pytest.mark.parametrize("case", ["random", "text", "one ulp apart", "any lengths"])
def test_a_fit_continued_is_a_fit_uninterrupted(case, cuts, backend, open_session):
    x, first = CASES[case]()
    whole = fitted(x, first, sum(cuts), backend, open_session)
    similarities, centroids = [], first
    for epochs in cuts:
        part = fitted(x, centroids, epochs, backend, open_session)
        similarities += part.history.similarities
        centroids = part.centroids.numpy()
    assert torch.equal(part.centroids, whole.centroids)
    assert torch.equal(part.labels, whole.labels)
    assert similarities[: len(whole.history)] == whole.history.similarities


def test_tol_ends_a_fit_at_the_first_small_step(backend, open_session):
    x, first = CASES["random"]()
    shifts = [iteration.shift for iteration in fitted(x, first, 12, backend, open_session).history]
    result = fitted(x, first, 12, backend, open_session, tol=shifts[4])
    ended = next(i for i, shift in enumerate(shifts) if shift <= shifts[4])
    assert result.stop_reason is StopReason.TOLERANCE
    assert len(result.history) == ended + 1


def test_history_counts_what_happened(backend, open_session):
    x, first = CASES["random"]()
    result = fitted(x, first, 4, backend, open_session)
    before, centroids = np.full(len(x), -1), truth.unit(first)[0]
    for epoch, iteration in enumerate(result.history, 1):
        labels = truth.labels(x, centroids)
        sizes = np.bincount(labels, minlength=len(first))
        assert iteration.changed == (labels != before).sum()
        assert (iteration.largest, iteration.empty) == (sizes.max(), (sizes == 0).sum())
        assert iteration.imbalance == pytest.approx(len(sizes) * (sizes**2).sum() / sizes.sum() ** 2)
        before, centroids = labels, truth.fit(x, first, epoch).centroids


class StopAfter(Silent):
    """Asks to stop after so many batches."""

    def __init__(self, batches):
        self.left = batches

    @property
    def stop_requested(self):
        return self.left <= 0

    def batch(self, rows):
        self.left -= 1


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_an_interrupted_fit_ends_with_its_last_whole_epoch(epochs, backend, open_session):
    x, first = CASES["random"]()
    observer = StopAfter(7 * epochs + 3)
    session = open_session(x, backend, None, len(first), observer, batch_size=100)
    options = FitOptions(n_clusters=len(first), epochs=9)
    result = lloyd.fit(session, torch.from_numpy(truth.unit(first)[0]), options, observer)
    assert result.stop_reason is StopReason.INTERRUPTED
    expected = truth.fit(x, first, epochs)
    assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
    assert result.history.similarities == expected.similarities
    np.testing.assert_array_equal(result.labels.numpy(), truth.labels(x, expected.centroids))


TRAPS = {
    "tree": lambda terms: terms.sum(-1),
    "rounded": lambda direction: np.array(direction, dtype=np.float64),
    "root": lambda value: float(np.sqrt(np.float32(value))),
    "clean": lambda x: np.asarray(x, dtype=np.float64),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_step_into_a_trap_would_be_noticed(trap, monkeypatch, open_session):
    """The case tells the definition from the same with one step as it is done elsewhere."""
    x, first = CASES["random"]()
    result = fitted(x, first, 6, ReferenceBackend(), open_session)
    assert_same_answer(result, truth.fit(x, first, 6))
    monkeypatch.setattr(truth, trap, TRAPS[trap])
    with pytest.raises(AssertionError):
        assert_same_answer(result, truth.fit(x, first, 6))


def test_float32_counts_stop_at_two_to_the_24_and_ours_do_not():
    n = 16_900_000  # a little more
    assert float(torch.tensor(2.0**24, dtype=torch.float32) + 1) == 2.0**24
    x = torch.ones((n, 1), dtype=torch.float16)
    x[:: n // 3] = -1.0
    task = Task(2, batch_size=1 << 20)
    with CpuBackend().session(MemoryRows(x), task, Alone(), Silent(), lambda line: None) as session:
        session.read()
        options = FitOptions(n_clusters=2, epochs=2)
        result = lloyd.fit(session, torch.tensor([[1.0], [-1.0]]), options, Silent())
    assert result.counts.tolist() == [n - 4, 4]
    assert result.similarity == 1.0

"""A session on a GPU has the bits of the reference: every way that rows can take, and every kind of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from backends.gpu.standins import (
    CASES,
    FIRST,
    Graphs,
    Job,
    assert_same,
    compute_with,
    directions,
    expected,
    fit,
    fit_in,
    gpu,
    opened,
    replaying,
    there,
    unit,
    with_gaps,
)
from cosmeans import KMeans, lloyd, outliers, scoring, seeding, top
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.tuning import ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend, Group
from cosmeans.data import ClusterSums, Task
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import EpochCost, Iteration, StopReason

pytestmark = [
    pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),  # NumPy's, in the interpreter
]


@dataclass(frozen=True)
class Way:
    """How rows come to the device, and how epochs are started there. foreseen: labels are found while rows are read."""

    backend: Callable[[], GpuBackend]
    host: bool = False
    foreseen: bool = False


def planned(copied: bool, chunk: int, fetched: int = 0, integers: bool | None = None) -> Callable[[], GpuBackend]:
    plan = ResidencyPlan(copied=copied, chunk=chunk, fetched=fetched)
    return lambda: gpu(integers, plan=plan, small_upload=0, upload_span=16 * 12 * 4)


WAYS = {
    "on the device": Way(gpu),
    "on the device, foreseen": Way(gpu, foreseen=True),
    "on the device, in chunks": Way(planned(copied=False, chunk=24)),
    "on the device, 8 bits": Way(lambda: gpu(integers=True)),
    "on the device, 8 bits, in chunks": Way(planned(copied=False, chunk=24, integers=True)),
    "sent in one piece": Way(gpu, host=True),
    "sent in spans": Way(planned(copied=True, chunk=41), host=True),
    "sent in spans, foreseen": Way(planned(copied=True, chunk=41), host=True, foreseen=True),
    "sent in spans, no copy": Way(planned(copied=False, chunk=24), host=True),
    "copy on the device": Way(planned(copied=True, chunk=41, fetched=41), host=True),
    "copy on the device, in chunks": Way(planned(copied=True, chunk=24, fetched=10), host=True),
    "copy on the device, 8 bits": Way(planned(copied=True, chunk=24, fetched=10, integers=True), host=True),
    "sent in every pass": Way(planned(copied=False, chunk=16, fetched=16), host=True),
    "sent whole in every pass": Way(planned(copied=False, chunk=41, fetched=41), host=True),
    "replayed, pooled": Way(lambda: replaying(pooled=True)),
    "replayed, pooled, sent": Way(lambda: replaying(pooled=True, small_upload=0, upload_span=16 * 48), host=True),
    "replayed, 8 bits": Way(lambda: replaying(pooled=True, integers=True)),
    "in chunks, where others are pooled": Way(
        lambda: replaying(pooled=True, plan=ResidencyPlan(copied=False, chunk=24))
    ),
    "replayed in place": Way(lambda: replaying(pooled=False)),
    "replayed in place, 8 bits": Way(lambda: replaying(pooled=False, integers=True)),
}


def job_for(way: Way, job: Job) -> Job:
    return there(job) if way.host else job


def matrix() -> list[object]:
    """Every way with every kind of rows; a seventh of them, each of both at least twice, in `make test`."""
    return [
        pytest.param(way, case, id=f"{way}-{case}", marks=[] if (i + j) % 7 == 0 else pytest.mark.soak)
        for i, way in enumerate(WAYS)
        for j, case in enumerate(CASES)
    ]


@pytest.mark.parametrize(("way", "case"), matrix())
def test_a_fit_has_the_bits_of_the_reference(way: str, case: str) -> None:
    job, before = job_for(WAYS[way], CASES[case]), CASES[case].x.clone()

    found = fit(job, WAYS[way].backend(), job.first if WAYS[way].foreseen else None, scored=True)

    assert_same(found, expected(case))
    assert torch.equal(CASES[case].x.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(
    "way", ["sent in spans", "copy on the device, in chunks", "replayed, pooled", "replayed in place"]
)
def test_several_fits_in_a_session_begin_alike(way: str) -> None:
    job = CASES["rows of any length"]
    jobs = [replace(job, epochs=2), replace(job, epochs=2, first=FIRST.flip(0))]
    with opened(job_for(WAYS[way], job), WAYS[way].backend()) as session:
        session.read()
        found = [fit_in(session, each) for each in jobs]

    for one, each in zip(found, jobs, strict=True):
        assert_same(one, fit(each, ReferenceBackend()))


@pytest.mark.parametrize("way", ["copy on the device, in chunks", "sent in every pass", "on the device, foreseen"])
def test_some_of_the_rows_and_then_all_of_them(way: str) -> None:
    """As the nested start does it: the first centroids that were foreseen are those of neither."""
    answers = []
    for backend in (WAYS[way].backend(), ReferenceBackend()):
        job = CASES["rows of any length"]
        job = job_for(WAYS[way], job) if isinstance(backend, GpuBackend) else job
        with opened(job, backend) as session:
            session.read(job.first if session.labels_while_reading else None)
            indices = torch.arange(0, 41, 2)
            with session.subset(indices, Silent()) as part:
                improved = lloyd.improve(part, job.first, FitOptions(n_clusters=7, epochs=1), Silent())
            answers.append((improved, fit_in(session, replace(job, epochs=1, first=improved))))

    assert torch.equal(answers[0][0], answers[1][0])
    assert_same(answers[0][1], answers[1][1])


@pytest.mark.parametrize("host", [False, True])
def test_the_rows_of_a_sample_are_copied_some_at_a_time(host: bool) -> None:
    """Nothing plans memory for all of them."""
    job = CASES["rows of any length"]
    job, indices = there(job) if host else job, torch.arange(0, 41, 2)
    answers = []
    for tuning in ({"fetched": 8 * 48, "least_fetch": 1, "least_chunk": 1}, {}):
        with opened(job, gpu(small_upload=0, **tuning)) as session:
            session.read()
            with session.subset(indices, Silent()) as part:
                sizes = [len(batch) for batch in part.rows.batches()]
                answers.append(lloyd.improve(part, job.first, FitOptions(n_clusters=7, epochs=1), Silent()))
        assert sizes == ([8, 8, 5] if tuning else [21])

    assert torch.equal(*answers)


@pytest.mark.parametrize("way", ["on the device", "replayed, pooled"])
def test_a_fit_goes_on_from_other_centroids_whatever_was_queued(way: str) -> None:
    job = CASES["unit rows"]
    found = restarted(job_for(WAYS[way], job), WAYS[way].backend())
    true = restarted(job, ReferenceBackend())

    assert found[0] == true[0]
    assert all(torch.equal(*pair) for pair in zip(found[1], true[1], strict=True))


def restarted(job: Job, backend: Backend) -> tuple[list[float], list[Tensor]]:
    """A fit whose second epoch starts from centroids of the caller: its figures, its centroids and labels."""
    with opened(job, backend) as session:
        session.read()
        epochs = session.epochs(job.first, 3)
        next(epochs)
        session.restart(-FIRST)
        second = next(epochs)
        stats, start, after = second.stats(), second.centroids.clone(), second.update.centroids.clone()
        labels = session.labels(second).clone()
        return [stats.similarity, stats.squared_shift], [
            start,
            after,
            labels,
            session.finish(after).labels,
        ]


class StopsAfter(Silent):
    """Requests a stop when so many epochs have ended, or when so many batches of a fit were assigned."""

    def __init__(self, epochs: int = 0, batches: int = 0) -> None:
        super().__init__()
        self.epochs_left, self.batches_left = epochs, batches

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        self.epochs_left -= 1
        self.stop_requested |= self.epochs_left == 0

    def batch(self, rows: int) -> None:
        self.batches_left -= 1
        self.stop_requested |= self.batches_left == 0


STOPS = {"one epoch": {"epochs": 1}, "two epochs": {"epochs": 2}, "within an epoch": {"batches": 5}}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("way", ["on the device", "copy on the device", "replayed, pooled"])
def test_an_interrupted_fit_has_labels_under_its_centroids(way: str, stop: str) -> None:
    job = Job(directions(60, 12, 3), unit(4, 12, 9), 12)  # of as many epochs
    if not way.startswith("replayed"):
        job = replace(CASES["rows of any length"], epochs=9, batch_size=17)

    found = fit(job_for(WAYS[way], job), WAYS[way].backend(), observer=StopsAfter(**STOPS[stop]))

    done = len(found.result.history)
    truth = fit(replace(job, epochs=done), ReferenceBackend()) if done else None
    assert found.result.stop_reason is StopReason.INTERRUPTED
    assert done < 8  # those that were queued before the stop end
    with opened(job, ReferenceBackend()) as session:
        session.read()
        assert torch.equal(found.result.labels, session.assign(found.result.centroids))
    assert torch.equal(found.result.centroids, truth.result.centroids if truth else job.first)


def test_no_epoch_begins_once_a_stop_is_requested() -> None:
    job, stopped = CASES["rows of any length"], Silent()
    stopped.stop_requested = True

    found = fit(job, gpu(), observer=stopped)

    assert len(found.result.history) == 0
    assert torch.equal(found.result.centroids, job.first)


class Two:
    """A group of two processes, the other of which has no rows."""

    alone = False

    def __init__(self) -> None:
        self.summed = 0

    def sum(self, sums: ClusterSums) -> ClusterSums:
        self.summed += 1
        return ClusterSums(sums.direction.clone(), sums.count.clone(), sums.scale)


def test_sums_go_through_the_group_and_are_not_captured_there() -> None:
    graphs, group, job = Graphs(), Two(), CASES["rows of any length"]
    found, _ = (
        fit_in_group(job, backend, group) for backend in (replaying(pooled=True, graphs=graphs), ReferenceBackend())
    )

    assert graphs.made == 0
    assert group.summed > 2 * job.epochs
    assert torch.equal(found.centroids, expected("rows of any length").result.centroids)
    assert torch.equal(found.counts, expected("rows of any length").result.counts)


def fit_in_group(job: Job, backend: Backend, group: Group) -> lloyd.FitResult:
    with backend.session(MemoryRows(job.x), Task(7), group, Silent(), print) as session:
        session.read()
        return lloyd.fit(session, job.first, FitOptions(n_clusters=7, epochs=job.epochs), Silent())


# ------------------------------------------------------------ one pass over rows


@pytest.mark.parametrize(
    "way",
    ["on the device, in chunks", "copy on the device, in chunks", "sent in every pass", "on the device, 8 bits"],
)
def test_answers_about_rows_are_those_of_the_reference(way: str) -> None:
    """Labels, scores, chords, cosines, counts, similarity, and first centroids."""
    job = Job(with_gaps(41, 12), FIRST)
    found, true = (
        answers(job_for(WAYS[way], job) if isinstance(backend, GpuBackend) else job, backend)
        for backend in (WAYS[way].backend(), ReferenceBackend())
    )

    for name, answer in true.items():
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(answer)), name


def answers(job: Job, backend: Backend) -> dict[str, Tensor | float]:
    with opened(job, backend, fit=False) as session:
        session.read()
        labels = session.assign(job.first)
        measured = session.measure(job.first)
        chords, inertia = scoring.own_chords(session, job.first, labels)
        return {
            "labels": labels,
            "measured": measured.labels,
            "counts": measured.counts,
            "similarity": measured.similarity,
            "scores": scoring.own_scores(session, job.first, labels),
            "chords": chords,
            "inertia": inertia,
            "cosines": torch.cat([session.cosines(batch, job.first) for batch in session.rows.batches()]),
            "k-means++": seeding.plus_plus(session, 3, 0, 0, Silent()),
            "random": seeding.random_rows(session.rows, 5, 1, 0),
            "total": session.rows.total,
        }


def test_labels_after_a_fit_are_labels_of_that_session() -> None:
    """A fit that was replayed in a pooled workspace leaves it to others; its session goes on."""
    backend, job, other = replaying(pooled=True), CASES["unit rows"], CASES["rows of any length"]
    with opened(job, backend) as session:
        session.read()
        for _ in range(2):
            found = fit_in(session, job)
        labels = session.measure(job.first).labels
        fit(other, backend)
        assert torch.equal(session.assign(found.result.centroids), found.result.labels)
        with opened(job, ReferenceBackend()) as true:
            true.read()
            assert torch.equal(labels, true.assign(job.first))
    assert_same(found, expected("unit rows"))


# ------------------------------------------------------------------ the estimator


@pytest.fixture
def with_backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Backend]], None]:
    """with_backend(make): what the estimator computes with."""
    return lambda make: compute_with(make, monkeypatch)


STARTS: dict[str, dict[str, object]] = {
    "random": {"init": "random", "n_init": 2},
    "k-means++": {"init": "k-means++"},
    "nested": {"init": "nested"},
    "callable": {"init": lambda X, n_clusters, random_state: X[:n_clusters]},
}


@pytest.mark.parametrize("start", STARTS)
def test_every_start_gives_the_answers_of_the_reference(start: str, with_backend: Callable[..., None]) -> None:
    x, answers = (3.0 * directions(41, 12)).numpy(), []
    for make in (gpu, ReferenceBackend):
        with_backend(make)
        kmeans = KMeans(5, epochs=2, random_state=0, verbose=0, **STARTS[start]).fit(x)
        answers.append([kmeans.labels_, kmeans.cluster_centers_, np.array(kmeans.similarities), kmeans.similarity_])

    assert [np.asarray(part).tobytes() for part in answers[0]] == [np.asarray(part).tobytes() for part in answers[1]]


@pytest.mark.parametrize("way", ["copy on the device, in chunks", "sent in every pass"])
def test_rows_of_a_file_that_stay_where_they_are(way: str, tmp_path, with_backend: Callable[..., None]) -> None:
    np.save(tmp_path / "rows.npy", (3.0 * directions(40, 12)).numpy())
    np.save(tmp_path / "new.npy", directions(9, 12, 3).numpy())
    tuning = WAYS[way].backend().state.tuning
    elsewhere = lambda: GpuBackend("cpu:0", tuning=tuning)  # noqa: E731 - where the rows of the file are not
    answers = []
    for make in (elsewhere, ReferenceBackend):
        with_backend(make)
        kmeans = KMeans(4, epochs=2, random_state=0, verbose=0).fit(tmp_path / "rows.npy")
        new = np.load(tmp_path / "new.npy", mmap_mode="r")
        best, far = top(kmeans, new, m=2), outliers(kmeans, new, quantile=0.5)
        fitted = [kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_]
        asked = [kmeans.predict(new), kmeans.transform(new), np.array(kmeans.score(new))]
        answers.append([*fitted, *asked, best.labels, best.cosines, far.rows, far.cosines])

    for found, true in zip(*answers, strict=True):
        assert np.asarray(found).tobytes() == np.asarray(true).tobytes()

"""Epochs played back, with a stand-in for the CUDA graph that does the work anew: places, turns and desks are real."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import cosmeans
from cosmeans import lloyd, sphere
from cosmeans.backends.gpu import desk as desks
from cosmeans.backends.gpu import receiving, record
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.memory import ANY, plan_memory
from cosmeans.backends.gpu.record import Plan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Coming
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import EpochCost, FitResult, Iteration, StopReason
from cosmeans.rows.memory import MemoryRows
from cosmeans.sphere import squared_norms


class Tape:
    """In place of `record.Graph`: the work of the fit that goes on now, done anew whenever it is played."""

    backend: GpuBackend | None = None
    work: Callable[[Tensor], Any]
    played = 0

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        self.lays_out = getattr(work, "__name__", "") == "_lay_out"
        self.outcome = sphere.Outcome(None, lambda: None)  # type: ignore[arg-type]

    def play(self) -> None:
        backend = Tape.backend
        Tape.played += 1
        if self.lays_out:
            backend._lay_out()
            return
        backend._places = backend._standing.places
        Tape.work(backend._places.start)
        backend._places = None


class Moment:
    """In place of a CUDA event."""

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "can_record", lambda device: True)
    monkeypatch.setattr(record, "Graph", Tape)
    monkeypatch.setattr(record, "Event", Moment)
    monkeypatch.setattr(record, "STARTED", set())
    monkeypatch.setattr(desks, "_waiting", {})
    monkeypatch.setattr(Tape, "played", 0)
    repeat = GpuBackend.repeat

    def noting(self: GpuBackend, work: Callable[[Tensor], Any], *rest: Any) -> Any:
        Tape.work = work
        return repeat(self, work, *rest)

    monkeypatch.setattr(GpuBackend, "repeat", noting)


def fit(x: Tensor, centroids: Tensor, backend: Any, observer: Silent | None = None, **options: Any) -> FitResult:
    rows = MemoryRows(x, squared_norms=backend.squared_norms, zero_rows="skip")
    settings = FitOptions(n_clusters=len(centroids), **{"epochs": 9, **options})
    Tape.backend, backend._programs = backend, 1  # few programs: the interpreter is slow
    result = lloyd.fit(rows, centroids, settings, backend, Alone(), observer or Silent())
    Tape.backend, Tape.work = None, None
    gc.collect()
    return result


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


REPEATED = torch.cat([directions(5, 6), directions(5, 6), directions(40, 6, 1)])  # so that first centroids are equal
CASES: dict[str, tuple[Tensor, int, dict[str, Any]]] = {
    "to the last epoch": (directions(80, 12), 5, {}),
    "a fixed point": (directions(60, 5), 4, {"epochs": 30}),
    "tol": (directions(100, 12), 7, {"tol": 0.2}),
    "clusters that move": (REPEATED, 9, {}),
    "clusters that stay": (REPEATED, 9, {"empty_clusters": "keep"}),
    "one epoch": (directions(50, 3), 3, {"epochs": 1}),
    "rows without direction": (directions(90, 4) * (torch.arange(90) % 9 > 0)[:, None], 6, {}),
}


class Interfering(Silent):
    """Between epochs, prepares other centroids with the backend of the fit."""

    def __init__(self, backend: GpuBackend, others: Tensor) -> None:
        super().__init__()
        self.backend, self.others = backend, others

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        self.backend.prepare(self.others)


@pytest.mark.usefixtures("recording")
def test_centroids_prepared_in_between_are_not_those_of_the_next_epoch() -> None:
    x, backend = directions(80, 12), GpuBackend("cpu")
    first = sphere.normalise(x[:5].clone())

    result = fit(x, first, backend, Interfering(backend, -first))

    assert Tape.played > 2
    assert torch.equal(result.labels, fit(x, first, ReferenceBackend()).labels)


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize("case", CASES)
def test_fits_played_back_are_those_of_the_reference(case: str) -> None:
    x, k, options = CASES[case]
    first = sphere.normalise(x[1 : k + 1].clone())
    expected = fit(x, first, ReferenceBackend(), **options)

    # started one by one and then recorded; then played from the first epoch on
    results = [fit(x, first, GpuBackend("cpu"), **options) for _ in range(2)]

    assert Tape.played > 0
    assert len(desks._waiting) == 1
    assert any(i.moved for i in expected.history) is (case == "clusters that move")
    for found in results:
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.centroids, expected.centroids)
        assert torch.equal(found.counts, expected.counts)
        assert found.similarity == expected.similarity
        assert found.history.similarities == expected.history.similarities
        assert found.stop_reason is expected.stop_reason
        assert [i.moved for i in found.history] == [i.moved for i in expected.history]


@pytest.mark.usefixtures("recording")
def test_a_desk_serves_other_rows_and_results_stay() -> None:
    first = sphere.normalise(directions(5, 8, 9))
    inputs = [directions(70, 8, seed) for seed in range(3)]
    found = [fit(x, first, GpuBackend("cpu"), epochs=3) for x in inputs]

    assert len(desks._waiting) == 1
    for x, result in zip(inputs, found, strict=True):
        expected = fit(x, first, ReferenceBackend(), epochs=3)
        assert torch.equal(result.labels, expected.labels)
        assert torch.equal(result.centroids, expected.centroids)
        assert torch.equal(result.counts, expected.counts)


@pytest.mark.usefixtures("recording")
def test_rows_that_were_sent_in_pieces_are_copied_to_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_SMALL", 0)
    monkeypatch.setattr(receiving, "_SPAN", 64 * 8 * 4)
    first = sphere.normalise(directions(5, 8, 9))
    for seed in range(2):  # recorded, then played
        x, backend = 3.0 * directions(130, 8, seed), HostRowsBackend("cpu")
        received = backend.receive(x, Coming(5, True), say=lambda _: None, progress=lambda *_: None)

        found = fit(received.rows, first, backend)

        assert backend._plan is not None
        assert backend._plan.waits
        expected = fit(x, first, ReferenceBackend())
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.centroids, expected.centroids)
        del backend, received, found
        gc.collect()
    assert Tape.played > 8
    assert len(desks._waiting) == 1


@pytest.mark.usefixtures("recording")
def test_the_memory_that_waits_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    x = directions(70, 8)
    fit(x, sphere.normalise(x[:5].clone()), GpuBackend("cpu"))
    monkeypatch.setattr(record, "_spent", [object()])
    ((_, desk),) = desks._waiting.items()
    memory = weakref.ref(desk.recording)
    del desk

    cosmeans.empty_cache()
    gc.collect()

    assert not desks._waiting
    assert not record._spent
    assert memory() is None


@pytest.mark.usefixtures("recording")
def test_one_backend_runs_fits_of_several_kinds() -> None:
    x, backend = directions(70, 8), GpuBackend("cpu")
    for k in (5, 9, 5):
        first = sphere.normalise(x[:k].clone())

        found, expected = (fit(x, first, b, epochs=3) for b in (backend, ReferenceBackend()))

        assert torch.equal(found.labels, expected.labels)


@pytest.mark.usefixtures("recording")
def test_rows_too_many_for_a_desk_that_waits_are_recorded_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "most_waiting", lambda _: 0)
    x = directions(70, 8)
    first = sphere.normalise(x[:5].clone())
    backend = GpuBackend("cpu")

    found = fit(x, first, backend)

    assert backend._plan is not None
    assert backend._plan.batch.rows.data_ptr() == x.data_ptr()
    assert Tape.played > 0
    assert not desks._waiting
    assert torch.equal(found.labels, fit(x, first, ReferenceBackend()).labels)


@pytest.mark.usefixtures("recording")
def test_a_desk_needs_room_for_the_copy_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = directions(70, 8)
    first, beside = sphere.normalise(x[:5].clone()), plan_memory(70, 8, 5, ANY, "").n_bytes
    expected = fit(x, first, ReferenceBackend())
    desks.leave_desk("another kind", desks.Desk(torch.device("cpu")))

    for room, waiting in ((beside + x.nbytes - 1, 0), (beside + x.nbytes, 1)):
        backend = GpuBackend("cpu")
        backend._room = lambda *_, room=room: room  # type: ignore[method-assign]
        found = fit(x, first, backend)

        assert backend._plan is not None
        assert backend._plan.waits is bool(waiting)
        assert torch.equal(found.labels, expected.labels)
        del backend, found
        gc.collect()
        assert len(desks._waiting) == waiting  # others gave way first


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize(("short", "middle", "started"), [(0.0, 0.0, [2, 2]), (0.0, 1.0, [1, 1]), (1.0, 1.0, [1, 0])])
def test_short_epochs_are_recorded_at_once_and_long_ones_while_the_device_is_busy(
    short: float, middle: float, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "most_waiting", lambda _: 0)
    monkeypatch.setattr(record, "_SHORT", short)
    monkeypatch.setattr(record, "_MIDDLE", middle)
    x = directions(60, 8)
    first = sphere.normalise(x[:5].clone())
    expected = fit(x, first, ReferenceBackend(), epochs=3)
    found = []
    for _ in started:
        Tape.played, backend = 0, GpuBackend("cpu")
        assert torch.equal(fit(x, first, backend, epochs=3).labels, expected.labels)
        assert backend.lookahead == (record.LOOKAHEAD if short else 1)
        found.append(4 - Tape.played)  # three epochs and the labels of the last centroids

    assert found == started


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize("waits", [0, 1 << 30])
def test_epochs_of_two_kinds_are_recorded_side_by_side(waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "most_waiting", lambda _: waits)
    x = torch.cat([directions(60, 8), directions(60, 8) + 1e-4])
    first = sphere.normalise(x[:4].clone())
    expected = fit(x, first, ReferenceBackend(), epochs=7)
    for _ in range(2):
        kinds = iter([False, True, True, False, True, False, False, True] * 3)
        chosen: list[bool] = []
        backend = GpuBackend("cpu")

        def next_kind(k: int, d: int, backend: GpuBackend = backend, kinds: Any = kinds, to: Any = chosen) -> bool:
            if backend._kind is None:
                to.append(next(kinds))
                return to[-1]
            return backend._kind

        monkeypatch.setattr(backend, "_climbs", next_kind)
        found = fit(x, first, backend, epochs=7)

        assert {True, False} <= set(chosen)
        assert all(backend._desk.recording.has(kind) for kind in (False, True))
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.centroids, expected.centroids)
        assert found.history.similarities == expected.history.similarities


@pytest.mark.usefixtures("recording")
def test_very_large_fits_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_LONG", 0)
    x = directions(50, 8)

    fit(x, sphere.normalise(x[:5].clone()), GpuBackend("cpu"))

    assert Tape.played == 0


@pytest.mark.parametrize(
    ("n", "d", "k", "pays"), [(1 << 20, 128, 256, True), (1 << 20, 768, 1000, False), (9000, 1024, 9000, False)]
)
def test_small_fits_wait_at_a_desk(n: int, d: int, k: int, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.device("cpu")
    assert not record.waits(n, k, d, 4, here)  # nothing is recorded without a GPU
    monkeypatch.setattr(record, "can_record", lambda _: True)
    assert not record.waits(n, k, d, 4, here)  # too large for a desk that waits
    monkeypatch.setattr(record, "most_waiting", lambda _: 1 << 40)
    assert record.waits(n, k, d, 4, here) is pays
    assert record.at_once(n, k, d, here) is pays
    assert record.pays(n, k, d, here) is (k < 9000)  # there is no room for outcomes of so many entries


class _StopsAfter(Silent):
    """Requests a stop when so many epochs have ended."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._left = epochs

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        self._left -= 1
        self.stop_requested = self._left <= 0


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_fit_has_labels_under_its_centroids(epochs: int) -> None:
    x = directions(80, 12)
    first = sphere.normalise(x[:5].clone())
    for _ in range(2):
        found = fit(x, first, GpuBackend("cpu"), _StopsAfter(epochs))
        expected = fit(x, first, ReferenceBackend(), epochs=len(found.history))

        assert found.stop_reason is StopReason.INTERRUPTED
        assert torch.equal(found.centroids, expected.centroids)
        assert torch.equal(found.labels, expected.labels)


def test_rows_gathered_anew_for_every_pass_are_not_recorded() -> None:
    x = torch.nn.functional.normalize(torch.randn(20, 4))
    rows = MemoryRows(x, squared_norms=squared_norms)

    assert record._only_batch(rows) is not None
    assert record._only_batch(MemoryRows(x, squared_norms=squared_norms, batch_size=7)) is None
    assert record._only_batch(rows.sample(torch.arange(0, 20, 3))) is None


def test_a_fit_without_a_gpu_is_not_recorded() -> None:
    rows = MemoryRows(torch.eye(4), squared_norms=squared_norms)

    assert Plan.of(rows, torch.eye(4)[:2], True) is None


class _Halfway:
    """A recording whose work was stopped before its end."""

    whole = False


@pytest.mark.usefixtures("recording")
def test_an_epoch_stopped_while_it_is_recorded_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, x = GpuBackend("cpu"), sphere.normalise(directions(20, 4))
    rows = MemoryRows(x, squared_norms=squared_norms)
    backend.begin(rows)
    backend.lend(rows, x[:2])
    record.STARTED.add(backend._plan.kind)
    monkeypatch.setattr(backend, "_recorded", lambda *_: _Halfway())

    assert backend.repeat(lambda _: None, x[:2], Silent()) is None
    assert backend._desk.recording is None

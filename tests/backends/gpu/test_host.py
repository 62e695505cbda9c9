"""Rows that lie on the host: every plan gives the bits of the reference, and what was fetched shows which one ran.

The processor stands in for the GPU: a backend on "cpu" is where the rows lie, one on "cpu:0" is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmeans import KMeans, estimator, lloyd, outliers, seeding, sphere, top
from cosmeans.backends.gpu import backend as gpu_backend
from cosmeans.backends.gpu import host, memory, receiving, record
from cosmeans.backends.gpu import passes as gpu_passes
from cosmeans.backends.gpu.arrival import Arrived
from cosmeans.backends.gpu.ferry import GATHERED, Ferry
from cosmeans.backends.gpu.host import FETCHED, SENT, HostRowsBackend
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.memory import MemoryPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend, Receiver
from cosmeans.data import Batch, ClusterSums, Coming
from cosmeans.errors import DeviceMemoryError
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

PLANS = {  # rows labelled at once and rows fetched at once, of 40
    "copy stays": MemoryPlan(True, 40, 0, 40),
    "copy stays, in parts": MemoryPlan(True, 24, 0, 10),
    "sent in parts": MemoryPlan(False, 16, 0, 16),
}
SHAPES = [(1, 1, 1), (33, 17, 5), (41, 70, 11)]  # N, D, K
SENT_WHOLE = MemoryPlan(False, 40, 0, 40)


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def nothing_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_BEGUN", {})


class Told(HostRowsBackend):
    """Says which rows it fetched: how many at a time, and whether they were gathered."""

    def __init__(self, device: str = "cpu:0") -> None:
        super().__init__(device)
        self._programs = 1  # the interpreter runs programs in turn
        self.fetched: list[tuple[int, bool]] = []
        fetch = self._ferry.fetch

        def telling(*arguments: Any) -> Iterator[Any]:
            for which, near in fetch(*arguments):
                self.fetched.append((len(near), near.start == GATHERED))
                yield which, near

        self._ferry.fetch = telling  # type: ignore[method-assign]


@pytest.fixture(params=sorted(PLANS))
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryPlan:
    """The plan of every source, whatever the room."""
    return use(PLANS[request.param], monkeypatch)


def use(plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch) -> MemoryPlan:
    monkeypatch.setattr(receiving, "plan_received", lambda *_, keep=True: plan)
    monkeypatch.setattr(host, "plan_far", lambda *_, keep=True: plan)
    monkeypatch.setattr(host, "rows_fetched", lambda *_: plan.fetched)
    return plan


def silent(*_: object) -> None: ...


def source(x: Tensor, k: int, backend: Backend, fit: bool = True, **options: Any) -> MemoryRows:
    """As the estimator opens rows."""
    rows, limit = x, None
    if isinstance(backend, Receiver):
        received = backend.receive(x, Coming(k, fit), say=silent, progress=silent)
        rows, limit = received.rows, received.batch_limit
    options = {"zero_rows": "skip", "nonfinite": "skip", **options}
    return MemoryRows(rows, squared_norms=backend.squared_norms, device=backend.device, batch_limit=limit, **options)


def fit(x: Tensor, centroids: Tensor, backend: Backend, **options: Any) -> tuple[FitResult, Tensor]:
    chosen = {name: options.pop(name) for name in ("epochs", "empty_clusters") if name in options}
    rows = source(x, len(centroids), backend, **options)
    settings = FitOptions(n_clusters=len(centroids), **{"epochs": 3, **chosen})
    result = lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())
    return result, lloyd.own_scores(rows, result.centroids, result.labels, backend)


def assert_same(found: tuple[FitResult, Tensor], expected: tuple[FitResult, Tensor]) -> None:
    (result, own), (true, true_own) = found, expected
    assert torch.equal(result.labels, true.labels)
    assert torch.equal(result.centroids, true.centroids)
    assert torch.equal(result.counts, true.counts)
    assert torch.equal(own, true_own)
    assert result.history.similarities == true.history.similarities
    for count in ("changed", "moved", "empty"):
        assert [getattr(i, count) for i in result.history] == [getattr(i, count) for i in true.history]


# -------------------------------------------------------------- whole fits


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_every_shape_has_the_bits_of_the_reference(plan: MemoryPlan, n: int, d: int, k: int) -> None:
    x, centroids = 3.0 * directions(n, d), sphere.normalise(directions(k, d, 1))

    assert_same(fit(x, centroids, Told(), epochs=2), fit(x, centroids, ReferenceBackend(), epochs=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_type_has_the_bits_of_the_reference(plan: MemoryPlan, dtype: torch.dtype) -> None:
    x, centroids = (3.0 * directions(33, 17)).to(dtype), sphere.normalise(directions(5, 17, 1))

    assert_same(fit(x, centroids, Told(), epochs=2), fit(x, centroids, ReferenceBackend(), epochs=2))


def unit(n: int, d: int) -> Tensor:
    return sphere.normalise(directions(n, d))


def with_gaps() -> Tensor:
    """Zero rows, and rows with NaN and infinity."""
    x = 5.0 * directions(40, 12)
    x[3], x[30] = 0.0, torch.nan
    x[31, 7] = torch.inf
    return x


NEAR_TIES = sphere.normalise(unit(1, 12) + 1e-5 * directions(7, 12, 1))
CASES: dict[str, tuple[Tensor, Tensor, dict[str, Any]]] = {
    "unit rows": (unit(40, 12), unit(7, 12), {}),
    "zero rows": (with_gaps().nan_to_num(0.0, 1.0), unit(7, 12), {}),
    "weights": (unit(40, 12), unit(7, 12), {"sample_weight": np.linspace(0.0, 3.3, 40)}),
    "every row is settled": (unit(40, 12), NEAR_TIES, {}),
    "clusters without rows": (torch.cat([unit(6, 12)] * 6), unit(7, 12), {}),
}
LAYOUTS: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "columns": (unit(12, 40).T, {}),
    "every other row": (unit(80, 12)[::2], {}),
    "batches": (unit(40, 12), {"batch_size": 17}),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_kind_of_rows_has_the_bits_of_the_reference(plan: MemoryPlan, case: str) -> None:
    x, centroids, options = CASES[case]
    before = x.clone()

    assert_same(fit(x, centroids, Told(), **options), fit(x, centroids, ReferenceBackend(), **options))
    assert torch.equal(x, before)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_rows_are_read_however_they_lie(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(PLANS["copy stays, in parts"], monkeypatch)
    x, options = LAYOUTS[layout]

    assert_same(fit(x, unit(7, 12), Told(), **options), fit(x, unit(7, 12), ReferenceBackend(), **options))


def test_rows_that_fit_are_sent_once_and_inspected_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    use(MemoryPlan(True, 40, 0), monkeypatch)
    monkeypatch.setattr(receiving, "_SMALL", 0)
    monkeypatch.setattr(receiving, "_SPAN", 12 * 4 * 16)
    seen: list[tuple[int, ...]] = []
    for x in (unit(40, 12), with_gaps().nan_to_num(0.0, 1.0)):
        seen.clear()
        backend = Told("cpu")
        received = backend.receive(x, Coming(7, True), say=silent, progress=lambda *done: seen.append(done))

        assert received.rows.data_ptr() != x.data_ptr()
        assert torch.equal(received.rows.nan_to_num(), x.nan_to_num())
        assert seen == [(16, 40), (32, 40), (40, 40)]
        assert_same(fit(x, unit(7, 12), Told("cpu")), fit(x, unit(7, 12), ReferenceBackend()))


@pytest.mark.parametrize("waiting", [0, 1 << 30])
def test_rows_on_their_way_to_a_desk_are_not_copied(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_SMALL", 0)
    monkeypatch.setattr(record, "can_record", lambda _: True)
    monkeypatch.setattr(record, "most_waiting", lambda _: waiting)
    backend, passes = Told("cpu"), told_of_passes(monkeypatch)

    source(unit(40, 12), 7, backend)

    assert passes == ["squared_norms" if waiting else "inspect_rows"]


def test_the_copy_made_on_the_way_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    use(MemoryPlan(True, 40, 0), monkeypatch)
    monkeypatch.setattr(receiving, "_SMALL", 0)
    backend, x = Told("cpu"), 3.0 * directions(40, 12)
    made = told_of_passes(monkeypatch)

    fit(x, unit(7, 12), backend)

    assert made == ["inspect_rows"]
    assert backend._resident is backend._arrived.copy
    assert backend._arrived.squared is None  # its memory is free again


def told_of_passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that read all rows for their lengths or their copy, as they are called."""
    called: list[str] = []

    def telling(name: str, function: Any) -> Any:
        return lambda *a: called.append(name) or function(*a)

    for name in ("copy_rows", "inspect_rows", "squared_norms"):
        for module in (host, receiving, gpu_backend, gpu_passes):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, telling(name, getattr(module, name)))
    return called


# ------------------------------------------------- rows that lie on the device


def expected(x: Tensor, k: int, backend: Backend, **options: Any) -> MemoryRows:
    """As the estimator opens rows that lie on the device."""
    if isinstance(backend, Receiver):
        backend.expect(x, Coming(k, True))
    options = {"zero_rows": "skip", "nonfinite": "skip", **options}
    return MemoryRows(x, squared_norms=backend.squared_norms, lengths=backend.lengths, **options)


def fit_there(x: Tensor, centroids: Tensor, backend: Backend, **options: Any) -> tuple[FitResult, Tensor]:
    rows, settings = expected(x, len(centroids), backend, **options), FitOptions(n_clusters=len(centroids), epochs=3)
    result = lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())
    return result, lloyd.own_scores(rows, result.centroids, result.labels, backend)


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("case", [*sorted(CASES), "NaN"])
def test_rows_that_lie_there_are_read_once_before_the_first_epoch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids, options = CASES.get(case, (with_gaps(), unit(7, 12), {}))
    backend, passes = Told("cpu"), told_of_passes(monkeypatch)

    found = fit_there(x, centroids, backend, **options)

    assert passes == ["inspect_rows"]
    assert backend._resident is backend._arrived.copy
    assert backend._arrived.squared is None
    assert_same(found, fit_there(x, centroids, ReferenceBackend(), **options))


def test_batches_are_parts_of_the_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, passes, x = Told("cpu"), told_of_passes(monkeypatch), 3.0 * directions(40, 12)

    found = fit_there(x, unit(7, 12), backend, batch_size=17)

    assert passes == ["inspect_rows"]
    assert_same(found, fit_there(x, unit(7, 12), ReferenceBackend(), batch_size=17))


def test_without_room_for_the_copy_nothing_is_made_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, passes, x = Told("cpu"), told_of_passes(monkeypatch), 3.0 * directions(40, 12)
    climbing = memory.plan_memory(40, 12, 7, 1 << 60, "").n_bytes
    least = memory.plan_memory(40, 12, 7, climbing - 1, "").n_bytes
    monkeypatch.setattr(backend, "_room", lambda *_: least + 40 * memory.OF_RECEIVED - 1)

    backend.expect(x, Coming(7, True))
    assert backend._arrived is None
    monkeypatch.setattr(backend, "_room", lambda *_: least + 40 * memory.OF_RECEIVED)
    backend.expect(x, Coming(7, True))
    assert backend._arrived is not None
    assert passes == ["inspect_rows"]


def test_no_more_rows_than_before_are_inspected_before_memory_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    order, centroids, plan = told_of_passes(monkeypatch), unit(7, 12), gpu_passes.plan_memory
    monkeypatch.setattr(gpu_passes, "plan_memory", lambda *a: order.append("plan") or plan(*a))
    for n, first in {40: "plan", 39: "inspect_rows", 41: "plan"}.items():
        order.clear()
        backend, x = Told("cpu"), 3.0 * directions(n, 12)

        found = fit_there(x, centroids, backend)

        assert order[0] == first
        assert order.count("inspect_rows") == 1
        assert backend._resident is backend._arrived.copy
        assert_same(found, fit_there(x, centroids, ReferenceBackend()))


def test_a_copy_begun_before_memory_was_planned_is_dropped_if_it_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids = 3.0 * directions(40, 12), unit(7, 12)
    Told("cpu").expect(x, Coming(7, True))
    backend, passes = Told("cpu"), told_of_passes(monkeypatch)
    copy = Copy.empty(40, 12, 0, False, torch.device("cpu")).n_bytes + 40 * 8
    climbing = memory.plan_memory(40, 12, 7, 1 << 60, "").n_bytes
    least = memory.plan_memory(40, 12, 7, climbing - 1, "").n_bytes + 40 * memory.OF_RECEIVED
    for room in (least - 1, least):  # of which the copy has taken its part
        backend._arrived = None
        monkeypatch.setattr(backend, "_room", lambda *_, left=room - copy: left)
        backend.expect(x, Coming(7, True))
        assert (backend._arrived is not None) is (room == least)
    assert passes == ["inspect_rows", "inspect_rows"]

    monkeypatch.setattr(backend, "_room", lambda *_: least - 1)
    assert_same(fit_there(x, centroids, backend), fit_there(x, centroids, ReferenceBackend()))


@pytest.mark.parametrize(("owner", "name"), [(receiving.Copy, "empty"), (receiving, "Queued")])
def test_rows_whose_inspection_finds_no_memory_are_planned_first(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, failing = 3.0 * directions(40, 12), True
    Told("cpu").expect(x, Coming(7, True))
    backend, make = Told("cpu"), getattr(owner, name)

    def full(*args: Any) -> Any:
        nonlocal failing
        if failing:
            failing = False
            raise torch.OutOfMemoryError
        return make(*args)

    monkeypatch.setattr(owner, name, full)
    backend.expect(x, Coming(7, True))
    assert backend._arrived is not None
    assert not failing


def test_another_source_over_the_same_rows_gets_a_copy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been written to in between."""
    backend, x, options = Told("cpu"), 3.0 * directions(40, 12), FitOptions(n_clusters=7, epochs=2)
    lloyd.fit(expected(x, 7, backend), unit(7, 12), options, backend, Alone(), Silent())
    x.copy_(directions(40, 12, 5))
    results = []
    for again in (backend, ReferenceBackend()):
        rows = MemoryRows(x, squared_norms=again.squared_norms)
        results.append(lloyd.fit(rows, unit(7, 12), options, again, Alone(), Silent()))

    assert torch.equal(results[0].labels, results[1].labels)
    assert torch.equal(results[0].centroids, results[1].centroids)


def test_a_desk_that_waits_gets_rows_and_copy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "can_record", lambda _: True)
    backend, x = Told("cpu"), unit(40, 12)

    backend.expect(x, Coming(7, True))
    assert backend._arrived is None
    monkeypatch.setattr(record, "most_waiting", lambda _: 0)
    backend.expect(x, Coming(7, True))
    assert backend._arrived is not None


def test_a_fit_recorded_where_its_rows_lie_uses_the_copy_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "can_record", lambda _: True)
    monkeypatch.setattr(record, "most_waiting", lambda _: 0)
    backend, passes, x = Told("cpu"), told_of_passes(monkeypatch), unit(40, 12)
    rows = expected(x, 7, backend)

    for _ in range(2):  # as several starts do it
        backend.begin(rows)
        loan = backend.lend(rows, unit(7, 12))

        assert loan is not None
        assert backend._resident is backend._arrived.copy
    assert passes == ["inspect_rows"]


def test_rows_to_be_labelled_once_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them are labelled at once: a part finds its place in the copy."""
    monkeypatch.setattr(gpu_passes, "rows_in_turn", lambda *_: 24)
    backend, passes, x = Told("cpu"), told_of_passes(monkeypatch), 3.0 * directions(40, 12)
    labels = []
    for which in (backend, ReferenceBackend()):
        if which is backend:
            backend.expect(x, Coming(7, False))
        rows = MemoryRows(x, squared_norms=which.squared_norms)
        labels.append(lloyd.predict(rows, unit(7, 12), which, Silent()))
        if which is backend:
            assert passes == ["inspect_rows"]
            lloyd.predict(rows.sample(torch.arange(0, 40, 2)), unit(7, 12), backend, Silent())
            assert passes == ["inspect_rows", "copy_rows"]

    assert torch.equal(*labels)


# ----------------------------------------------------- which way was taken


def test_with_the_copy_only_uncertain_and_changed_rows_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    use(PLANS["copy stays"], monkeypatch)
    backend, x = Told(), unit(40, 12)
    result, _ = fit(x, x[:7].clone(), backend)

    whole = [n for n, gathered in backend.fetched if not gathered]
    assert whole == [40, 40, 40]  # to make the copy, for the first sums, for the own similarities
    gathered = sum(n for n, gathered in backend.fetched if gathered)
    last = fit(x, x[:7].clone(), ReferenceBackend(), epochs=4)[0].history.iterations[3].changed
    changed = [i.changed for i in result.history][1:]
    assert 0 < sum(changed) + last < 40
    assert gathered >= sum(changed) + last
    assert gathered == sum(changed) + last + sum(i.settled for i in result.costs) + settled_last(x, result)
    assert {i.strategy for i in result.costs} == {FETCHED}
    assert {i.kept_bytes for i in result.costs} == {40 * (2 * 64 + 8)}


def settled_last(x: Tensor, result: FitResult) -> int:
    backend = Told("cpu")
    rows = MemoryRows(x, squared_norms=backend.squared_norms)
    (batch,) = rows.batches()
    prepared = backend.prepare(result.centroids)
    return int(backend.assign(batch, prepared, torch.full((40,), -1, dtype=torch.int32)).settled)


def test_without_the_copy_all_rows_are_sent_once_in_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    use(PLANS["sent in parts"], monkeypatch)
    backend, x = Told(), unit(40, 12)
    result, _ = fit(x, x[:7].clone(), backend)

    # lengths, three epochs, labels under the last centroids, own similarities
    assert backend.fetched == [(16, False), (16, False), (8, False)] * 6
    assert {i.strategy for i in result.costs} == {SENT}
    assert {i.kept_bytes for i in result.costs} == {0}
    assert [i.settled for i in result.costs] == settled_near(x, 3)


def settled_near(x: Tensor, epochs: int) -> list[int]:
    backend = Told("cpu")
    rows = MemoryRows(x, squared_norms=backend.squared_norms)
    options = FitOptions(n_clusters=7, epochs=epochs)
    return [i.settled for i in lloyd.fit(rows, x[:7].clone(), options, backend, Alone(), Silent()).costs]


def test_rows_sent_for_labels_serve_no_other_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on the device is that of the batch labelled last, and only until something else is fetched."""
    use(SENT_WHOLE, monkeypatch)
    backend, centroids = Told(), unit(7, 12)
    first, second = ((x, *source(x, 7, backend).batches()) for x in (unit(40, 12), unit(40, 12).flip(0)))
    before = torch.full((40,), -1, dtype=torch.int32)
    for (_, assigned), (_, added) in ((first, second), (first, first)):
        found, expected = (no_sums() for _ in range(2))
        labels = backend.assign(assigned, backend.prepare(centroids), before).labels.clone()
        if assigned is added:
            backend.scores(assigned, centroids, labels)
            backend.squared_norms(second[0])
            backend.scores(second[1], centroids, labels)

        for accumulating, sums in ((backend, found), (ReferenceBackend(), expected)):
            moved = before.clone()
            accumulating.accumulate(added, moved, labels, sums)
            assert torch.equal(moved, labels)

        assert torch.equal(found.direction, expected.direction)


def no_sums() -> ClusterSums:
    return ClusterSums.zeros(7, 12, 40, "cpu")


# --------------------------------------------------- the other functions


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
def test_labels_scores_and_cosines_of_new_rows_are_those_of_the_reference(plan: MemoryPlan) -> None:
    x, centroids = with_gaps(), unit(7, 12)
    answers = []
    for backend in (Told(), ReferenceBackend()):
        rows = source(x, 7, backend, fit=False)
        labels = lloyd.predict(rows, centroids, backend, Silent())
        cosines = torch.cat([backend.cosines(batch, centroids) for batch in rows.batches()])
        answers.append((labels, lloyd.own_scores(rows, centroids, labels, backend), cosines, rows.total))

    for found, expected in zip(*answers, strict=True):
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def test_first_centroids_are_those_of_the_reference(plan: MemoryPlan) -> None:
    x = 3.0 * directions(40, 12)
    found, expected = (
        (seeding.plus_plus(source(x, 5, b), 5, 0, b), seeding.random_rows(source(x, 5, b), 5, 1))
        for b in (Told(), ReferenceBackend())
    )

    assert all(map(torch.equal, found, expected))


def test_a_sample_of_rows_on_the_host_and_then_all_of_them(plan: MemoryPlan) -> None:
    """As the nested start does it: the copy made at the beginning serves again."""
    x, centroids = 3.0 * directions(40, 12), unit(7, 12)
    options = FitOptions(n_clusters=7, epochs=2)
    found = []
    for backend in (Told(), ReferenceBackend()):
        rows = source(x, 7, backend)
        sample = rows.sample(torch.arange(0, 40, 2))
        improved = lloyd.improve(sample, centroids, options, backend, Alone(), Silent())
        result = lloyd.fit(rows, improved, options, backend, Alone(), Silent())
        found.append((improved, result.centroids, result.labels))
        if isinstance(backend, Told) and plan.resident:
            assert backend._resident is backend._arrived.copy

    assert all(map(torch.equal, *found))


def test_rows_that_nobody_received_are_planned_when_the_fit_begins(plan: MemoryPlan) -> None:
    x, centroids = 3.0 * directions(40, 12), unit(7, 12)
    results = []
    for backend in (Told(), ReferenceBackend()):
        rows = MemoryRows(x, squared_norms=backend.squared_norms, device=backend.device)
        options = FitOptions(n_clusters=7, epochs=3)
        result = lloyd.fit(rows, centroids, options, backend, Alone(), Silent())
        results.append((result, lloyd.own_scores(rows, result.centroids, result.labels, backend)))

    assert_same(*results)


def test_the_estimator_gives_the_same_answers(
    plan: MemoryPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file that stays where it is."""
    np.save(tmp_path / "rows.npy", (3.0 * directions(40, 12)).numpy())
    np.save(tmp_path / "new.npy", directions(9, 12, 3).numpy())
    answers = []
    for backend in (Told, ReferenceBackend):
        monkeypatch.setattr(estimator, "choose_backend", lambda *_, backend=backend: backend())
        kmeans = KMeans(4, epochs=3, random_state=0, verbose=0).fit(tmp_path / "rows.npy")
        new = np.load(tmp_path / "new.npy", mmap_mode="r")
        best, far = top(kmeans, new, m=2), outliers(kmeans, new, quantile=0.5)
        fitted = [kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_]
        asked = [kmeans.predict(new), kmeans.transform(new), np.array(kmeans.score(new))]
        answers.append([*fitted, *asked, best.labels, best.cosines, far.rows, far.cosines])

    for found, expected in zip(*answers, strict=True):
        assert isinstance(found, np.ndarray)
        assert found.tobytes() == expected.tobytes()


# ------------------------------------------------------------ the choice


def unread(_: object, rows: Tensor, plan: MemoryPlan, *rest: object, **options: object) -> Arrived:
    """In place of reading the rows."""
    return Arrived(rows, plan, None, None)


def planned(room: int, monkeypatch: pytest.MonkeyPatch, fit: bool = True) -> tuple[Told, Tensor, list[str]]:
    backend, told = Told(), []
    monkeypatch.setattr(backend, "_room", lambda *_: room)
    monkeypatch.setattr(receiving, "_SMALL", 0)
    rows = backend.receive(directions(5000, 300), Coming(7, fit), say=told.append, progress=silent).rows
    return backend, rows, told


def test_the_room_decides_which_way_rows_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LEAST", 1 << 10)
    monkeypatch.setattr(memory, "_LEAST_SENT", 64)
    monkeypatch.setattr(memory, "_FETCHED", 64 * 1200)
    monkeypatch.setattr(HostRowsBackend, "_inspected", unread)
    climbing = memory.plan_memory(5000, 300, 7, 1 << 60, "a GPU")
    most = memory.plan_memory(5000, 300, 7, climbing.n_bytes - 1, "a GPU")
    rows_there = most.n_bytes + 5000 * (1200 + 25)

    ways, rooms = [], range(rows_there + 1000, rows_there - 5000 * 2200, -100_000)
    for room in rooms:
        try:
            backend, _, told = planned(room, monkeypatch)
        except DeviceMemoryError:
            ways.append("none")
            continue
        plan = backend._arrived.plan
        ways.append(("copy" if plan.resident else "parts") + (" only" if plan.fetched else ""))
        assert plan.n_bytes + (0 if plan.fetched else 5000 * 1225) <= room
        assert len(told) == (1 if plan.fetched else 0)

    assert list(dict.fromkeys(ways)) == ["copy", "parts", "copy only", "parts only", "none"]


@pytest.mark.parametrize(
    ("resident", "words"), [(True, "their float16 copy is kept there"), (False, "they are sent there in every pass")]
)
def test_one_line_says_that_rows_stay_on_the_host(resident: bool, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(MemoryPlan(resident, 5000, 0, 5000), monkeypatch)

    monkeypatch.setattr(HostRowsBackend, "_inspected", unread)

    _, rows, told = planned(3 << 20, monkeypatch)

    assert told == [f"the rows take 6 MiB and cpu:0 has 3 MiB free: they stay on the host, {words}"]
    assert rows.shape == (5000, 300)


def test_without_any_way_the_error_has_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 bytes a row, 40 an entry of the centroids and 300 a cluster, 256 MiB; of 1024 rows at once 156 bytes each,
    # their halves, and themselves twice
    need = 5000 * 40 + 7 * (300 * 40 + 300) + (256 << 20) + 1024 * (156 + 2 * 320 + 8 + 32 + 2 * 1200)

    monkeypatch.setattr(HostRowsBackend, "_inspected", unread)

    with pytest.raises(DeviceMemoryError) as caught:
        planned(need - 1, monkeypatch)

    assert str(caught.value) == (
        f"5000 rows of 300 entries and 7 clusters need {need / 2**20:,.0f} MiB on cpu:0 even if the rows stay on the "
        f"host; {(need - 1) / 2**20:,.0f} MiB are free. Free memory there, ask for fewer clusters, or pass "
        'device="cpu".'
    )
    assert planned(need, monkeypatch)[0]._arrived.plan == MemoryPlan(False, 1024, need, 1024)


def test_few_rows_are_sent_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    x = unit(40, 12)

    backend = Told("cpu")
    received = backend.receive(x, Coming(7, True), say=silent, progress=silent)

    assert received.batch_limit is None
    assert backend._arrived is None
    assert torch.equal(received.rows, x)


def test_epochs_that_fetch_rows_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    use(PLANS["copy stays"], monkeypatch)
    monkeypatch.setattr(HostRowsBackend, "repeat", lambda *_: pytest.fail("an epoch was to be recorded"))
    monkeypatch.setattr(record, "can_record", lambda _: True)

    fit(unit(40, 12), unit(7, 12), Told())


# ------------------------------------------------------------- the ferry


class Late:
    """Copies are made when somebody waits for them, or when the work behind them begins."""

    def __init__(self) -> None:
        self.queue: list[tuple[Tensor, Tensor]] = []
        self.done = 0
        self.waited = 0

    def copy(self, into: Tensor, rows: Tensor) -> None:
        self.queue.append((into, rows))

    def sent(self) -> Any:
        lane, upto = self, len(self.queue)

        class Mark:
            def synchronize(self) -> None:
                lane.waited += 1
                lane.run(upto)

        return Mark()

    def arrive(self) -> None:
        self.run(len(self.queue))

    def run(self, upto: int) -> None:
        for into, rows in self.queue[self.done : upto]:
            into[...] = rows
        self.done = max(self.done, upto)

    def worked(self) -> Any:
        return None

    def follow(self, mark: Any) -> None: ...


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 9, 10, 30, 31, 100])
def test_pieces_add_up_to_the_rows(n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmeans.backends.gpu.ferry._PIECE", 10 * 3 * dtype.itemsize)
    rows, lane = directions(n, 3).to(dtype), Late()
    index = torch.randint(0, n, (2 * n,), generator=torch.Generator().manual_seed(n))
    ferry = Ferry(torch.device("cpu"), lane)
    whole, some = torch.empty(n, 3, dtype=dtype), torch.empty(2 * n, 3, dtype=dtype)

    ferry.send(rows, whole)
    ferry.send(rows, some, index)

    assert torch.equal(whole, rows)
    assert torch.equal(some, rows[index])
    assert lane.waited == -(-n // 10) + -(-2 * n // 10) - 2  # the first two pieces wait for nothing
    sizes = [len(into) for into, _ in lane.queue][: -(-n // 10)]
    assert max(sizes) - min(sizes) < len(sizes)  # none is small, which would leave a slot unused


def test_a_row_larger_than_a_piece_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmeans.backends.gpu.ferry._PIECE", 16)
    rows, ferry = directions(5, 30), Ferry(torch.device("cpu"), Late())
    sent = torch.empty(5, 30)

    ferry.send(rows, sent)

    assert torch.equal(sent, rows)


def test_two_batches_lie_on_the_device_at_once() -> None:
    rows = directions(50, 3)
    batch = Batch(7, rows, torch.arange(50.0).double(), torch.arange(50) % 3 > 0, None)
    batches = Ferry(torch.device("cpu")).fetch(batch, 20)
    first_two = [next(batches), next(batches)]

    for (span, near), start in zip(first_two, (0, 20), strict=True):
        assert near.start == 7 + start
        assert torch.equal(near.rows, rows[span])
        assert torch.equal(near.norms, batch.norms[span])
        assert torch.equal(near.keep, batch.keep[span])
        assert near.weights is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_sent_to_a_gpu_arrives() -> None:
    rows = directions(100_003, 300)  # four pieces
    ferry = Ferry(torch.device("cuda"))
    there = ferry.make(100_003, 300, dtype=torch.float32)

    ferry.send(rows, there)

    assert torch.equal(there.cpu(), rows)

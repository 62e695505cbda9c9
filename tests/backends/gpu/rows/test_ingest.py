"""How rows are read: once, as far as there is room, and while they are sent if they come from the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backends.gpu.standins import (
    CASES,
    FIRST,
    Graphs,
    Job,
    Started,
    Watched,
    assert_same,
    directions,
    expected,
    fit_in,
    gpu,
    on_host,
    opened,
    replaying,
    there,
    with_gaps,
)
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.rows.plans import OF_INSPECTED, plan_resident
from cosmeans.backends.gpu.tuning import ANY, ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.progress import Silent

JOB = CASES["rows of any length"]
SPANS: dict[str, Any] = {"small_upload": 0, "upload_span": 16 * 12 * 4}
READS = ("quantize_rows", "squared_norms")  # kernels that read all rows before the first epoch


def reading(job: Job, backend: GpuBackend, fit: bool = True) -> list[str]:
    """Which kernels read rows until they are inspected."""
    with Started() as started, opened(job, backend, fit=fit) as session:
        session.read()
    return [name for name in started if name in READS]


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("x", [JOB.x, with_gaps(41, 12)], ids=["any length", "gaps"])
def test_rows_on_the_device_are_read_once_before_the_first_epoch(x: torch.Tensor) -> None:
    job = Job(x, FIRST, epochs=1)
    with Started() as started, opened(job, gpu()) as session:
        session.read()
        fit_in(session, job)

    assert [name for name in started if name in READS] == ["quantize_rows"]


def test_the_copy_made_on_the_way_is_the_one_that_is_used() -> None:
    """In spans; of rows sent in one piece it is made afterwards, with the lengths."""
    ways = {
        "spans": (gpu(**SPANS), ["quantize_rows"] * 3),
        "small": (gpu(), ["squared_norms", "quantize_rows"]),
    }
    for backend, reads in ways.values():
        with Started() as started, opened(there(Job(JOB.x, FIRST, 1)), backend) as session:
            session.read()
            fit_in(session, Job(JOB.x, FIRST, 1))
        assert [name for name in started if name in READS] == reads


def test_rows_that_fit_are_sent_once_and_inspected_on_the_way() -> None:
    class Reading(Silent):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def reading(self, rows: int, total: int) -> None:
            self.seen.append((rows, total))

    watched, observer = Watched(), Reading()
    backend = gpu(copies=lambda device: watched, **SPANS)
    with opened(there(JOB), backend, observer) as session:
        session.read()
        assert session.rows.rows_device == session.device
        (batch,) = session.rows.batches()
        assert torch.equal(batch.rows, JOB.x)
        assert batch.rows.data_ptr() != JOB.x.data_ptr()
    assert watched.sizes(JOB.x) == [16, 16, 9]
    assert observer.seen[:3] == [(16, 41), (32, 41), (41, 41)]


def test_few_rows_are_sent_in_one_piece() -> None:
    watched = Watched()
    n_bytes = JOB.x.nbytes
    for small, sent in ((n_bytes + 1, 0), (n_bytes, 3)):  # in one piece they take torch's own way
        watched.sent.clear()
        backend = gpu(copies=lambda device: watched, small_upload=small, upload_span=SPANS["upload_span"])
        with opened(there(JOB), backend) as session:
            session.read()
            assert session.rows.rows_device == session.device
        assert len(watched.sent) == sent


@pytest.mark.parametrize("pooled", [True, False])
def test_rows_on_their_way_to_a_pooled_workspace_are_not_copied(pooled: bool) -> None:
    """It makes a copy of its own."""
    assert reading(there(JOB), replaying(pooled, **SPANS)) == ["squared_norms" if pooled else "quantize_rows"] * 3
    assert reading(JOB, replaying(pooled)) == ["squared_norms" if pooled else "quantize_rows"]


def least_room(n: int = 41) -> int:
    """Bytes for the copy of so many rows, with what inspecting them takes."""
    most = plan_resident(n, 12, 7, ANY, "").n_bytes
    return plan_resident(n, 12, 7, most - 1, "").n_bytes + n * OF_INSPECTED


def test_without_room_for_the_copy_nothing_is_made_beforehand() -> None:
    for room, reads in ((least_room() - 1, "squared_norms"), (least_room(), "quantize_rows")):
        assert reading(JOB, gpu(room=lambda device, enough, room=room: room)) == [reads]


class Order(Started):
    """The reads, and when free memory was asked for."""

    def room(self, device: torch.device, enough: int) -> int:
        self.append("plan")
        return ANY


def test_no_more_rows_than_before_are_inspected_before_memory_is_planned() -> None:
    """A backend knows what it had room for; other rows are planned for first."""
    order = Order()
    backend = gpu(room=order.room)
    for n, first in ((40, "plan"), (39, "quantize_rows"), (41, "plan"), (41, "quantize_rows")):
        order.clear()
        job = Job(3.0 * directions(n, 12), FIRST)
        with order, opened(job, backend) as session:
            session.read()
        done = [name for name in order if name in (*READS, "plan")]
        assert done[0] == first
        assert done.count("quantize_rows") == 1
    order.clear()
    assert reading(Job(JOB.x.half(), FIRST), backend) == ["quantize_rows"]
    assert order[0] == "plan"


def test_a_copy_begun_before_memory_was_planned_is_dropped_if_it_has_no_room() -> None:
    class Room:
        n_bytes = ANY

        def __call__(self, device: torch.device, enough: int) -> int:
            return self.n_bytes

    room = Room()
    backend = gpu(room=room)
    assert reading(JOB, backend) == ["quantize_rows"]
    copy = 41 * (2 * 64 + 8) + 41 * 8  # of which the copy has taken its part when memory is planned
    for enough in (True, False):
        room.n_bytes = least_room() - copy - (not enough)
        with Started() as started, opened(JOB, backend) as session:
            session.read()
            room.n_bytes = least_room() - (not enough)
            found = fit_in(session, JOB)
        assert_same(found, expected("rows of any length"))
        assert ("squared_norms" in started) is not enough


def test_rows_whose_inspection_finds_no_memory_are_planned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, failing, empty = gpu(), [True], torch.empty
    assert reading(JOB, backend) == ["quantize_rows"]

    def full(*args: Any, **options: Any) -> torch.Tensor:
        if failing and args and args[0] == 41 and options.get("dtype") is torch.float64:
            failing.clear()
            raise torch.OutOfMemoryError
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", full)
    assert reading(JOB, backend) == ["quantize_rows"]
    assert not failing


def test_another_session_over_the_same_memory_reads_it_again() -> None:
    """It may have been written to in between."""
    backend, job = gpu(), Job(JOB.x.clone(), FIRST)
    with opened(job, backend) as session:
        session.read()
    job.x.copy_(CASES["weights"].x)
    with opened(job, backend) as session:
        session.read()
        found = fit_in(session, job)

    assert_same(found, expected("unit rows"))


def test_rows_to_be_labelled_once_are_read_once_or_in_chunks() -> None:
    for most, reads in ((41, ["quantize_rows"]), (40, ["squared_norms", "quantize_rows"])):
        with Started() as started, opened(JOB, gpu(most_per_chunk=most, least_chunk=1), fit=False) as session:
            session.read()
            labels = session.assign(FIRST)
        assert [name for name in started if name in READS] == (
            reads if most == 41 else [*reads, "quantize_rows"]
        )  # two chunks
        with opened(JOB, ReferenceBackend()) as session:
            session.read()
            assert torch.equal(labels, session.assign(FIRST))


def test_rows_of_another_layout_are_copied_once() -> None:
    """Kernels read adjacent entries."""
    with opened(CASES["columns"], gpu()) as session:
        session.read()
        (batch,) = session.rows.batches()
        assert batch.rows.stride(1) == 1
    with opened(CASES["every other row"], gpu()) as session:
        session.read()
        (batch,) = session.rows.batches()
        assert batch.rows.data_ptr() == CASES["every other row"].x.data_ptr()


FORESEEN = {
    "rows on the device": (lambda: gpu(), False, True, True),
    "rows on the device, no room for the copy": (
        lambda: gpu(plan=ResidencyPlan(copied=False, chunk=41)),
        False,
        True,
        False,
    ),
    "labelled once": (lambda: gpu(), False, False, False),
    "sent in spans": (lambda: gpu(**SPANS), True, True, True),
    "sent in spans, labelled once": (lambda: gpu(**SPANS), True, False, False),
    "sent in one piece": (lambda: gpu(), True, True, False),
    "sent, no room for the copy": (lambda: gpu(plan=ResidencyPlan(copied=False, chunk=20), **SPANS), True, True, False),
    "copy there": (lambda: gpu(plan=ResidencyPlan(copied=True, chunk=41, fetched=41)), True, True, True),
    "captured at once": (lambda: replaying(pooled=False, **SPANS), True, True, False),
    "captured later": (lambda: replaying(pooled=False, graphs=Graphs(), short=0.0, **SPANS), True, True, True),
    "pooled": (lambda: replaying(pooled=True), False, True, False),
}


@pytest.mark.parametrize("way", FORESEEN)
def test_first_centroids_are_asked_for_where_rows_can_be_labelled_while_they_are_read(way: str) -> None:
    backend, host, fits, asks = FORESEEN[way]
    job = Job(on_host(JOB.x) if host else JOB.x, FIRST)
    with opened(job, backend(), fit=fits) as session:
        assert session.labels_while_reading is asks

"""Working memory that waits for the next small fit, and the recordings that lie in it."""

from __future__ import annotations

import torch

from cosmeans.backends.gpu import record
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.record import Desk, Plan, leave_desk, take_desk
from cosmeans.progress import Silent
from cosmeans.rows.memory import MemoryRows
from cosmeans.sphere import squared_norms


def test_memory_of_another_shape_takes_recordings_with_it() -> None:
    desk = Desk()
    first = desk.get("sums", (3,), lambda: [1])
    desk.recordings["an epoch"] = object()  # type: ignore[assignment]

    assert desk.get("sums", (3,), lambda: [2]) is first
    assert desk.get("labels", (5,), lambda: [3]) == [3]
    assert "an epoch" in desk.recordings
    assert desk.get("sums", (4,), lambda: [4]) == [4]
    assert not desk.recordings


def test_a_desk_belongs_to_one_fit_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(record, "_waiting", {})
    first = take_desk("a kind")

    assert take_desk("a kind") is not first
    leave_desk("a kind", first)
    assert take_desk("another kind") is not first
    assert take_desk("a kind") is first


def test_the_desk_unused_for_longest_gives_way(monkeypatch) -> None:
    monkeypatch.setattr(record, "_waiting", {})
    desks = [Desk() for _ in range(6)]
    for kind, desk in enumerate(desks):
        leave_desk(kind, desk)

    assert take_desk(1) is not desks[1]
    assert take_desk(2) is desks[2]


def test_rows_gathered_anew_for_every_pass_are_not_recorded() -> None:
    x = torch.nn.functional.normalize(torch.randn(20, 4))
    rows = MemoryRows(x, squared_norms=squared_norms)

    assert record._only_batch(rows) is not None
    assert record._only_batch(MemoryRows(x, squared_norms=squared_norms, batch_size=7)) is None
    assert record._only_batch(rows.sample(torch.arange(0, 20, 3))) is None


def test_a_fit_without_a_gpu_is_not_recorded() -> None:
    rows = MemoryRows(torch.eye(4), squared_norms=squared_norms)
    memory = (torch.zeros(4), torch.zeros(2, 4), torch.zeros(2))

    plan = Plan.of(rows, memory, torch.eye(4)[:2], True)

    assert plan.kind is None
    assert not plan.may_record
    assert plan.is_for(rows, memory)


def test_memory_for_more_rows_serves_fewer() -> None:
    desk = Desk()
    first = desk.room("list", 7, (3,), lambda: [7])
    desk.recordings["an epoch"] = object()  # type: ignore[assignment]

    assert desk.room("list", 5, (3,), lambda: [5]) is first
    assert "an epoch" in desk.recordings
    assert desk.room("list", 8, (3,), lambda: [8]) == [8]
    assert desk.room("list", 8, (4,), lambda: [9]) == [9]
    assert not desk.recordings


class _Halfway:
    """A recording whose work was stopped before its end."""

    whole = False


def test_an_epoch_stopped_while_it_is_recorded_is_not_kept(monkeypatch) -> None:
    backend, x = GpuBackend("cpu"), torch.eye(4)
    memory = (torch.zeros(4), torch.zeros(2, 4), torch.zeros(2))
    backend._plan = Plan(None, memory[0], kind=("a kind",), key=("a key",))
    monkeypatch.setattr(record, "STARTED", {("a kind",)})
    monkeypatch.setattr(backend, "_recorded", lambda *_: _Halfway())

    assert backend.repeat(lambda _: None, x[:2], Silent(), memory) is None
    assert not backend._desk.recordings

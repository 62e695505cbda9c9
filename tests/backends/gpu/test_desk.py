"""Working memory by name, and desks that wait for the next small fit."""

from __future__ import annotations

import torch

from cosmeans.backends.gpu import desk as desks
from cosmeans.backends.gpu.desk import Desk, clear_desks, leave_desk, take_desk

CPU = torch.device("cpu")


def test_memory_of_another_shape_takes_the_recording_with_it() -> None:
    desk = Desk(CPU)
    first = desk.get("sums", (3,), lambda: [1])
    desk.recording = "epochs"

    assert desk.get("sums", (3,), lambda: [2]) is first
    assert desk.get("labels", (5,), lambda: [3]) == [3]
    assert desk.recording == "epochs"
    assert desk.get("sums", (4,), lambda: [4]) == [4]
    assert desk.recording is None


def test_memory_for_more_rows_serves_fewer() -> None:
    desk = Desk(CPU)
    first = desk.room("list", 7, (3,), lambda: [7])
    desk.recording = "epochs"

    assert desk.room("list", 5, (3,), lambda: [5]) is first
    assert desk.recording == "epochs"
    assert desk.room("list", 8, (3,), lambda: [8]) == [8]
    assert desk.room("list", 8, (4,), lambda: [9]) == [9]
    assert desk.recording is None


def test_copies_lie_at_one_place() -> None:
    desk, x = Desk(CPU), torch.eye(3)
    place = desk.copy("rows", x)

    assert desk.copy("norms", None) is None
    assert torch.equal(place, x)
    assert place.data_ptr() != x.data_ptr()
    assert desk.copy("rows", 2 * x) is place
    assert torch.equal(place, 2 * x)


def test_a_desk_belongs_to_one_fit_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(desks, "_waiting", {})
    first = take_desk("a kind", CPU)

    assert take_desk("a kind", CPU) is not first
    leave_desk("a kind", first)
    assert take_desk("another kind", CPU) is not first
    assert take_desk("a kind", CPU) is first


def test_the_desk_unused_for_longest_gives_way(monkeypatch) -> None:
    monkeypatch.setattr(desks, "_waiting", {})
    made = [Desk(CPU) for _ in range(6)]
    for kind, desk in enumerate(made):
        leave_desk(kind, desk)

    assert take_desk(1, CPU) is not made[1]
    assert take_desk(2, CPU) is made[2]
    clear_desks()
    assert take_desk(3, CPU) is not made[3]


def test_desks_that_wait_take_no_more_memory_than_they_may(monkeypatch) -> None:
    monkeypatch.setattr(desks, "_waiting", {})
    monkeypatch.setattr(desks, "most_waiting", lambda _: 100)
    elsewhere = Desk(torch.device("meta"))
    elsewhere.n_bytes = 90
    leave_desk("elsewhere", elsewhere)
    for kind, n_bytes in enumerate((50, 40, 30, 30)):
        desk = Desk(CPU)
        desk.n_bytes = n_bytes
        leave_desk(kind, desk)

    assert list(desks._waiting) == ["elsewhere", 1, 2, 3]
    large = Desk(CPU)
    large.n_bytes = 101
    leave_desk("large", large)
    assert list(desks._waiting) == ["elsewhere"]

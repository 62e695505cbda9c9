"""Which stream work goes to; streams are stand-ins that note what they are asked."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
import torch

from cosmeans.backends.gpu import behind

_DEVICE = torch.device("cuda", 0)


class Stream:
    """In place of a CUDA stream: what was queued on it, and what it waited for."""

    numbers = itertools.count()

    def __init__(self, device: torch.device | None = None) -> None:
        self.number, self.queued = next(self.numbers), []

    def wait_stream(self, other: Stream) -> None:
        self.queued.append(other.number)


class Machine:
    def __init__(self) -> None:
        self.current, self.recording = Stream(), False

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", made.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: made.current)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: made.recording)
    behind.side.cache_clear()
    yield made
    behind.side.cache_clear()


def stream_of_work(machine: Machine) -> Stream:
    """The stream that work beside the current one runs on, once all that is waited for is in order."""
    streams: list[Stream] = []
    here = machine.current
    before = len(here.queued)
    join = behind.beside(_DEVICE, lambda: streams.append(machine.current))
    assert machine.current is here
    assert len(here.queued) == before
    (there,) = streams
    assert there.queued[-1] == here.number
    join()
    assert here.queued[before:] == [there.number]
    return there


def test_work_beside_waits_for_what_is_queued_and_is_waited_for(machine: Machine) -> None:
    assert stream_of_work(machine) is stream_of_work(machine) is not machine.current


def test_recorded_work_does_not_meet_what_other_threads_start(machine: Machine) -> None:
    started = stream_of_work(machine)
    machine.recording = True

    assert stream_of_work(machine) is not started

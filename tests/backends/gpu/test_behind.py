"""Which stream work goes to; streams are stand-ins that note what they are asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from cosmeans.backends.gpu import behind

_DEVICE = torch.device("cuda", 0)


class Stream:
    """In place of a CUDA stream: what it waited for."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.awaited: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.awaited.append(other)


class Machine:
    def __init__(self) -> None:
        self.current = Stream()

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
    behind.side.cache_clear()
    yield made
    behind.side.cache_clear()


def test_work_beside_waits_for_what_is_queued_and_is_waited_for(machine: Machine) -> None:
    here, there = machine.current, []

    for _ in range(2):
        join = behind.beside(_DEVICE, lambda: there.append(machine.current))
        assert machine.current is here
        assert there[-1].awaited[-1] is here
        assert len(here.awaited) == len(there) - 1
        join()
        assert here.awaited[-1] is there[-1]

    assert there[0] is there[1] is not here

"""Which screen runs: nobody is left to guess why the faster one doesn't. A GPU is what torch says there is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.errors import BackendUnavailableError

CPU = torch.device("cpu")


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A Hopper GPU, in a process that can't import cuda.bindings."""
    found = SimpleNamespace(major=9, minor=0, shared_memory_per_block_optin=232448, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.driver", None)
    screen_hopper.why_not.cache_clear()
    yield torch.device("cuda", 5)
    screen_hopper.why_not.cache_clear()


def test_without_a_gpu_the_portable_screen_runs_and_nothing_is_said() -> None:
    lines: list[str] = []
    screens = Screens(CPU, "auto", lines.append)

    assert screens.shape(10, 20) is None
    assert (screens.row_tile(10, 20), screens.column_tile(10, 20)) == (0, 0)
    assert (lines, screens.reason) == ([], None)


def test_what_was_asked_for_and_can_not_run_is_an_error() -> None:
    with pytest.raises(BackendUnavailableError, match=r"Hopper screen can't run on cpu: it is not an NVIDIA GPU"):
        Screens(CPU, "hopper").shape(10, 20)


def test_on_a_hopper_gpu_one_line_says_why_the_portable_screen_runs(hopper: torch.device) -> None:
    lines: list[str] = []
    screens = Screens(hopper, "auto", lines.append)

    assert screens.expected(10, 20) is None
    assert lines == []
    for _ in range(2):
        assert screens.shape(10, 20) is None

    assert len(lines) == 1
    assert "cuda-bindings can't be imported" in lines[0]
    assert screens.reason is not None
    assert screens.reason in lines[0]


def test_nothing_is_written_where_nobody_listens(hopper: torch.device, capfd: pytest.CaptureFixture[str]) -> None:
    assert Screens(hopper, "auto").shape(10, 20) is None

    assert capfd.readouterr() == ("", "")


def test_the_portable_screen_may_be_asked_for(hopper: torch.device) -> None:
    lines: list[str] = []

    assert Screens(hopper, "portable", lines.append).shape(10, 20) is None
    assert lines == []

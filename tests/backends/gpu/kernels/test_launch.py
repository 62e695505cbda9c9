"""Kernels started again go past Triton's search, and only if nothing has changed that it would look at."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from triton import knobs
from triton.runtime import driver

from cosmeans.backends.gpu.kernels.launch import (
    compiling,
    fact_of,
    fork,
    keep_compiled_kernels,
    launch,
    launcher,
    noted_launches,
)
from cosmeans.caches import temporary_folder
from cosmeans.errors import BackendUnavailableError


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True
    device = torch.device("cuda", 0)


class Kernel:
    """Notes how it was started: searched for by Triton, or at once."""

    arg_names = ("values_ptr", "n", "power", "SIZE", "FLAG")

    def __init__(self) -> None:
        self.searched = 0
        self.at_once: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int]) -> Any:
        def search(*args: Any, **constants: Any) -> Kernel.Compiled:
            self.searched += 1
            return Kernel.Compiled(self)

        return search

    class Compiled:
        def __init__(self, kernel: Kernel) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, int, int]) -> Any:
            return lambda *args, stream: self.kernel.at_once.append((grid, stream, *args))


class Driver:
    """In place of Triton's driver, of which there is none without a GPU."""

    def get_current_stream(self, device: int) -> int:
        return 7 + device


@pytest.fixture(autouse=True)
def no_gpu() -> Iterator[None]:
    driver.set_active(Driver())
    yield
    driver.set_active(None)


def rows(dtype: torch.dtype = torch.float32, offset: int = 0) -> torch.Tensor:
    values = torch.zeros(64, dtype=dtype)
    assert values.data_ptr() % 16 == 0
    return values[offset:].as_subclass(OnGpu)


def test_a_known_kernel_gets_addresses_and_its_constants_in_order() -> None:
    kernel, first, second = Kernel(), rows(), rows()

    launch(kernel, 3, first, 24, 0.5, FLAG=True, SIZE=16, num_warps=4)
    launch(kernel, 5, second, 40, 2.5, FLAG=True, SIZE=16, num_warps=4)

    assert kernel.searched == 1
    assert kernel.at_once == [((5, 1, 1), 7, second.data_ptr(), 40, 2.5, 16, True)]


@pytest.mark.parametrize(
    "changed",
    [
        (rows(torch.float16), 24, {}),
        (rows(offset=1), 24, {}),
        (rows(), 1, {}),
        (rows(), 32, {}),
        (rows(), 2**31 + 24, {}),
        (rows(), 24, {"FLAG": False}),
        (rows(), 24, {"num_warps": 8}),
    ],
)
def test_whatever_compiling_depends_on_is_looked_at(changed: tuple[torch.Tensor, int, dict[str, Any]]) -> None:
    kernel, constants = Kernel(), {"SIZE": 16, "FLAG": True, "num_warps": 4}
    values, n, other = changed
    launch(kernel, 3, rows(), 24, 0.5, **constants)

    launch(kernel, 3, values, n, 0.5, **{**constants, **other})

    assert (kernel.searched, kernel.at_once) == (2, [])


def test_another_kernel_is_searched_for() -> None:
    for kernel in (Kernel(), Kernel()):
        launch(kernel, 3, rows(), 24, 0.5, SIZE=16, FLAG=True)

        assert kernel.searched == 1


def test_numbers_of_one_kind_share_a_kernel() -> None:
    assert fact_of(24) == fact_of(40)
    assert fact_of(0.5) == fact_of(1.0)
    assert len({fact_of(n) for n in (1, 2, 16, 24, -24, 2**31 + 24)}) == 6


# ------------------------------------------------------- launches that are noted; kernels compiled in other threads


def test_launches_are_noted_instead_of_made() -> None:
    kernel, values = Kernel(), torch.zeros(3)

    with noted_launches() as noted:
        launch(kernel, 5, values, 24, 0.5, SIZE=16, FLAG=True)

    assert kernel.searched == 0
    assert [(one.kernel, one.programs, one.constants) for one in noted] == [(kernel, 5, {"SIZE": 16, "FLAG": True})]
    assert noted[0].arguments[0] is values
    launch(kernel, 5, values, 24, 0.5, SIZE=16, FLAG=True)
    assert kernel.searched == 1


def test_other_threads_launch_while_one_notes() -> None:
    kernel, values = Kernel(), torch.zeros(3)

    with noted_launches() as noted, ThreadPoolExecutor(1) as thread:
        thread.submit(launch, kernel, 5, values, 24, 0.5, SIZE=16, FLAG=True).result()

    assert (noted, kernel.searched) == ([], 1)


@pytest.mark.parametrize("outcome", ["compiled", "failed"])
def test_a_launch_waits_for_its_own_kernel_alone(outcome: str) -> None:
    kernel, other, values = Kernel(), Kernel(), torch.zeros(3)
    compiled: Future[None] = Future()
    compiling.add(kernel, lambda before: compiled)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(launch, kernel, 5, values, 24, 0.5, SIZE=16, FLAG=True)
        launch(other, 5, values, 24, 0.5, SIZE=16, FLAG=True)

        assert (kernel.searched, other.searched) == (0, 1)
        if outcome == "failed":
            compiled.set_exception(RuntimeError("no compiler"))
        else:
            compiled.set_result(None)
        waiting.result()

    assert kernel.searched == 1
    assert kernel not in compiling


class Awaited(Future[None]):
    """Says when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Event()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.asked.set()
        return super().exception(timeout)


def test_what_is_added_while_a_launch_waits_is_waited_for_by_the_next_one() -> None:
    kernel, first, second = object(), Awaited(), Awaited()
    given: list[Future[None] | None] = []
    compiling.add(kernel, lambda before: given.append(before) or first)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(compiling.wait, kernel)
        assert first.asked.wait(60)
        compiling.add(kernel, lambda before: given.append(before) or second)
        first.set_result(None)
        waiting.result()

    assert given == [None, first]
    assert kernel in compiling
    second.set_result(None)
    compiling.wait(kernel)
    assert kernel not in compiling


# ------------------------------------------------------- where compiled kernels are kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As on a GPU: kernels are compiled into a folder that Triton is told of. Nobody can write below a file."""
    monkeypatch.setattr(knobs.runtime, "interpret", False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keep_compiled_kernels.cache_clear()
    yield tmp_path
    keep_compiled_kernels.cache_clear()


def test_triton_keeps_its_folder_where_it_can_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knobs.cache, "dir", str(folder / "own"))

    keep_compiled_kernels()

    assert knobs.cache.dir == str(folder / "own")


def test_triton_is_given_a_folder_of_ours_where_it_cannot_write(folder: Path) -> None:
    keep_compiled_kernels()

    assert Path(knobs.cache.dir).relative_to(folder).parts[1:] == ("triton",)
    assert Path(knobs.cache.dir).is_dir()


@pytest.mark.parametrize("refused", ["the temporary folder", "ours"])
def test_without_any_folder_it_says_which_variable_to_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    if refused == "the temporary folder":
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "file"))
    else:
        ours = temporary_folder()
        assert ours is not None
        (ours / "triton").write_text("")

    with pytest.raises(BackendUnavailableError, match="TRITON_CACHE_DIR"):
        keep_compiled_kernels()


# ------------------------------------------------------- side streams: stand-ins that note what they are asked

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
    launcher.cache_clear()
    yield made
    launcher.cache_clear()


def test_work_on_a_side_stream_waits_for_what_is_queued_and_is_waited_for(machine: Machine) -> None:
    here, there = machine.current, []

    for _ in range(2):
        join = fork(_DEVICE, lambda: there.append(machine.current))
        assert machine.current is here
        assert there[-1].awaited[-1] is here
        assert len(here.awaited) == len(there) - 1
        join()
        assert here.awaited[-1] is there[-1]

    assert there[0] is there[1] is not here

"""Kernels started again go past Triton's search, and only if nothing has changed that it would look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.kernels import launch as module
from cosmeans.backends.gpu.kernels.launch import fact_of, launch
from cosmeans.errors import BackendUnavailableError


class OnGpu(torch.Tensor):
    """A tensor that says it lies on a GPU."""

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


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ready", {})
    monkeypatch.setattr(module, "stream_on", lambda device: 7 + device)
    return


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


# ------------------------------------------------------- where compiled kernels are kept


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """As on a GPU: kernels are compiled, into a folder that Triton is told of. Nobody can write below the file."""
    monkeypatch.setattr(module.knobs.runtime, "interpret", False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module.knobs.cache, "dir", str(tmp_path / "file" / "cache"))
    module.keep_compiled_kernels.cache_clear()
    yield tmp_path
    module.keep_compiled_kernels.cache_clear()


def test_triton_keeps_its_folder_where_it_can_write(compiled, monkeypatch):
    monkeypatch.setattr(module.knobs.cache, "dir", str(compiled / "own"))

    module.keep_compiled_kernels()

    assert module.knobs.cache.dir == str(compiled / "own")


def test_triton_is_given_a_folder_of_ours_where_it_cannot_write(compiled, monkeypatch):
    monkeypatch.setattr(module, "temporary_folder", lambda: compiled / "ours")

    HostRowsBackend("cpu")

    assert module.knobs.cache.dir == str(compiled / "ours" / "triton")


@pytest.mark.parametrize("ours", [None, "file"])
def test_without_any_folder_it_says_which_variable_to_set(compiled, monkeypatch, ours):
    monkeypatch.setattr(module, "temporary_folder", lambda: ours and compiled / ours)

    with pytest.raises(BackendUnavailableError, match="TRITON_CACHE_DIR"):
        HostRowsBackend("cpu")


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
    module.side.cache_clear()
    yield made
    module.side.cache_clear()


def test_work_beside_waits_for_what_is_queued_and_is_waited_for(machine: Machine) -> None:
    here, there = machine.current, []

    for _ in range(2):
        join = module.beside(_DEVICE, lambda: there.append(machine.current))
        assert machine.current is here
        assert there[-1].awaited[-1] is here
        assert len(here.awaited) == len(there) - 1
        join()
        assert here.awaited[-1] is there[-1]

    assert there[0] is there[1] is not here

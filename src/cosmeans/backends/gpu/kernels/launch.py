"""Starting work on the device with little of the host's time: kernels, side streams, asynchronous reads.

Triton looks at every argument of every launch to find the compiled kernel for them, which takes 30 to 50 us, where many
of our kernels take 3. What it looks at are few facts (the type of a number, whether it is 1 or divisible by 16, whether
an address is divisible by 16), so compiled kernels are cached by these facts.

Kernels can be compiled in other threads before they are needed. Which ones, those threads learn from launches that are
noted instead of made.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor
from triton import knobs
from triton.runtime import driver

from cosmeans.caches import temporary_folder, writable
from cosmeans.calls import Lock
from cosmeans.compile_clock import CLOCK
from cosmeans.errors import BackendUnavailableError

COMPILING = "compiling for this GPU, once: about 5 s"
_LOADED = 1.0  # seconds: what an earlier process compiled is there before


class Launcher:
    """What launches on one device have found out, and its side streams."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, Lock()
        # Compiled kernels and their constants, by the facts of a launch. Threads read and set single items, and two
        # that find the same kernel set the same one, so no lock is taken: a launch takes 3 us.
        self.ready: dict[tuple[object, ...], tuple[Any, tuple[object, ...]]] = {}
        self._streams: dict[str, torch.cuda.Stream] = {}

    def side_stream(self, purpose: str) -> torch.cuda.Stream:
        """A side stream, one for all work of a purpose: torch allocates memory for each stream separately.

        Purposes are kept apart so that a capture in one thread does not meet what another thread reads.
        """
        with self._lock:
            if purpose not in self._streams:
                self._streams[purpose] = torch.cuda.Stream(self._device)
            return self._streams[purpose]


@functools.cache
def launcher(device: int) -> Launcher:
    """That of a CUDA device."""
    return Launcher(torch.device("cuda", device))


class Compiling:
    """Kernels that other threads are compiling; the next launch of each waits for it. Triton's records of a kernel are
    the process' and made for one thread, so these are by kernel, not by device.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way: dict[Any, Future[None]] = {}

    def __contains__(self, kernel: Any) -> bool:
        return kernel in self._under_way

    def add(self, kernel: Any, submit: Callable[[Future[None] | None], Future[None]]) -> None:
        """Have a thread compile the kernel. submit: starts that, after what is under way for the kernel already."""
        with self._lock:
            self._under_way[kernel] = submit(self._under_way.get(kernel))

    def wait(self, kernel: Any) -> None:
        """Until nothing is under way. What failed is compiled by the launch once more, and fails where it is seen."""
        future = self._under_way.get(kernel)
        if future is None:
            return
        with CLOCK.running():
            try:
                future.exception(_LOADED)
            except TimeoutError:
                CLOCK.announce(COMPILING)
                future.exception()
        with self._lock:
            if self._under_way.get(kernel) is future:
                del self._under_way[kernel]


compiling = Compiling()


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that was noted instead of made."""

    kernel: Any
    programs: int
    arguments: tuple[Tensor | float, ...]
    constants: dict[str, Any]


class _Thread(threading.local):
    noted: list[Launch] | None = None


_thread = _Thread()


@contextmanager
def noted_launches() -> Iterator[list[Launch]]:
    """While this is open, launches of this thread are appended to the list instead of made."""
    noted: list[Launch] = []
    _thread.noted = noted
    try:
        yield noted
    finally:
        _thread.noted = None


def launch(kernel: Any, programs: int, *args: Tensor | float, **constants: Any) -> None:
    """kernel[(programs,)](*args, **constants). The constants of the kernel are its last parameters, given by name."""
    first = args[0]
    assert isinstance(first, Tensor)
    if _thread.noted is not None:
        _thread.noted.append(Launch(kernel, programs, args, constants))
        return
    if torch.version.hip or not first.is_cuda:  # on AMD more facts count; without a GPU the interpreter runs
        compiling.wait(kernel)
        kernel[(programs,)](*args, **constants)
        return
    device = first.device.index
    ready = launcher(device).ready
    facts: list[object] = [kernel, *constants.items()]
    values: list[float] = []
    for arg in args:
        if isinstance(arg, Tensor):
            value: float = arg.data_ptr()
            facts += (arg.dtype, value % 16)
        else:
            value = arg
            facts.append(fact_of(arg))
        values.append(value)
    key = tuple(facts)
    if key not in ready:
        compiling.wait(kernel)
        with CLOCK.running():
            compiled = kernel[(programs,)](*args, **constants)
        ready[key] = compiled, tuple(constants[name] for name in kernel.arg_names[len(args) :])
        return
    compiled, tail = ready[key]
    compiled[(programs, 1, 1)](*values, *tail, stream=stream_on(device))


@functools.cache
def keep_compiled_kernels() -> None:
    """Make sure that Triton has a folder for compiled kernels: it is given one where it can't write to its own.

    Triton reads what it compiled from files. Raises BackendUnavailableError if no folder can be written to.
    """
    if knobs.runtime.interpret or writable(Path(knobs.cache.dir)):
        return
    ours = temporary_folder()
    if ours is None or not writable(ours / "triton"):
        raise BackendUnavailableError(
            f"The GPU backend compiles its kernels in a folder, and neither {knobs.cache.dir} nor a folder under the "
            'temporary one can be written to. Set TRITON_CACHE_DIR to a writable folder, or pass device="cpu".'
        )
    knobs.cache.dir = str(ours / "triton")


def current(device: torch.device) -> AbstractContextManager[object]:
    """While this is open, the device is torch's current one: Triton starts its kernels there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _OfDevice(Protocol):
    device: torch.device


_S = TypeVar("_S", bound=_OfDevice)
_T = TypeVar("_T")
_P = ParamSpec("_P")


def on_device(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """The method with the device of its object as torch's current one."""

    @functools.wraps(method)
    def run(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with current(self.device):
            return method(self, *args, **kwargs)

    return run


def fact_of(number: float) -> object:
    """What compiling may look at of a number, or more."""
    if not isinstance(number, int):
        return float
    return 1 if number == 1 else (number % 16, number.bit_length() > 31, number < 0)


def stream_on(device: int) -> int:
    """The driver's handle of torch's current stream there. torch.cuda.current_stream would make an object first."""
    stream: int = driver.active.get_current_stream(device)
    return stream


def read_async(numbers: Tensor) -> Callable[[], list[float]]:
    """Queue a copy of numbers (B,) to the host; the function returned waits for that copy alone."""
    if numbers.device.type != "cuda":
        values: list[float] = numbers.tolist()
        return lambda: values
    host = torch.empty(numbers.shape, dtype=numbers.dtype, device="cpu", pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> list[float]:
        copied.synchronize()
        values: list[float] = host.tolist()
        return values

    return read


def side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """`Launcher.side_stream` of a CUDA device."""
    return launcher(device.index or 0).side_stream(purpose)


def read_on_side_stream(numbers: Tensor) -> Callable[[], list[float]]:
    """Numbers (B,) as the work queued so far leaves them; the function returned reads them on a side stream.

    It does not wait for what is queued after this call.
    """
    if numbers.device.type != "cuda":
        return read_async(numbers)
    done = torch.cuda.Event()
    done.record()

    def read() -> list[float]:
        stream = side_stream(numbers.device, "read")
        stream.wait_event(done)
        with torch.cuda.stream(stream):
            values: list[float] = numbers.tolist()
        return values

    return read


def fork(device: torch.device, work: Callable[[], None]) -> Callable[[], None]:
    """Fork: queue work on a side stream. The function returned joins: later work waits for both streams."""
    if device.type != "cuda":
        work()
        return lambda: None
    current, aside = torch.cuda.current_stream(device), side_stream(device, "work")
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        work()
    return lambda: current.wait_stream(aside)

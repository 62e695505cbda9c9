"""Starting work on the device with little of the host's time: kernels, side streams, reading numbers back.

Triton looks at every argument of every start to find the compiled kernel that fits them, which takes 30 to 50 us where
many of our kernels take 3. What it looks at are few facts (the type of a number, whether it is 1 or divisible by 16,
whether an address is divisible by 16), so kernels once found are kept by these.

`warmup.py` compiles many kernels at once; which ones, it learns from launches that are noted and not made.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.runtime import driver

from cosmeans.caches import temporary_folder, writable
from cosmeans.errors import BackendUnavailableError

_ready: dict[tuple[object, ...], tuple[Any, tuple[object, ...]]] = {}  # compiled kernels, and their constants

compiling: dict[Any, Future[None]] = {}  # what the first launches of a kernel wait for


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that was noted."""

    kernel: Any
    programs: int
    arguments: tuple[Tensor | float, ...]
    constants: dict[str, Any]


class _Here(threading.local):
    noted: list[Launch] | None = None


_here = _Here()


@contextmanager
def noting() -> Iterator[list[Launch]]:
    """While this is open, the launches of this thread go into the list, and not to the device."""
    noted: list[Launch] = []
    _here.noted = noted
    try:
        yield noted
    finally:
        _here.noted = None


def launch(kernel: Any, programs: int, *args: Tensor | float, **constants: Any) -> None:
    """kernel[(programs,)](*args, **constants); arguments of the kernel that are constants come last and by name."""
    first = args[0]
    assert isinstance(first, Tensor)
    if _here.noted is not None:
        _here.noted.append(Launch(kernel, programs, args, constants))
        return
    if torch.version.hip or not first.is_cuda:  # more facts count there; or the interpreter runs
        _await(kernel)
        kernel[(programs,)](*args, **constants)
        return
    device = first.device.index
    facts: list[object] = [kernel, device, *constants.items()]
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
    if key not in _ready:
        _await(kernel)
        compiled = kernel[(programs,)](*args, **constants)
        _ready[key] = compiled, tuple(constants[name] for name in kernel.arg_names[len(args) :])
        return
    compiled, tail = _ready[key]
    compiled[(programs, 1, 1)](*values, *tail, stream=stream_on(device))


def _await(kernel: Any) -> None:
    """Wait for a kernel that is being compiled. What failed is compiled once more, and fails where it is needed."""
    future = compiling.get(kernel)
    if future is not None:
        future.exception()
        compiling.pop(kernel, None)


@functools.cache
def keep_compiled_kernels() -> None:
    """See that Triton has a folder to compile in: where it can't write to its own, kernels go to one of ours.

    Triton reads what it compiled from files, so it needs one. Raises BackendUnavailableError if there is none.
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


def fact_of(number: float) -> object:
    """What compiling may ask of a number, or more."""
    if not isinstance(number, int):
        return float
    return 1 if number == 1 else (number % 16, number.bit_length() > 31, number < 0)


def stream_on(device: int) -> int:
    """torch's current stream there, as the driver knows it; torch's own way of asking makes an object first."""
    stream: int = driver.active.get_current_stream(device)
    return stream


def read_behind(numbers: Tensor) -> Callable[[], list[float]]:
    """Copy numbers (B,) out behind the work already queued; the function waits for that copy alone."""
    if numbers.device.type != "cuda":
        there: list[float] = numbers.tolist()
        return lambda: there
    host = torch.empty(numbers.shape, dtype=numbers.dtype, device="cpu", pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> list[float]:
        arrived.synchronize()
        found: list[float] = host.tolist()
        return found

    return read


@functools.cache
def side(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """A stream beside the others, one for all work of a purpose (torch takes memory anew for each stream).

    What is recorded in one thread must not meet what another thread reads.
    """
    return torch.cuda.Stream(device)


def read_beside(numbers: Tensor) -> Callable[[], list[float]]:
    """Numbers (B,) as the work queued so far leaves them; the function reads them beside whatever is queued since."""
    if numbers.device.type != "cuda":
        return read_behind(numbers)
    done = torch.cuda.Event()
    done.record()

    def read() -> list[float]:
        aside = side(numbers.device, "read")
        aside.wait_event(done)
        with torch.cuda.stream(aside):
            found: list[float] = numbers.tolist()
        return found

    return read


def beside(device: torch.device, work: Callable[[], None]) -> Callable[[], None]:
    """Queue work beside what is queued next; what is queued after the function was called waits for both."""
    if device.type != "cuda":
        work()
        return lambda: None
    here, there = torch.cuda.current_stream(device), side(device, "work")
    there.wait_stream(here)
    with torch.cuda.stream(there):
        work()
    return lambda: here.wait_stream(there)

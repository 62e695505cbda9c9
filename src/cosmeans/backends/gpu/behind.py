"""Work behind and beside what is already queued."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


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

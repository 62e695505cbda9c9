"""How a kernel is started, `name[grid](arguments)`: as Triton does it, and not before its compilation has ended.

`warmup.py` compiles many kernels at once; which ones, it learns from launches that are noted and not made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that was noted."""

    kernel: Kernel
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


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


class Kernel:
    """A kernel that the host starts. compiling: what its first launches wait for."""

    def __init__(self, jit: Any) -> None:
        """jit: what `triton.jit` made."""
        self.jit = jit
        self.compiling: Future[None] | None = None

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        noted = _here.noted
        if noted is not None:
            return lambda *arguments, **options: noted.append(Launch(self, grid, arguments, options))
        compiling = self.compiling
        if compiling is not None:
            # waits; what failed there is compiled here once more, and fails where the kernel is needed
            compiling.exception()
            if self.compiling is compiling:
                self.compiling = None
        launch: Callable[..., Any] = self.jit[grid]
        return launch

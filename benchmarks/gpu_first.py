"""The first fit of a process, and where its time goes: TRITON_CACHE_DIR=$(mktemp -d) python benchmarks/gpu_first.py

Run it alone. With an empty folder kernels are compiled; a second run with the same folder finds them there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from triton import knobs

from cosmeans import KMeans
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.rows import precompile
from gpu_common import estimator_with, gpu, record, run_actions, unit_rows


def first(n: int = 1_000_000, d: int = 768, k: int = 1000) -> None:
    """Seconds from rows on the GPU to labels on the host. late: kernels that the fit waited for by itself."""
    started = time.perf_counter()
    x = unit_rows(n, d)
    torch.cuda.synchronize()
    made = time.perf_counter()
    marks: list[tuple[float, str, bool]] = []

    def mark(what: str) -> None:
        marks.append((time.perf_counter() - made, what, threading.current_thread() is threading.main_thread()))

    _watch(mark)
    KMeans(k, None, 10, init=x[:k], verbose=0).fit(x).labels_.cpu()
    seconds = time.perf_counter() - made
    mark("labels are on the host")
    for at, what, here in sorted(marks):
        print(f"{at:8.3f} s {'' if here else 'thread: '}{what}", flush=True)
    late = sorted({what for _, what, here in marks if here and what.endswith("loaded")})
    record("first fit", n=n, d=d, k=k, seconds=seconds, rows_s=made - started, late=late)


def first_serial() -> None:
    """The same without warm-up: each kernel is compiled when it is started."""
    with estimator_with(gpu(compile=lambda launches, shape: None)):
        first()


def _watch(mark: Callable[[str], None]) -> None:
    """Have every kernel marked when it is compiled and when it is loaded."""

    def compiled(**facts: Any) -> None:
        mark(f"{facts['fn'].name} compiled, or read from the disk")

    knobs.runtime.jit_post_compile_hook = compiled
    knobs.runtime.kernel_load_end_hook.add(lambda module, function, name, *_: mark(f"{name} loaded"))
    places = (
        (screen_hopper, "compiled"),
        (screen_hopper, "build"),
        (precompile, "of_fit"),
        (precompile, "compile_ahead"),
    )
    for module, name in places:
        setattr(module, name, _marked(mark, getattr(module, name), f"{module.__name__.split('.')[-1]}.{name} done"))


def _marked(mark: Callable[[str], None], function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        mark(what)
        return found

    return run


if __name__ == "__main__":
    run_actions({"first": first, "first-serial": first_serial}, __doc__, default=["first"])

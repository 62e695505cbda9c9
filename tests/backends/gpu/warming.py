"""Run as a program, outside Triton's interpreter: a fit's kernels are compiled in threads for a chip that isn't here.

A driver that starts nothing stands in for the GPU's. Prints "warm" when kernels were compiled and loaded by the
threads, "quick" when noting launches made torch load none of what takes it 0.2 s; then the kernels that a pass
compiled all the same; then those that were compiled where they are launched, since their thread failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from contextlib import nullcontext
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()

import torch
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from cosmeans import sphere
from cosmeans.backends.gpu import warmup
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.kernels.launch import Launch
from cosmeans.backends.gpu.kernels.norms import inspect_rows, start_lengths
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.data import Batch, ClusterSums


class Utils:
    """Loads nothing."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448}

    def load_binary(self, name: str, *others: Any) -> tuple[Any, ...]:
        loaded.append((name, threading.current_thread() is threading.main_thread()))
        return object(), 0, 32, 0, 1024

    def unload_module(self, module: object) -> None: ...


class Driver:
    """Of a chip that isn't here."""

    utils = Utils()

    def launcher_cls(self, source: object, metadata: object) -> Any:
        return lambda *_: None

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def compiling(**facts: Any) -> None:
    compiled.append((facts["fn"].name, threading.current_thread() is threading.main_thread()))


loaded: list[tuple[str, bool]] = []
compiled: list[tuple[str, bool]] = []
driver.set_active(Driver())
knobs.runtime.jit_post_compile_hook = compiling
torch.cuda.device = lambda index: nullcontext()  # type: ignore[assignment,misc]
torch.cuda.current_device = lambda: 0


def visit(rows: torch.Tensor, k: int, backend: HostRowsBackend, *, scaled: bool, weighted: bool) -> None:
    """Whatever a fit starts."""
    n, d = rows.shape
    squared = torch.ones(n, dtype=torch.float64)
    batch = Batch(0, rows, squared if scaled else None, None, squared if weighted else None)
    centroids, labels = sphere.normalise(torch.randn(k, d)), torch.zeros(n, dtype=torch.int32)
    sums = ClusterSums.zeros(k, d, 35, "cpu")
    inspect_rows(rows, squared, Copy.empty(n, d, 0, False, rows.device), 0)
    start_lengths(squared)
    backend.assign(batch, backend.prepare(centroids), labels)
    backend.accumulate(batch, labels - 1, labels, sums)
    number = torch.zeros(1, dtype=torch.int32)
    backend.update(sums, centroids, n, number, number)
    backend.inertia_limbs(backend.chords(batch, centroids, labels)[1], batch.weights)


def late(d: int, k: int, dtype: torch.dtype, *, scaled: bool, weighted: bool) -> list[str]:
    """Kernels that a fit compiles or loads itself after its warm-up."""
    rows, screens = torch.randn(70, d).to(dtype), Screens(torch.device("cpu"), "auto")
    kind = warmup.Kind(k, fit=True, inspects=True, moved=False, recorded=False, weighted=weighted)
    warmup._start(warmup.of_fit(warmup._twin(rows), kind, None, screens), None)
    backend = HostRowsBackend("cpu")
    backend._resident = Copy.empty(70, d, 0, False, rows.device)
    visit(rows, k, backend, scaled=scaled, weighted=weighted)
    return [name for name, here in (*compiled, *loaded) if here]


class Failing:
    """A kernel that can't be compiled ahead."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int]) -> Any:
        return self.kernel[grid]

    def warmup(self, *arguments: Any, **options: Any) -> None:
        raise RuntimeError


first = late(100, 7, torch.float32, scaled=False, weighted=False)
if compiled and not any(here for _, here in compiled):
    sys.stdout.write("warm ")
if "sympy" not in sys.modules:
    sys.stdout.write("quick ")
sys.stdout.write(" ".join(["late:", *first, *late(768, 8, torch.bfloat16, scaled=True, weighted=True)]))

# what fails in a thread is compiled where it is needed
started = start_lengths.__globals__["_lengths"]
failing = Failing(started)
warmup._start([Launch(failing, 1, (), {})], None)
start_lengths.__globals__["_lengths"] = failing
compiled.clear()
start_lengths(torch.ones(3, dtype=torch.float64)[1:])  # laid out as no rows were before
sys.stdout.write(" ".join([" failed:", *(name for name, here in compiled if here)]))

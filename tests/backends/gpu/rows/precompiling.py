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
from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.launch import Launch, noted_launches
from cosmeans.backends.gpu.kernels.norms import inspect_rows, queue_lengths
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.scores import inertia_limbs, own_chords
from cosmeans.backends.gpu.rows.precompile import compile_ahead, precompile
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.data import Batch, ClusterSums, Task


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


def visit(batch: Batch, k: int, resident: ResidentRows) -> None:
    """Whatever a fit starts."""
    n, d = batch.rows.shape
    squared = torch.ones(n, dtype=torch.float64)
    centroids, labels = sphere.normalise(torch.randn(k, d)), torch.zeros(n, dtype=torch.int32)
    sums = ClusterSums.zeros(k, d, 35, "cpu")
    inspect_rows(batch.rows, squared, QuantizedRows.empty(n, d, 0, batch.rows.device), 0)
    queue_lengths(squared)
    resident.assign(batch, resident.columns(centroids, integers=False), labels)
    resident.accumulate(batch, labels - 1, labels, sums)
    number = torch.zeros(1, dtype=torch.int32)
    resident.update(sums, centroids, n, number, number)
    inertia_limbs(own_chords(batch, centroids, labels)[1], batch.weights)


def late(d: int, k: int, dtype: torch.dtype, *, scaled: bool, weighted: bool) -> list[str]:
    """Kernels that a fit compiles or loads itself after they were to be compiled ahead."""
    rows, ones = torch.randn(70, d).to(dtype), torch.ones(70, dtype=torch.float64)
    state = DeviceState(rows.device, Tuning(compile=compile_ahead))
    screens, weights = Screens(rows.device, "auto"), ones if weighted else None
    precompile(rows, Task(k, weights=weights), screens, state, inspects=True)
    resident = ResidentRows(state, screens, None)
    resident.copy = QuantizedRows.empty(70, d, 0, rows.device)
    visit(Batch(0, rows, ones if scaled else None, None, weights), k, resident)
    return [name for name, here in (*compiled, *loaded) if here]


def fail(*arguments: Any, **options: Any) -> None:
    raise RuntimeError


first = late(100, 7, torch.float32, scaled=False, weighted=False)
if compiled and not any(here for _, here in compiled):
    sys.stdout.write("warm ")
if "sympy" not in sys.modules:
    sys.stdout.write("quick ")
sys.stdout.write(" ".join(["late:", *first, *late(768, 8, torch.bfloat16, scaled=True, weighted=True)]))

# what fails in a thread is compiled where it is needed
with noted_launches() as launches:
    queue_lengths(torch.ones(3, dtype=torch.float64))
(kernel,) = (launch.kernel for launch in launches)
compiles, kernel.warmup = kernel.warmup, fail
compile_ahead([Launch(kernel, 1, (), {})], None)
compiled.clear()
queue_lengths(torch.ones(3, dtype=torch.float64)[1:])  # laid out as no rows were before
sys.stdout.write(" ".join([" failed:", *(name for name, here in compiled if here)]))

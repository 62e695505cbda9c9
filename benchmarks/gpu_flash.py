"""Whole fits compared with flash-kmeans: python benchmarks/gpu_flash.py [--ahead] [N,D,K,DTYPE ...]

flash-kmeans tunes itself for two minutes at each shape and type with D of 768 and above, so each cell runs in a process
of its own, on whichever GPU of the machine is free; ours runs beside it, on the same GPU. It compiles 162 kernels in
that time, one after the other: --ahead has all cores compile those of all cells first, and its first call of a cell
then finds them in Triton's cache and times them. Without cells: all of `gpu_common.CELLS` in both types. Records are
appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any

import torch
from triton.compiler.errors import CompileTimeAssertionFailure
from triton.runtime.autotuner import Autotuner
from triton.runtime.errors import OutOfResources, PTXASError
from triton.runtime.jit import MockTensor

import gpu_common
from common import parser_of
from gpu_common import fit, flash_fit, gpu, record, unit_rows, wall

EPOCHS = 10
CELLS = [f"{n},{d},{k},{dtype}" for n, d, k in gpu_common.CELLS for dtype in ("float16", "float32")]
TUNED = 768  # features from which on flash-kmeans tunes itself
PARTS = 8  # of the kernels of a cell, compiled by as many processes


class Described(MockTensor):
    """A dense tensor on the GPU that has no memory: what a kernel is compiled for."""

    is_cuda, device = True, torch.device("cuda")

    def stride(self) -> tuple[int, ...]:
        return tuple(math.prod(self.shape[place + 1 :]) for place in range(len(self.shape)))


def compile_part(cell: str, part: int) -> None:
    """Compile a part of the kernels that flash-kmeans tries at this cell, into Triton's cache."""
    from flash_kmeans.assign_euclid_triton import cosine_assign_triton

    n, d, k, dtype = parsed(cell)

    def run(self: Autotuner, *args: Any, **kwargs: Any) -> None:
        for config in self.configs[part::PARTS]:
            with suppress(OutOfResources, CompileTimeAssertionFailure, PTXASError):  # flash-kmeans passes over it, too
                self.fn.run(*args, **{**kwargs, **config.all_kwargs(), "warmup": True})

    Autotuner.run = run  # nothing else runs in this process
    cosine_assign_triton(Described(dtype, (1, n, d)), Described(dtype, (1, k, d)), out=Described(torch.int32, (1, n)))


def compile_ahead(cells: Iterable[str]) -> None:
    """Compile all kernels that flash-kmeans will time, with all cores."""
    tasks = [(cell, part) for cell in cells if parsed(cell)[1] >= TUNED for part in range(PARTS)]
    started = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for task in [pool.submit(compile_part, *task) for task in tasks]:
            task.result()
    print(f"-- compiled: {time.perf_counter() - started:.1f} s", flush=True)


def parsed(cell: str) -> tuple[int, int, int, torch.dtype]:
    *sizes, name = cell.split(",")
    n, d, k = map(int, sizes)
    return n, d, k, getattr(torch, name)


def measure(cell: str, ahead: bool) -> None:
    """One cell, from the same first centroids: medians of whole fits after idling, and the first call of theirs.

    ahead: its kernels were compiled before
    """
    n, d, k, dtype = parsed(cell)
    rows = unit_rows(n, d, dtype=dtype)
    first = rows[:k].clone()
    centroids = first.float()
    theirs = lambda: flash_fit(rows, first, EPOCHS)  # noqa: E731
    ours = lambda: fit(rows, centroids, gpu(), EPOCHS, empty_clusters="keep")  # noqa: E731
    started = time.perf_counter()
    try:
        theirs()
    except OutOfResources as error:
        print(f"flash-kmeans fails at {cell}: {error}", flush=True)
        return
    tuning = time.perf_counter() - started
    passes = len(ours().history) + 1  # fewer than theirs where nothing moves any more
    ours()
    both = {"ours": wall(ours, 5), "flash": wall(theirs, 5)}
    facts = {"n": n, "d": d, "k": k, "dtype": str(dtype), "epochs": EPOCHS, "passes": passes}
    record("flash", **facts, compiled_ahead=ahead and d >= TUNED, flash_first_s=tuning, **both)


def share_out(cells: Iterable[str], n_devices: int, options: list[str]) -> None:
    """Each cell in a process that sees one GPU, as many at once as there are GPUs."""
    free: SimpleQueue[int] = SimpleQueue()
    for device in range(n_devices):
        free.put(device)

    def run(cell: str) -> None:
        device = free.get()
        seen = {**os.environ, "CUDA_VISIBLE_DEVICES": str(device)}
        ended = subprocess.run([sys.executable, __file__, "--here", *options, cell], env=seen, check=False)
        free.put(device)
        if ended.returncode:
            print(f"{cell}: failed with {ended.returncode}", flush=True)

    with ThreadPoolExecutor(n_devices) as pool:
        list(pool.map(run, cells))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="N,D,K,DTYPE")
    parser.add_argument("--ahead", action="store_true", help="compile with all cores first")
    parser.add_argument("--here", action="store_true", help="in this process")
    chosen = parser.parse_args()
    if not chosen.here:
        if chosen.ahead:
            compile_ahead(chosen.cells)
        flags = [f"--{name}" for name in ("ahead", "dry") if getattr(chosen, name)]
        options = ["--results", str(chosen.results), *flags]
        share_out(chosen.cells, torch.cuda.device_count(), options)
        return
    gpu_common.OPTIONS = chosen
    for cell in chosen.cells:
        measure(cell, chosen.ahead)


if __name__ == "__main__":
    main()

"""Times the GPU backend: python benchmarks/gpu.py fit profile cells ...

Times are medians of bursts after idling, because a Hopper at these rates is limited by power. gpu_checks.py compares
the answers with the float64 reference.
Records are appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

import cProfile
import gc
import itertools
import pstats
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosmeans import KMeans, lloyd, scoring, sphere
from cosmeans.backends.gpu.rows.plans import OF_INSPECTED, plan_resident
from cosmeans.backends.gpu.tuning import ANY
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from gpu_common import (
    CELLS,
    DEVICE,
    burst,
    fit,
    gpu,
    opened,
    record,
    run_actions,
    screening,
    torch_loop,
    unit_rows,
    wall,
)


def proofs(n: int = 1_000_000, d: int = 768, k: int = 1000) -> None:
    """The rows that the screen lists, and how many of them with two candidates, epoch by epoch."""
    x = unit_rows(n, d)
    for result in (fit(x, x[:k].clone(), gpu(), epochs) for epochs in (1, 2, 5, 10)):
        with screening(x, result.centroids) as screened:
            screened.screen()
            crowded, pairs = screened.listed()["refined"]
        record("proofs", n=n, d=d, k=k, epochs=len(result.history), again=crowded, pairs=pairs)


def screens(shapes: tuple[tuple[int, int, int], ...] = ((1_000_000, 768, 1000),)) -> None:
    """The screens alone, against cuBLAS with N x K written out."""
    for n, d, k in shapes:
        x, c = unit_rows(n, d), unit_rows(k, d, 1)
        half, half_c = x.half(), c.half()
        out = torch.empty(n, k, dtype=torch.float16, device=DEVICE)
        with screening(x, c, "hopper") as hopper, screening(x, c, "portable") as portable:
            times = burst(
                {
                    "hopper": hopper.screen,
                    "portable": portable.screen,
                    "cublas": lambda a=half, b=half_c.T, o=out: torch.mm(a, b, out=o),
                }
            )
        rates = {f"{name} TFLOP/s": 2 * n * d * k / ms / 1e9 for name, ms in times.items()}
        record("screen", n=n, d=d, k=k, **times, **rates)


def whole(n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10) -> None:
    """Whole fits from given first centroids, rows on the GPU."""
    for dtype in (torch.float32, torch.float16):
        x = unit_rows(n, d, dtype=dtype)
        c = sphere.normalise(x[:k].clone())

        def run(x: Tensor = x, c: Tensor = c) -> FitResult:
            return fit(x, c, gpu(), epochs)

        started = time.perf_counter()
        result = run()
        first = time.perf_counter() - started
        shares = [(i.changed, cost.settled) for i, cost in zip(result.history, result.costs, strict=True)]
        record("fit", n=n, d=d, k=k, epochs=epochs, dtype=str(dtype), ms=wall(run), first_s=first, rows=shares)


def bare_product(rows: Tensor, c: Tensor, launches: int = 10, rounds: int = 5) -> float:
    """Milliseconds of cuBLAS for all scores in float16, written out in pieces that fit."""
    piece = rows[: (1 << 30) // len(c)]
    out = torch.empty(len(piece), len(c), dtype=torch.float16, device=DEVICE)
    product = burst({"": lambda: torch.mm(piece, c.T, out=out)}, launches, rounds, 0.05)
    return product[""] * len(rows) / len(piece)


def cells() -> None:
    """Whole fits, a PyTorch loop and the bare product, all per pass over the rows, for many D and K.

    A fit of E epochs makes E + 1 passes; inspection and first copy are divided among them.
    """
    for n, d, k in CELLS:
        epochs = 10 if k <= 4096 else 3
        x = unit_rows(n, d)
        times: dict[str, float] = {}
        for dtype in (torch.float32, torch.float16):
            name, rows = str(dtype)[6:], x.to(dtype)
            c = rows[:k].float()

            def run(rows: Tensor = rows, c: Tensor = c, epochs: int = epochs) -> FitResult:
                return fit(rows, c, gpu(), epochs, empty_clusters="keep")

            passes = len(run().history) + 1
            run()
            times[name] = wall(run, 3, 0.05) / passes
            for tf32 in (False, True) if dtype is torch.float32 else (False,):
                torch.backends.cuda.matmul.allow_tf32 = tf32
                loop = lambda rows=rows, c=c: torch_loop(rows, c.to(rows.dtype), 2)  # noqa: E731
                torch_loop(rows, c.to(rows.dtype), 1)
                times[f"loop {'tf32' if tf32 else name}"] = wall(loop, 1 if n * d * k > 1e13 else 3, 0.05) / 2
            torch.backends.cuda.matmul.allow_tf32 = False
        times["cublas"] = bare_product(x.half(), x[:k].half(), 3 if k > 4096 else 10, 3)
        record("cell", n=n, d=d, k=k, epochs=epochs, passes=passes, **times)


def inspect(x: Tensor, k: int) -> None:
    with opened(x, k, gpu()):
        pass


def small(n: int = 32_000, d: int = 128, k: int = 256) -> None:
    """A small fit, whose limit is the starting of kernels: after idling, and many in a row over different rows."""
    sets = [unit_rows(n, d, seed) for seed in range(5)]
    x, c = sets[0], sets[0][:k].clone()
    turn = itertools.cycle(sets)
    one = torch.zeros(1, device=DEVICE)
    times = {
        "ms": lambda: fit(x, c, gpu(), 10),
        "twenty_epochs": lambda: fit(x, c, gpu(), 20),
        "inspecting": lambda: inspect(x, k),
        "loop": lambda: torch_loop(x.half(), c.half(), 10),
        "waking": one.item,  # what the machine takes to answer at all after idling
    }
    for run in times.values():
        run(), run()
    found = {name: wall(run, 15) for name, run in times.items()}
    many = wall(lambda: fit(next(turn), c, gpu(), 10), 40, 0.0)
    many_loops = wall(lambda: torch_loop(next(turn).half(), c.half(), 10), 40, 0.0)
    record("small fit", n=n, d=d, k=k, epochs=10, **found, in_a_row=many, loops_in_a_row=many_loops)


def memory() -> None:
    """The planned bytes besides the rows, compared with the peak of a fit with labels and scores of its rows."""
    shapes = ((1_000_000, 768, 1000), (1_000_000, 768, 1000), (4_000_000, 128, 256), (262_144, 1536, 65_536))
    for turn, (n, d, k) in enumerate(shapes):
        x = unit_rows(n, d, dtype=torch.float16)
        first = x[:k].float()
        gc.collect()
        torch.cuda.empty_cache()
        room = plan_resident(n, d, k, ANY, "").n_bytes + n * OF_INSPECTED
        if turn == 0:
            room = int(room * 0.6)  # the second way: rows are labelled in chunks
        backend = gpu(room=lambda device, enough, room=room: room)
        before, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]
        torch.cuda.reset_peak_memory_stats()
        with opened(x, k, backend, first) as session:
            options = FitOptions(n_clusters=k, epochs=3, empty_clusters="keep")
            result = lloyd.fit(session, first, options, Silent())
            scores = scoring.own_scores(session, result.centroids, result.labels)
            torch.cuda.synchronize()
            peak, taken = torch.cuda.max_memory_allocated() - before, total - torch.cuda.mem_get_info()[0]
        plan = plan_resident(n, d, k, room - n * OF_INSPECTED, "")
        facts = {"planned": plan.n_bytes, "resident": plan.copied, "part": plan.chunk, "peak": peak, "taken": taken}
        record("memory", n=n, d=d, k=k, enough=peak <= plan.n_bytes + n * OF_INSPECTED, **facts)
        del backend, session, result, scores, x, first


def whole_kmeans() -> None:
    """KMeans.fit of the tutorial's workload: checks and own similarities on top of the loop."""
    x = unit_rows(1_000_000, 768)
    for init in ("random", x[:1000].clone()):
        kmeans = KMeans(1000, None, 10, init=init, random_state=0, verbose=0, warm_start=False)
        kmeans.fit(x)
        record("KMeans.fit", n=1_000_000, d=768, k=1000, init=str(init)[:6], ms=wall(lambda k=kmeans: k.fit(x), 5))


def host() -> None:
    """Where Python's time around small fits and around `KMeans.fit` goes."""
    small, large, medium = unit_rows(32_000, 128), unit_rows(1_000_000, 768), unit_rows(1 << 20, 128).half()
    kmeans = KMeans(1000, None, 10, random_state=0, verbose=0, warm_start=False)
    runs: dict[str, Callable[[], Any]] = {
        "small": lambda: fit(small, small[:256], gpu(), 10),
        "medium": lambda: fit(medium, medium[:1000].float(), gpu(), 10),
        "large": lambda: fit(large, large[:1000], gpu(), 10),
        "KMeans.fit": lambda: kmeans.fit(large),
    }
    for name, run in runs.items():
        run(), run()
        profiler = cProfile.Profile()
        for _ in range(10):
            torch.cuda.synchronize()
            time.sleep(0.05)
            profiler.enable()
            run()
            torch.cuda.synchronize()
            profiler.disable()
        print(name)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def profile(
    n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10, dtype: torch.dtype = torch.float32
) -> None:
    """Where the time of a fit goes, kernel by kernel."""
    x = unit_rows(n, d, dtype=dtype)
    c = x[:k].float()
    fit(x, c, gpu(), epochs, empty_clusters="keep")
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        fit(x, c, gpu(), epochs, empty_clusters="keep")
        torch.cuda.synchronize()
    kernels = [event for event in found.key_averages() if event.device_time_total > 0 and event.device_type.value == 1]
    for event in sorted(kernels, key=lambda e: -e.device_time_total)[:40]:
        print(f"{event.device_time_total / 1e3:9.3f} ms {event.count:5} x  {event.key[:90]}", flush=True)


ACTIONS = {
    **{"proofs": proofs, "screens": screens, "fit": whole, "profile": profile, "cells": cells, "small": small},
    **{"memory": memory, "kmeans": whole_kmeans, "host": host},
}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__, default=["screens", "fit", "profile"])

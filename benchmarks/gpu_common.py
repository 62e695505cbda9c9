"""What the scripts for the GPU share: rows, whole fits of one backend, clocks, and the actions of a command line."""

from __future__ import annotations

import argparse
import gc
import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import DEMO, keep, parser_of
from cosmeans import lloyd, sphere
from cosmeans.contracts import Backend, Receiver
from cosmeans.data import Coming
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

CELL_ROWS = {256: 1 << 20, 1000: 1 << 20, 4096: 1 << 20, 16384: 1 << 18, 65536: 1 << 18}  # K: rows
CELLS = [(n, d, k) for k, n in CELL_ROWS.items() for d in (128, 384, 768, 1024, 1536)]
CELLS += [(100_000, 128, 256), (100_000, 768, 1000), (1 << 22, 128, 1000), (1 << 22, 768, 1000)]
Actions = dict[str, Callable[[], Any]]
OPTIONS: argparse.Namespace | None = None  # of the command line, for records


def run_actions(actions: Actions, description: str | None, default: list[str] | None = None, **more: Any) -> None:
    """Run the actions that the command line names. more: further options and their defaults."""
    global OPTIONS
    parser = parser_of(description)
    parser.add_argument("actions", choices=list(actions), nargs="*" if default else "+", default=default)
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    OPTIONS = parser.parse_args()
    for name in OPTIONS.actions:
        started = time.perf_counter()
        actions[name]()
        gc.collect()
        torch.cuda.empty_cache()
        print(f"-- {name}: {time.perf_counter() - started:.1f} s", flush=True)


def record(kind: str, **values: Any) -> None:
    """Print what was measured, and keep it."""
    print(kind, {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}, flush=True)
    if OPTIONS is not None:
        keep("gpu", {"kind": kind, **values}, OPTIONS, on_gpu=True)


def unit_rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, device="cuda", generator=generator)).to(dtype)


def fit(x: Tensor, centroids: Tensor, backend: Backend, epochs: int, **options: Any) -> FitResult:
    """As the estimator fits rows on the device."""
    weights, size = options.pop("sample_weight", None), options.pop("batch_size", None)
    if isinstance(backend, Receiver):
        backend.expect(x, Coming(len(centroids), True, first=lambda: centroids))
    inspect = {"squared_norms": backend.squared_norms, "lengths": backend.lengths}
    rows = MemoryRows(x, **inspect, sample_weight=weights, batch_size=size)
    settings = FitOptions(n_clusters=len(centroids), epochs=epochs, **options)
    return lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())


def digest(result: FitResult) -> str:
    parts = (result.labels.cpu(), result.centroids.cpu(), result.counts.cpu())
    bits = b"".join(part.numpy().tobytes() for part in parts)
    return hashlib.sha256(bits + repr(result.history.similarities).encode()).hexdigest()[:12]


def cases() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    """Rows, first centroids and options of the fits whose bits must agree on every backend."""
    real = torch.from_numpy(np.load(DEMO).astype(np.float32)).cuda()
    x = unit_rows(6000, 200, 1)
    tied = sphere.normalise(x[:1] + 1e-5 * unit_rows(64, 200, 2))
    equal = x[:40].clone()
    equal[1::2] = equal[::2]
    duplicates = torch.cat([x[:30]] * 100)
    return {
        "random": (x, x[:50].clone(), {}),
        "odd shapes": (unit_rows(4099, 37, 3), unit_rows(301, 37, 4), {}),
        "real": (real, real[:100].clone(), {}),
        "near ties": (unit_rows(5000, 200, 5), tied, {}),
        "equal centroids": (x, equal, {}),
        "duplicates": (duplicates, duplicates[:40].clone(), {}),
        "lengths": (x * 37.5 + 0.5, x[:20].clone(), {}),
        "mixed lengths": (x * torch.logspace(-3, 3, 6000, device="cuda")[:, None], x[:50].clone(), {}),
        "antipodes": (sphere.normalise(x + 0.2), -sphere.normalise(x[:40] + 0.2), {}),  # all first scores below zero
        "float16": (x.half(), x[:50].clone(), {}),
        "bfloat16": (x.bfloat16(), x[:50].clone(), {}),
        "weights": (x, x[:50].clone(), {"sample_weight": torch.rand(6000, dtype=torch.float64).numpy() + 0.5}),
        "one cluster": (x, x[:1].clone(), {}),
        "one dimension": (torch.randn(500, 1, device="cuda"), torch.tensor([[1.0], [-1.0]], device="cuda"), {}),
        "wide": (unit_rows(700, 4097, 6), unit_rows(30, 4097, 7), {}),
        "tol": (x, x[:50].clone(), {"tol": 0.05}),
        "many": (unit_rows(3000, 64, 8), unit_rows(2000, 64, 9), {}),
        "zero rows": (torch.where(torch.arange(6000, device="cuda")[:, None] % 7 == 0, 0.0, x), x[1:41].clone(), {}),
        "two clusters": (x, x[:2].clone(), {}),
        "65,536 clusters": (unit_rows(2000, 40, 10), unit_rows(1 << 16, 40, 11), {"empty_clusters": "keep"}),
    }


def burst(
    functions: dict[str, Callable[[], Any]], launches: int = 10, rounds: int = 5, idle: float = 0.15
) -> dict[str, float]:
    """Median milliseconds of each function: after idling, a burst of launches, in interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    torch.cuda.synchronize()
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(idle)
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(launches):
                function()
            end.record()
            torch.cuda.synchronize()
            times[name].append(begin.elapsed_time(end) / launches)
    return {name: statistics.median(values) for name, values in times.items()}


def wall(function: Callable[[], Any], rounds: int = 7, idle: float = 0.15) -> float:
    """Median wall milliseconds of one call after idling."""
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        time.sleep(idle)
        started = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def torch_loop(x: Tensor, centroids: Tensor, epochs: int) -> Tensor:
    """Spherical k-means in a few lines of PyTorch, in the precision of x, in chunks of rows that fit."""
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    step = max(1, (1 << 30) // len(centroids))
    for _ in range(epochs):
        for start in range(0, len(x), step):
            labels[start : start + step] = (x[start : start + step] @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids, dtype=torch.float32).index_add_(0, labels, x.float())
        centroids = torch.nn.functional.normalize(sums, dim=1).to(x.dtype)
    return labels


def flash_fit(rows: Tensor, first: Tensor, epochs: int) -> object:
    """What flash-kmeans finds. rows (N, D) and first centroids (K, D), of one type."""
    from flash_kmeans import batch_kmeans_Cosine

    return batch_kmeans_Cosine(rows[None], len(first), epochs, tol=0.0, init_centroids=first[None])

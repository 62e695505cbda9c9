"""What the scripts for the GPU share: rows, sessions and whole fits, clocks, and the actions of a command line.

Without a GPU scripts can be tried with TRITON_INTERPRET=1: cases are small, and what stands in for a GPU in the tests
does so here (`host_rows`, `Graphs`). Nothing is recorded then.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import DEMO, keep, parser_of
from cosmeans import lloyd, sphere
from cosmeans._estimator import opening
from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.replay.graph import Graph
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.contracts import Backend, Session
from cosmeans.data import Batch, Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
TESTS = Path(__file__).parents[1] / "tests"
sys.path.append(str(TESTS))  # golden answers, and what stands in for a GPU
STAND_INS: Any = None if ON_GPU else importlib.import_module("backends.gpu.standins")

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
        if ON_GPU:
            torch.cuda.empty_cache()
        print(f"-- {name}: {time.perf_counter() - started:.1f} s", flush=True)


def record(kind: str, **values: Any) -> None:
    """Print what was measured, and keep it."""
    print(kind, {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}, flush=True)
    if OPTIONS is not None and ON_GPU:
        keep("gpu", {"kind": kind, **values}, OPTIONS, on_gpu=True)


def unit_rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, device=DEVICE, generator=generator)).to(dtype)


def host_rows(x: Tensor) -> Tensor:
    """The rows on the host; without a GPU, rows that count as such."""
    host: Tensor = x.cpu() if ON_GPU else STAND_INS.on_host(x)
    return host


def gpu(screen: str | Screens = "auto", integers: bool | None = None, **tuning: Any) -> GpuBackend:
    """The backend. tuning: numbers of `Tuning`; sessions of a backend that has such share nothing with others."""
    if ON_GPU:
        return GpuBackend(DEVICE, screen, integers, Tuning(**tuning) if tuning else None)
    tuning = {"programs": 1, "event": STAND_INS.Event, **tuning}
    return GpuBackend(DEVICE, "portable" if isinstance(screen, str) else screen, integers, Tuning(**tuning))


class Graphs:
    """`Tuning.graph` that counts: how many graphs were made, and how often one was replayed."""

    def __init__(self) -> None:
        self.made = self.replayed = 0

    def __call__(self, work: Callable[[], object], device: torch.device, state: DeviceState) -> Counted:
        self.made += 1
        graph = Graph(work, device, state) if ON_GPU else STAND_INS.Replayed(work, STAND_INS.Graphs())
        return Counted(graph, self)


class Counted:
    """A graph that counts its replays."""

    def __init__(self, graph: Any, graphs: Graphs) -> None:
        self._graph, self._graphs = graph, graphs

    def replay(self) -> None:
        self._graphs.replayed += 1
        self._graph.replay()


def session_of(
    x: Tensor,
    n_clusters: int,
    backend: Backend,
    *,
    fit: bool = True,
    sample_weight: Any = None,
    batch_size: int | None = None,
) -> Session:
    """A session over these rows, neither entered nor read."""
    weights = None if sample_weight is None else torch.as_tensor(sample_weight)
    task = Task(n_clusters, fit=fit, weights=weights, batch_size=batch_size, zero_rows="skip")
    return backend.session(MemoryRows(x), task, Alone(), Silent(), lambda line: None)


@contextmanager
def opened(
    x: Tensor, n_clusters: int, backend: Backend, first: Tensor | None = None, **options: Any
) -> Iterator[Session]:
    """A session over rows that were read, as the estimator opens it. first: known before the rows are read."""
    with session_of(x, n_clusters, backend, **options) as session:
        session.read(first if session.labels_while_reading else None)
        yield session


def fit(
    x: Tensor,
    centroids: Tensor,
    backend: Backend,
    epochs: int,
    *,
    first: Tensor | None = None,
    foreseen: bool = True,
    sample_weight: Any = None,
    batch_size: int | None = None,
    **options: Any,
) -> FitResult:
    """As the estimator fits rows. first: the centroids that are foreseen, if they are others; foreseen: or none."""
    first = (centroids if first is None else first) if foreseen else None
    given = {"sample_weight": sample_weight, "batch_size": batch_size}
    settings = FitOptions(n_clusters=len(centroids), epochs=epochs, **options)
    with opened(x, len(centroids), backend, first, **given) as session:
        return lloyd.fit(session, centroids, settings, Silent())


@dataclass
class Screening:
    """The screen of one backend over rows that are inspected, to be run alone or with what refines its labels."""

    batch: Batch
    resident: ResidentRows
    columns: QuantizedCentroids
    labels: Tensor

    def screen(self) -> None:
        self.resident.certify(self.batch, self.columns, self.labels)

    def assign(self) -> None:
        self.resident.assign(self.batch, self.columns, self.labels)

    def listed(self) -> dict[str, list[int]]:
        """Of the last screen: rows with many candidates and rows with two; of its cascade, too, if there is one."""
        (n, d), copy = self.batch.rows.shape, self.resident.copy
        lists = {"refined": self.resident.workspace.refining(n).uncertified}
        if self.columns.codes is not None and copy is not None:
            lists["cascade"] = self.resident.workspace.cascade(n, d, copy.tile).uncertified
        return {name: listed.counts.tolist()[:2] for name, listed in lists.items()}


@contextmanager
def screening(x: Tensor, centroids: Tensor, screen: str = "auto", integers: bool = False) -> Iterator[Screening]:
    """One batch of all rows, with the copies that a fit keeps of it."""
    device = torch.device(DEVICE, torch.cuda.current_device()) if ON_GPU else torch.device(DEVICE)
    screens = Screens(device, screen if ON_GPU else "portable")
    backend = gpu(screens, integers)
    with opened(x, len(centroids), backend, batch_size=len(x)) as session:
        (batch,) = session.rows.batches()
        resident = ResidentRows(backend.state, screens, integers)
        resident.begin(session.rows, len(centroids))
        if integers:
            resident.make_codes(session.rows, len(centroids))
        labels = torch.empty(len(x), dtype=torch.int32, device=DEVICE)
        yield Screening(batch, resident, resident.columns(centroids, integers), labels)


@contextmanager
def estimator_with(backend: Backend) -> Iterator[None]:
    """Within, `KMeans` computes with this backend."""
    before = opening.choose_backend
    opening.choose_backend = lambda *_: backend
    try:
        yield
    finally:
        opening.choose_backend = before


def digest(result: FitResult) -> str:
    parts = (result.labels.cpu(), result.centroids.cpu(), result.counts.cpu())
    bits = b"".join(part.numpy().tobytes() for part in parts)
    return hashlib.sha256(bits + repr(result.history.similarities).encode()).hexdigest()[:12]


def cases() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    """Rows, first centroids and options of the fits whose bits must agree on every backend."""
    if not ON_GPU:
        return small_cases()
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


def small_cases() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    """A few of the kind for Triton's interpreter."""
    x = unit_rows(40, 12, 1)
    return {
        "duplicates": (torch.cat([x[:6]] * 6), x[:7].clone(), {}),
        "weights": ((x * 37.5 + 0.5).half(), x[:5].clone(), {"sample_weight": np.linspace(0.5, 1.5, 40)}),
    }


def synchronize() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def burst(
    functions: dict[str, Callable[[], Any]], launches: int = 10, rounds: int = 5, idle: float = 0.15
) -> dict[str, float]:
    """Median milliseconds of each function: after idling, a burst of launches, in interleaved rounds."""
    if not ON_GPU:
        return {name: wall(function, 1, 0.0) for name, function in functions.items()}
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
        synchronize()
        time.sleep(idle)
        started = time.perf_counter()
        function()
        synchronize()
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

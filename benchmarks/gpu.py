"""Checks and times the GPU backend in one go: python benchmarks/gpu.py check screens fit profile ...

Everything is compared with the float64 reference first; times are medians of bursts after idling, because a
Hopper at these rates is limited by power (docs/gpu.md says how to read them). Appends to benchmarks/results/.
"""

from __future__ import annotations

import cProfile
import hashlib
import json
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from cosmeans import KMeans, lloyd, sphere
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

RESULTS = Path(__file__).parent / "results"
DEMO = Path(__file__).parents[1] / "src" / "cosmeans" / "demo_data" / "rows.npy"


def unit_rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, device="cuda", generator=generator)).to(dtype)


def fit(x: Tensor, centroids: Tensor, backend: Backend, epochs: int, **options: Any) -> FitResult:
    weights = options.pop("sample_weight", None)
    rows = MemoryRows(x, squared_norms=backend.squared_norms, sample_weight=weights)
    settings = FitOptions(n_clusters=len(centroids), epochs=epochs, **options)
    return lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())


def digest(result: FitResult) -> str:
    parts = (result.labels.cpu(), result.centroids.cpu(), result.counts.cpu())
    bits = b"".join(part.numpy().tobytes() for part in parts)
    return hashlib.sha256(bits + repr(result.history.similarities).encode()).hexdigest()[:12]


# ---------------------------------------------------------------- checks


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
    }


def check() -> bool:
    """Every case on every backend; GPU fits twice, so that the second is played back from its first epoch on."""
    good = True
    for name, (x, centroids, options) in cases().items():
        kinds = {"portable": "portable", "hopper": "hopper", "portable again": "portable", "hopper again": "hopper"}
        backends = {"reference": ReferenceBackend("cuda"), **{n: GpuBackend(screen=k) for n, k in kinds.items()}}
        found = {}
        for label, backend in backends.items():
            result = fit(x, centroids, backend, 6, **dict(options))
            recorded = getattr(backend, "_recording", None) is not None
            found[label] = digest(result), sum(i.settled for i in result.history), result.stop_reason.value, recorded
        same = len({value[0] for value in found.values()}) == 1
        same &= all(value[3] for label, value in found.items() if label != "reference")
        good &= same
        print(f"{'same' if same else 'DIFFERENT':10} {name:16} {found}", flush=True)
    return good


def proofs(n: int = 1_000_000, d: int = 768, k: int = 1000) -> None:
    """The rows that the screen lists, and how many of them with two candidates, epoch by epoch."""
    x = unit_rows(n, d)
    backend = GpuBackend()
    rows = MemoryRows(x, squared_norms=backend.squared_norms)
    backend.begin(rows)
    (batch,) = rows.batches()
    for result in (fit(x, x[:k].clone(), GpuBackend(), epochs) for epochs in (1, 2, 5, 10)):
        backend.screen(batch, backend.prepare(result.centroids))
        crowded, pairs = backend._settle_space(n).doubtful.counts.tolist()
        record("proofs", n=n, d=d, k=k, epochs=len(result.history), again=crowded, pairs=pairs)


# ----------------------------------------------------------------- times


def burst(functions: dict[str, Callable[[], Any]], launches: int = 10, rounds: int = 5) -> dict[str, float]:
    """Median milliseconds of each function: after idling, a burst of launches, in interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    torch.cuda.synchronize()
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(0.15)
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(launches):
                function()
            end.record()
            torch.cuda.synchronize()
            times[name].append(begin.elapsed_time(end) / launches)
    return {name: statistics.median(values) for name, values in times.items()}


def wall(function: Callable[[], Any], rounds: int = 7) -> float:
    """Median wall milliseconds of one call after idling."""
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        time.sleep(0.15)
        started = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def record(kind: str, **values: Any) -> None:
    line = {"kind": kind, "device": torch.cuda.get_device_name(), "torch": torch.__version__, **values}
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "gpu.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def screens(shapes: tuple[tuple[int, int, int], ...] = ((1_000_000, 768, 1000),)) -> None:
    """The screens alone, against cuBLAS with N x K written out."""
    for n, d, k in shapes:
        x, c = unit_rows(n, d), unit_rows(k, d, 1)
        runs: dict[str, Callable[[], Any]] = {}
        for kind in ("hopper", "portable"):
            backend = GpuBackend(screen=kind)
            rows = MemoryRows(x, squared_norms=backend.squared_norms)
            backend.begin(rows)
            (batch,) = rows.batches()
            prepared = backend.prepare(c)
            runs[kind] = lambda b=backend, p=prepared, t=batch: b.screen(t, p)
        half, half_c = x.half(), c.half()
        out = torch.empty(n, k, dtype=torch.float16, device="cuda")
        runs["cublas"] = lambda a=half, b=half_c.T, o=out: torch.mm(a, b, out=o)
        times = burst(runs)
        rates = {f"{name} TFLOP/s": 2 * n * d * k / ms / 1e9 for name, ms in times.items()}
        record("screen", n=n, d=d, k=k, **times, **rates)


def whole(n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10) -> None:
    """Whole fits from given first centroids, rows on the GPU."""
    for dtype in (torch.float32, torch.float16):
        x = unit_rows(n, d, dtype=dtype)
        c = sphere.normalise(x[:k].clone())

        def run(x: Tensor = x, c: Tensor = c) -> FitResult:
            return fit(x, c, GpuBackend(), epochs)

        started = time.perf_counter()
        result = run()
        first = time.perf_counter() - started
        shares = [(i.changed, i.settled) for i in result.history]
        record("fit", n=n, d=d, k=k, epochs=epochs, dtype=str(dtype), ms=wall(run), first_s=first, rows=shares)


PEER_SHAPES = (
    *((100_000, 128, 256), (100_000, 384, 1000), (1_000_000, 128, 256), (1_000_000, 128, 1000)),
    *((1_000_000, 384, 256), (1_000_000, 384, 1000), (1_000_000, 128, 4096), (1_000_000, 384, 4096)),
    *((4_000_000, 128, 1000), (100_000, 128, 16384), (100_000, 384, 16384)),
    (1_000_000, 768, 1000),
)


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


def peers(epochs: int = 10) -> None:
    """Whole fits of ten epochs beside flash-kmeans and a PyTorch loop, and eleven bare products by cuBLAS."""
    for n, d, k in PEER_SHAPES:
        x = unit_rows(n, d)
        for dtype in (torch.float16, torch.float32):
            rows = x.to(dtype)
            c = sphere.normalise(rows[:k].clone())
            times = {name: wall(run, 5) for name, run in rivals(rows, c, epochs).items()}
            times["cublas_eleven"] = 11 * bare_product(rows.half(), c.half())
            if "flash" in times:  # it runs out of shared memory at some shapes
                times["ratio"] = times["flash"] / times["ours"]
            record("peers", n=n, d=d, k=k, dtype=str(dtype), epochs=epochs, **times)


def rivals(rows: Tensor, c: Tensor, epochs: int) -> dict[str, Callable[[], Any]]:
    """Whole fits from the same first centroids, each run once to be warm."""
    from flash_kmeans import batch_kmeans_Cosine

    first = c[None].to(rows.dtype)
    runs = {
        "ours": lambda: fit(rows, c, GpuBackend(), epochs),
        "flash": lambda: batch_kmeans_Cosine(rows[None], len(c), epochs, tol=0.0, init_centroids=first),
        "loop": lambda: torch_loop(rows, first[0], epochs),
    }
    for name, run in list(runs.items()):
        try:
            run()
        except OutOfResources as error:
            print(f"{name} fails: {error}", flush=True)
            del runs[name]
    return runs


def bare_product(rows: Tensor, c: Tensor) -> float:
    """Milliseconds of cuBLAS for all scores, written out in pieces that fit."""
    piece = rows[: (1 << 30) // len(c)]
    out = torch.empty(len(piece), len(c), dtype=torch.float16, device="cuda")
    return burst({"": lambda: torch.mm(piece, c.T, out=out)})[""] * len(rows) / len(piece)


def estimator() -> None:
    """KMeans itself: the same bits on both devices from host rows, and the time of many small fits."""
    rows = unit_rows(20_000, 96).cpu().numpy()
    found = {}
    for device in ("cpu", "cuda"):
        kmeans = KMeans(64, None, 8, random_state=0, verbose=0, device=device).fit(rows)
        parts = (kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, kmeans.predict(rows[:99] + 0.01))
        parts += (kmeans.transform(rows[:500]), np.array(kmeans.score(rows)))
        found[device] = [hashlib.sha256(part.tobytes()).hexdigest()[:10] for part in parts]
    print("same" if found["cpu"] == found["cuda"] else "DIFFERENT", "KMeans", found, flush=True)
    x = unit_rows(32_000, 128)
    c = x[:256].clone()
    inspecting = wall(lambda: MemoryRows(x, squared_norms=GpuBackend().squared_norms))
    ms = wall(lambda: fit(x, c, GpuBackend(), 10), 15)
    longer = wall(lambda: fit(x, c, GpuBackend(), 20), 15)
    record("small fit", n=32_000, d=128, k=256, epochs=10, ms=ms, twenty_epochs=longer, inspecting=inspecting)
    x = unit_rows(1_000_000, 768)
    for init in ("random", x[:1000].clone()):
        kmeans = KMeans(1000, None, 10, init=init, random_state=0, verbose=0, warm_start=False)
        record("KMeans.fit", n=1_000_000, d=768, k=1000, init=str(init)[:6], ms=wall(lambda k=kmeans: k.fit(x), 3))


def first() -> None:
    """Seconds from importing torch to labels on the host, in this process: run it alone."""
    started = time.perf_counter()
    x = unit_rows(1_000_000, 768)
    torch.cuda.synchronize()
    made = time.perf_counter()
    KMeans(1000, None, 10, init=x[:1000], verbose=0).fit(x).labels_.cpu()
    record("first fit", n=1_000_000, d=768, k=1000, seconds=time.perf_counter() - made, rows_s=made - started)


def host() -> None:
    """Where Python's time around small fits and around `KMeans.fit` goes."""
    small, large = unit_rows(32_000, 128), unit_rows(1_000_000, 768)
    kmeans = KMeans(1000, None, 10, random_state=0, verbose=0, warm_start=False)
    runs = {"small": lambda: fit(small, small[:256], GpuBackend(), 10), "KMeans.fit": lambda: kmeans.fit(large)}
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
        for order in ("cumulative", "tottime"):
            pstats.Stats(profiler).sort_stats(order).print_stats(32)


def profile(n: int = 1_000_000, d: int = 768, k: int = 1000) -> None:
    """Where the time of a fit goes, kernel by kernel."""
    x = unit_rows(n, d)
    c = x[:k].clone()
    fit(x, c, GpuBackend(), 10)
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        fit(x, c, GpuBackend(), 10)
        torch.cuda.synchronize()
    kernels = [event for event in found.key_averages() if event.device_time_total > 0 and event.device_type.value == 1]
    for event in sorted(kernels, key=lambda e: -e.device_time_total)[:40]:
        print(f"{event.device_time_total / 1e3:9.3f} ms {event.count:5} x  {event.key[:90]}", flush=True)


def main() -> None:
    wanted = sys.argv[1:] or ["check", "screens", "fit", "profile"]
    actions = {
        "check": check,
        "screens": screens,
        "fit": whole,
        "profile": profile,
        "peers": peers,
        "estimator": estimator,
        "proofs": proofs,
        "first": first,
        "host": host,
    }
    for name in wanted:
        started = time.perf_counter()
        actions[name]()
        print(f"-- {name}: {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()

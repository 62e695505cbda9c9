"""Fits on the GPU against the float64 reference, bit by bit: python benchmarks/gpu_checks.py check estimator ...

Prints "ALL THE SAME" or what differs; nothing is recorded.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans import KMeans, lloyd, sphere
from cosmeans.backends.gpu import passes, record
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.desk import clear_desks
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.kernels import accumulate
from cosmeans.backends.gpu.kernels.columns import MOST_FEATURES
from cosmeans.backends.gpu.memory import MemoryPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend
from cosmeans.data import ClusterSums
from cosmeans.progress import Silent
from cosmeans.rows import memory
from cosmeans.rows.memory import MemoryRows
from gpu_common import cases, digest, fit, run_actions, unit_rows

TESTS = Path(__file__).parents[1] / "tests"


def check(epochs: int = 5) -> bool:
    """Every case on every way through the GPU; "again" is played back on the memory that the fit before left."""
    good, memory.LEAST_BATCH_BYTES["cuda"] = True, 0
    for name, (x, centroids, options) in cases().items():
        expected = digest(fit(x, centroids, ReferenceBackend("cuda"), epochs, **dict(options)))
        found = {way: run(x, centroids, epochs, dict(options)) for way, run in WAYS.items()}
        wrong = {way: bits for way, bits in found.items() if bits not in (expected, None)}
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} {name:16} {expected} {wrong or ''}", flush=True)
    good &= golden()
    print("ALL THE SAME" if good else "SOMETHING DIFFERS", flush=True)
    return good


def golden() -> bool:
    """The golden answers (tests/golden_cases.py), from rows on the GPU and from rows on the host."""
    sys.path.insert(0, str(TESTS))
    golden_cases = importlib.import_module("golden_cases")
    good, expected = True, golden_cases.expected()
    for kind, name, case in ((k, name, case) for k in expected for name, case in getattr(golden_cases, k)().items()):
        ways: dict[str, Callable[[Any], Any]] = {
            "device": lambda rows: torch.as_tensor(rows).cuda(),
            "host": lambda x: x,
        }
        found = {way: golden_cases.answer(case, to, device="cuda").to_json() for way, to in ways.items()}
        wrong = [way for way, answer in found.items() if answer != expected[kind][name]]
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} golden, {kind}: {name} {wrong or ''}", flush=True)
    return good


def _way(
    screen: str,
    *,
    recorded: bool = False,
    integers: bool = False,
    parts: int = 0,
    batch_size: int | None = None,
) -> Callable[..., str | None]:
    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str | None:
        if integers and x.shape[1] > MOST_FEATURES:
            return None
        backend, planned = GpuBackend(screen=screen, integers=integers), passes.plan_memory
        if parts:
            clear_desks()  # they have room for all rows
            passes.plan_memory = lambda n, *_: MemoryPlan(False, min(n, parts), 0)
        try:
            bits = digest(fit(x, centroids, backend, epochs, batch_size=batch_size, **options))
        finally:
            passes.plan_memory = planned
        if recorded and not backend._desk.recording:
            return "not recorded"
        del backend
        gc.collect()  # its memory waits for the next fit of this kind
        return bits

    return run


def _in_many_groups(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str | None:
    """Events of rows that change are sorted a thousand rows at a time."""
    before = accumulate._SPAN
    accumulate._SPAN = 1024
    try:
        return _way("hopper", batch_size=len(x) - 1)(x, centroids, epochs, options)  # at no desk that others left
    finally:
        accumulate._SPAN = before


def _inspected_at_once(screen: str, *, recorded: bool, short: bool = False) -> Callable[..., str | None]:
    """Lengths and copy in one pass, and no desk: as fits go that are too large for one.

    short: recorded before the first epoch runs, if its kernels are loaded
    """

    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str | None:
        before = record.most_waiting, record._SHORT, record._LONG
        record.most_waiting, record._SHORT, record._LONG = (lambda _: 0), float(short), float(recorded)
        try:
            backend = HostRowsBackend(screen=screen)
            bits = digest(fit(x, centroids, backend, epochs, **options))
        finally:
            record.most_waiting, record._SHORT, record._LONG = before
        if backend._resident is not backend._arrived.copy or bool(backend._desk.recording) is not recorded:
            return "another way"
        return bits

    return run


WAYS = {
    "portable": _way("portable", recorded=True),
    "portable again": _way("portable", recorded=True),
    "hopper": _way("hopper", recorded=True),
    "hopper again": _way("hopper", recorded=True),
    "portable, 8 bits": _way("portable", integers=True),
    "hopper, 8 bits": _way("hopper", integers=True),
    "hopper, 8 bits again": _way("hopper", integers=True, recorded=True),
    "hopper, inspected at once": _inspected_at_once("hopper", recorded=False),
    "hopper, inspected at once, recorded": _inspected_at_once("hopper", recorded=True),
    "hopper, recorded at once": _inspected_at_once("hopper", recorded=True, short=True),
    "portable, inspected at once": _inspected_at_once("portable", recorded=False),
    "hopper, parts": _way("hopper", parts=999),
    "hopper, 8 bits, parts": _way("hopper", integers=True, parts=999),
    "hopper, batches": _way("hopper", batch_size=999),
    "hopper, many groups": _in_many_groups,
    "portable, batches": _way("portable", batch_size=1001),
}


def estimator() -> None:
    """KMeans itself gives the same bits on both devices from rows of the host."""
    rows = unit_rows(20_000, 96).cpu().numpy()
    found = {}
    for device in ("cpu", "cuda"):
        kmeans = KMeans(64, None, 8, random_state=0, verbose=0, device=device).fit(rows)
        parts = (kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, kmeans.predict(rows[:99] + 0.01))
        parts += (kmeans.transform(rows[:500]), np.array(kmeans.score(rows)))
        found[device] = [hashlib.sha256(np.asarray(part).tobytes()).hexdigest()[:10] for part in parts]
    print("same" if found["cpu"] == found["cuda"] else "DIFFERENT", "KMeans", found, flush=True)


def threads(turns: int = 8) -> None:
    """Fits in several threads at once, some that are recorded, some that are started kernel by kernel meanwhile."""
    jobs = [unit_rows(n, 256, seed) for seed, n in enumerate((200_000, 200_001, 20_000, 20_001))]
    once = lambda x, backend: digest(fit(x, x[:300].clone(), backend, 6))  # noqa: E731
    expected = [once(x, ReferenceBackend("cuda")) for x in jobs]

    def run(x: Tensor) -> set[str]:
        with torch.cuda.stream(torch.cuda.Stream()):
            return {once(x, HostRowsBackend()) for _ in range(turns)}

    torch.cuda.synchronize()
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(run, jobs))
    same = found == [{bits} for bits in expected]
    print("same" if same else "DIFFERENT", f"{len(jobs)} threads", expected, found, flush=True)


def large(n: int = 4_000_000, d: int = 768, k: int = 1000) -> None:
    """More than 2^31 entries: labels of the first and last rows, all labels of both screens, and the sums."""
    x = torch.empty(n, d, dtype=torch.float16, device="cuda")
    for start in range(0, n, 500_000):
        x[start : start + 500_000] = unit_rows(min(500_000, n - start), d, start, torch.float16)
    result = fit(x, sphere.normalise(x[-k:].float()), GpuBackend(), 2)
    screens = (GpuBackend(screen="portable"), GpuBackend(screen="hopper"))
    labels = [_labels(x, result.centroids, backend) for backend in screens]
    same = {"screens": torch.equal(*labels), "fit": torch.equal(result.labels, labels[0])}
    for name, span in {"first": slice(0, 2000), "last": slice(n - 2000, n)}.items():
        same[name] = torch.equal(_labels(x[span], result.centroids, ReferenceBackend("cuda")), labels[0][span])
    expected, found = (ClusterSums.zeros(k, d, 39, "cuda") for _ in range(2))
    nothing = torch.full((n,), -1, dtype=torch.int32, device="cuda")
    for start in range(0, n, 100_000):
        span = slice(start, start + 100_000)
        (batch,) = MemoryRows(x[span], squared_norms=screens[0].squared_norms).batches()
        ReferenceBackend("cuda").accumulate(batch, nothing[span].clone(), labels[0][span], expected)
    (batch,) = MemoryRows(x, squared_norms=screens[0].squared_norms).batches()
    screens[1].accumulate(batch, nothing, labels[0], found)
    same["sums"] = torch.equal(expected.direction, found.direction) and torch.equal(expected.count, found.count)
    print("same" if all(same.values()) else "DIFFERENT", f"{n:,} x {d}", same, flush=True)


def _labels(x: Tensor, centroids: Tensor, backend: Backend) -> Tensor:
    rows = MemoryRows(x, squared_norms=backend.squared_norms)
    return lloyd.predict(rows, centroids, backend, Silent())


ACTIONS = {"check": check, "estimator": estimator, "threads": threads, "large": large}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__, default=["check"])

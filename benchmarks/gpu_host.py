"""Rows that come from the host: python benchmarks/gpu_host.py check cupy ways overlap memory uploads.

`check` and `cupy` compare with the float64 reference, bit by bit. Records are appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from cosmeans import KMeans, lloyd
from cosmeans.backends.gpu import ferry as gpu_ferry
from cosmeans.backends.gpu import host as gpu_host
from cosmeans.backends.gpu import receiving as gpu_receiving
from cosmeans.backends.gpu import record as gpu_record
from cosmeans.backends.gpu.ahead import Ahead
from cosmeans.backends.gpu.ferry import Ferry
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.memory import MemoryPlan, plan_far
from cosmeans.backends.gpu.receiving import ReceivingBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Assignment, Batch, Coming
from cosmeans.group import Alone
from cosmeans.inputs import read_rows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows import memory as rows_memory
from cosmeans.rows.memory import MemoryRows
from gpu_common import cases, digest, fit, record, run_actions, unit_rows, wall


def opened(x: Tensor, coming: Coming, backend: HostRowsBackend, **options: Any) -> MemoryRows:
    """Rows of the host as the estimator opens them."""
    received = backend.receive(x, coming, say=print, progress=lambda *_: None)
    return MemoryRows(
        received.rows,
        squared_norms=backend.squared_norms,
        lengths=backend.lengths,
        device=backend.device,
        batch_limit=received.batch_limit,
        **options,
    )


def fit_from_host(x: Tensor, centroids: Tensor, backend: HostRowsBackend, epochs: int, **options: Any) -> FitResult:
    weights = options.pop("sample_weight", None)
    coming = Coming(len(centroids), True, weights is not None, options.pop("first", lambda: None))
    rows = opened(x, coming, backend, sample_weight=weights)
    settings = FitOptions(n_clusters=len(centroids), epochs=epochs, **options)
    return lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())


PLANS = {
    "there": MemoryPlan(True, 1 << 20, 0),
    "copy": MemoryPlan(True, 2048, 0, 192),
    "sent": MemoryPlan(False, 1024, 0, 1024),
}


@contextmanager
def forced(plan: MemoryPlan, **small: int) -> Iterator[None]:
    """Within, every source goes this way, in pieces of these sizes."""
    places: list[tuple[Any, str, Any]] = [(rows_memory.LEAST_BATCH_BYTES, "cuda", 0)] if small else []
    places += [(vars(gpu_receiving), "plan_received", lambda *_, keep=True: plan)]
    places += [(vars(gpu_host), "plan_far", lambda *_, keep=True: plan)]
    places += [(vars(gpu_host), "rows_fetched", lambda *_: plan.fetched)]
    modules = [vars(module) for module in (gpu_receiving, gpu_ferry, gpu_record)]
    places += [(module, name, small[name]) for module in modules for name in small if name in module]
    before = [(where, name, where.get(name)) for where, name, _ in places]
    for where, name, value in places:
        where[name] = value
    try:
        yield
    finally:
        for where, name, value in before:
            where[name] = value


@contextmanager
def answers_ahead() -> Iterator[list[int]]:
    """Within, the rows of each batch whose labels were found while rows arrived."""
    answered: list[int] = []
    assignment = Ahead.assignment

    def noting(ahead: Ahead, batch: Batch) -> Assignment:
        answered.append(len(batch))
        return assignment(ahead, batch)

    Ahead.assignment = noting  # type: ignore[method-assign]
    try:
        yield answered
    finally:
        Ahead.assignment = assignment  # type: ignore[method-assign]


def _by_plan(plan: MemoryPlan) -> Callable[..., str]:
    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str:
        backend = HostRowsBackend()
        with forced(plan, _PIECE=1 << 16, _SPAN=1 << 17, _SMALL=0):
            bits = digest(fit_from_host(x, centroids, backend, epochs, **options))
        went = backend._memory
        ran = went is not None and (went.resident, went.fetched) == (plan.resident, plan.fetched)
        return bits if ran else "not run"

    return run


def _foreseen(screen: str, *, right: bool = True) -> Callable[..., str]:
    """First centroids are foreseen, or with one other bit."""

    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str:
        first = centroids.clone()
        if not right:
            first.view(torch.int32)[0, 0] ^= 1
        # no epoch is recorded before the first one runs
        small = {"_PIECE": 1 << 16, "_SPAN": 1 << 17, "_SMALL": 0, "_SHORT": 0}
        with forced(PLANS["there"], **small), answers_ahead() as answered:
            backend = HostRowsBackend(screen=screen)
            bits = digest(fit_from_host(x, centroids, backend, epochs, first=lambda: first, **options))
        return bits if answered == ([len(x)] if right else []) else "not run"

    return run


WAYS: dict[str, Callable[..., str]] = {
    **{way: _by_plan(plan) for way, plan in PLANS.items()},
    "foreseen": _foreseen("auto"),
    "foreseen, portable": _foreseen("portable"),
    "others foreseen": _foreseen("auto", right=False),
}


def check(epochs: int = 4) -> bool:
    """Every case; those of one or two widths by each plan. Small pieces, so that many are on their way at once."""
    good = True
    for name, (x, centroids, options) in cases().items():
        expected = digest(fit(x, centroids, ReferenceBackend("cuda"), epochs, **dict(options)))
        ways = [way for way in WAYS if way not in PLANS or x.shape[1] in (200, 384)]
        found = {way: WAYS[way](x.cpu(), centroids, epochs, dict(options)) for way in ways}
        wrong = {way: bits for way, bits in found.items() if bits != expected}
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} {name:16} {expected} {wrong or ''}", flush=True)
    print("ALL THE SAME" if good else "SOMETHING DIFFERS", flush=True)
    return good


def cupy() -> None:
    """CuPy's rows, weights and centroids are taken where they lie."""
    import cupy as cp

    x = unit_rows(20_000, 96)
    theirs, weights = cp.from_dlpack(x), cp.linspace(0.1, 3.0, 20_000)
    taken = read_rows(theirs)[0]
    kmeans = KMeans(64, init=theirs[:64], epochs=5, verbose=0).fit(theirs, sample_weight=weights)
    expected = KMeans(64, init=x[:64], epochs=5, verbose=0).fit(x, sample_weight=weights.get())
    same = {
        "memory": taken.data_ptr() == theirs.data.ptr,
        "labels": torch.equal(kmeans.labels_, expected.labels_),
        "predict": torch.equal(kmeans.predict(theirs), kmeans.labels_),
        "device": kmeans.labels_.device == x.device,
    }
    print("same" if all(same.values()) else "DIFFERENT", "CuPy", same, flush=True)


def memory(n: int = 1_000_000, d: int = 768, k: int = 1000) -> None:
    """Planned bytes against the measured peak where rows stay on the host, with their fp16 copy there or without."""
    x = unit_rows(n, d).cpu()
    first = x[:k].cuda()
    for resident in (True, False):
        gc.collect()
        torch.cuda.empty_cache()
        room = plan_far(n, d, k, 4 * d, 1 << 60, "", keep=resident).n_bytes
        backend = HostRowsBackend()
        backend._room = lambda *_, room=room: room  # type: ignore[method-assign]
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        rows = opened(x, Coming(k, True), backend)
        options = FitOptions(n_clusters=k, epochs=3, empty_clusters="keep")
        result = lloyd.fit(rows, first, options, backend, Alone(), Silent())
        scores = lloyd.own_scores(rows, result.centroids, result.labels, backend)
        torch.cuda.synchronize()
        plan, peak = backend._memory, torch.cuda.max_memory_allocated() - before
        facts = {"planned": plan.n_bytes, "resident": plan.resident, "part": plan.part, "fetched": plan.fetched}
        record("memory of host rows", n=n, d=d, k=k, enough=peak <= plan.n_bytes, peak=peak, **facts)
        del backend, rows, result, scores


def ways(n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10) -> None:
    """KMeans.fit of rows of the host by each way, beside the same fit of rows on the GPU."""
    near = unit_rows(n, d)
    x, times = near.cpu(), {}
    for way in ("near", "there", "copy", "sent"):
        rows = near if way == "near" else x
        kmeans = KMeans(k, None, epochs, init=rows[:k].clone(), verbose=0, warm_start=False, device="cuda")
        stays = way in ("copy", "sent")
        with forced(plan_far(n, d, k, 4 * d, 1 << 60, "", keep=way == "copy")) if stays else nullcontext():
            kmeans.fit(rows)
            times[way] = wall(lambda kmeans=kmeans, rows=rows: kmeans.fit(rows), 5, 0.05)
        if stays:
            epochs_ms = [1e3 * cost.seconds for cost in kmeans.costs_]
            record("host epochs", way=kmeans.costs_[-1].strategy, ms=epochs_ms)
    record("rows on the host", n=n, d=d, k=k, epochs=epochs, gigabytes=n * d * 4 / 1e9, **times)


@contextmanager
def apart() -> Iterator[None]:
    """Within, no row is labelled before all have arrived."""
    foresee = ReceivingBackend._foresee
    ReceivingBackend._foresee = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        ReceivingBackend._foresee = foresee  # type: ignore[method-assign]


def overlap(n: int = 1_000_000, d: int = 768, epochs: int = 10, rounds: int = 5) -> None:
    """KMeans.fit of rows of the host, with the first pass while they arrive and behind them, in turn."""
    x = unit_rows(n, d).cpu()
    for k, start in ((1000, "array"), (1000, "random"), (4096, "array"), (4096, "random")):
        init = x[:k].clone() if start == "array" else start
        kmeans = KMeans(k, None, epochs, init=init, random_state=0, verbose=0, warm_start=False, device="cuda")
        times: dict[str, list[float]] = {"overlapped": [], "apart": []}
        facts: dict[str, Any] = {}
        labels = []
        for i in range(rounds + 1):
            for way, ms in times.items():
                with apart() if way == "apart" else nullcontext(), answers_ahead() as answered:
                    took = wall(lambda kmeans=kmeans: kmeans.fit(x), 1, 0.05)
                ms += [took] if i else []  # the first one loads kernels
                facts |= {f"{way} first epoch": 1e3 * kmeans.costs_[0].seconds}
                facts |= {f"{way} ahead": sum(answered)}
                labels.append(kmeans.labels_)
        facts["same"] = all(torch.equal(labels[0], other) for other in labels)
        medians = {way: statistics.median(ms) for way, ms in times.items()}
        record("overlap", n=n, d=d, k=k, epochs=epochs, start=start, **medians, **facts, rounds=times)


def uploads(n: int = 1_000_000, d: int = 768) -> None:
    """Rows of the host on their way: through pinned pieces, with .to(), and .to() from pinned memory."""
    rows, device = unit_rows(n, d).cpu(), torch.device("cuda")
    ferry = Ferry(device)

    def upload(rows: Tensor) -> Tensor:
        there = ferry.make(n, d, dtype=rows.dtype)
        ferry.send(rows, there)
        return there

    times = {"upload": wall(lambda: upload(rows), 5), "to": wall(lambda: rows.to(device), 5)}
    index = torch.randint(0, n, (n // 10,))
    some = ferry.make(len(index), d, dtype=rows.dtype)
    times["gathered_tenth"] = wall(lambda: ferry.send(rows, some, index), 5)
    kmeans = KMeans(1000, None, 10, init=rows[:1000].clone(), verbose=0, warm_start=False, device="cuda")
    kmeans.fit(rows)
    times["fit_from_host"] = wall(lambda: kmeans.fit(rows), 3)
    same = torch.equal(upload(rows).cpu(), rows)
    rows = rows.pin_memory()
    times["to_pinned"] = wall(lambda: rows.to(device), 5)
    record("upload", n=n, d=d, same=same, gigabytes=n * d * 4 / 1e9, **times)


ACTIONS = {"check": check, "cupy": cupy, "ways": ways, "overlap": overlap, "memory": memory, "uploads": uploads}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__)

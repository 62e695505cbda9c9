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

from cosmeans import KMeans, lloyd, scoring
from cosmeans._estimator.inputs import read_rows
from cosmeans.backends.gpu.rows.ingest import PrefetchedLabels
from cosmeans.backends.gpu.rows.placed import FETCHED, SENT
from cosmeans.backends.gpu.rows.plans import plan_incoming, plan_streamed
from cosmeans.backends.gpu.rows.upload import Upload
from cosmeans.backends.gpu.session import GpuSession
from cosmeans.backends.gpu.tuning import ANY, ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.inspection import rows as inspected
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from gpu_common import (
    DEVICE,
    ON_GPU,
    cases,
    digest,
    estimator_with,
    fit,
    gpu,
    host_rows,
    opened,
    record,
    run_actions,
    synchronize,
    unit_rows,
    wall,
)

PLANS = {
    "there": ResidencyPlan(copied=True, chunk=1 << 20),
    "copy": ResidencyPlan(copied=True, chunk=2048, fetched=192),
    "sent": ResidencyPlan(copied=False, chunk=1024, fetched=1024),
}
STRATEGIES = {"there": "", "copy": FETCHED, "sent": SENT}  # what a fit by each plan says of its epochs
# small pieces, so that many are on their way at once
PIECES = {"upload_piece": 1 << 16, "upload_span": 1 << 17, "small_upload": 0}


@contextmanager
def used_labels() -> Iterator[list[bool]]:
    """Within, whether labels that were found while rows were read were those of a first epoch, for each fit."""
    used: list[bool] = []
    are_under = PrefetchedLabels.are_under

    def noted(self: PrefetchedLabels, centroids: Tensor) -> Callable[[], bool]:
        read = are_under(self, centroids)

        def confirmed() -> bool:
            used.append(read())
            return used[-1]

        return confirmed

    PrefetchedLabels.are_under = noted  # type: ignore[method-assign]
    try:
        yield used
    finally:
        PrefetchedLabels.are_under = are_under  # type: ignore[method-assign]


def _by_plan(way: str) -> Callable[..., str]:
    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str:
        result = fit(x, centroids, gpu(plan=PLANS[way], **PIECES), epochs, foreseen=False, **options)
        taken = all(cost.strategy == STRATEGIES[way] for cost in result.costs)
        return digest(result) if taken else "not run"

    return run


def _foreseen(screen: str, *, right: bool = True) -> Callable[..., str]:
    """First centroids are foreseen, or with one other bit."""

    def run(x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str:
        first = centroids.clone()
        if not right:
            first.view(torch.int32)[0, 0] ^= 1
        # no epoch is captured before the first one runs
        backend = gpu(screen, plan=PLANS["there"], short=0.0, **PIECES)
        with used_labels() as used:
            bits = digest(fit(x, centroids, backend, epochs, first=first, **options))
        return bits if used == [right] else "not run"

    return run


WAYS: dict[str, Callable[..., str]] = {
    **{way: _by_plan(way) for way in PLANS},
    "foreseen": _foreseen("auto"),
    "foreseen, portable": _foreseen("portable"),
    "others foreseen": _foreseen("auto", right=False),
}


def check(epochs: int = 4 if ON_GPU else 2) -> bool:
    """Every case; those of one or two widths by each plan."""
    good, inspected.LEAST_BATCH_BYTES[DEVICE] = True, 0
    for name, (x, centroids, options) in cases().items():
        expected = digest(fit(x, centroids, ReferenceBackend(DEVICE), epochs, **options))
        ways = [way for way in WAYS if way not in PLANS or x.shape[1] in (200, 384) or not ON_GPU]
        found = {way: WAYS[way](host_rows(x), centroids, epochs, options) for way in ways}
        wrong = {way: bits for way, bits in found.items() if bits != expected}
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} {name:16} {expected} {wrong or ''}", flush=True)
    print("ALL THE SAME" if good else "SOMETHING DIFFERS", flush=True)
    return good


def cupy() -> None:
    """CuPy's rows, weights and centroids are taken where they are."""
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
    x = host_rows(unit_rows(n, d))
    first = x[:k].to(DEVICE)
    for copied in (True, False):
        gc.collect()
        torch.cuda.empty_cache()
        room = plan_streamed(n, d, k, 4 * d, ANY, "", keep=copied).n_bytes
        backend = gpu(room=lambda device, enough, room=room: room)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with opened(x, k, backend) as session:
            options = FitOptions(n_clusters=k, epochs=3, empty_clusters="keep")
            result = lloyd.fit(session, first, options, Silent())
            scores = scoring.own_scores(session, result.centroids, result.labels)
            synchronize()
            peak = torch.cuda.max_memory_allocated() - before
        plan = plan_incoming(x.shape, 4 * d, k, room, "")
        taken = result.costs[-1].strategy == (FETCHED if copied else SENT)
        facts = {"planned": plan.n_bytes, "resident": plan.copied, "part": plan.chunk, "fetched": plan.fetched}
        record("memory of host rows", n=n, d=d, k=k, enough=taken and peak <= plan.n_bytes, peak=peak, **facts)
        del backend, session, result, scores


def ways(n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10) -> None:
    """KMeans.fit of rows of the host by each way, compared with the same fit of rows on the GPU."""
    near = unit_rows(n, d)
    x, times = near.cpu(), {}
    for way in ("near", "there", "copy", "sent"):
        rows = near if way == "near" else x
        kmeans = KMeans(k, None, epochs, init=rows[:k].clone(), verbose=0, warm_start=False, device="cuda")
        stays = way in ("copy", "sent")
        plan = plan_streamed(n, d, k, 4 * d, ANY, "", keep=way == "copy")
        with estimator_with(gpu(plan=plan)) if stays else nullcontext():
            kmeans.fit(rows)
            times[way] = wall(lambda kmeans=kmeans, rows=rows: kmeans.fit(rows), 5, 0.05)
        if stays:
            epochs_ms = [1e3 * cost.seconds for cost in kmeans.costs_]
            record("host epochs", way=kmeans.costs_[-1].strategy, ms=epochs_ms)
    record("rows on the host", n=n, d=d, k=k, epochs=epochs, gigabytes=n * d * 4 / 1e9, **times)


@contextmanager
def apart() -> Iterator[None]:
    """Within, no row is labelled before all have arrived."""
    offered = GpuSession.labels_while_reading
    GpuSession.labels_while_reading = property(lambda session: False)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        GpuSession.labels_while_reading = offered  # type: ignore[method-assign]


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
                with apart() if way == "apart" else nullcontext(), used_labels() as used:
                    took = wall(lambda kmeans=kmeans: kmeans.fit(x), 1, 0.05)
                ms += [took] if i else []  # the first one loads kernels
                facts |= {f"{way} first epoch": 1e3 * kmeans.costs_[0].seconds}
                facts |= {f"{way} ahead": n * sum(used)}
                labels.append(kmeans.labels_)
        facts["same"] = all(torch.equal(labels[0], other) for other in labels)
        medians = {way: statistics.median(ms) for way, ms in times.items()}
        record("overlap", n=n, d=d, k=k, epochs=epochs, start=start, **medians, **facts, rounds=times)


def uploads(n: int = 1_000_000, d: int = 768) -> None:
    """Rows of the host on their way: through pinned pieces, with .to(), and .to() from pinned memory."""
    rows, device = unit_rows(n, d).cpu(), torch.device("cuda")
    upload = Upload(device)

    def uploaded(rows: Tensor) -> Tensor:
        there = upload.make(n, d, dtype=rows.dtype)
        upload.send(rows, there)
        return there

    times = {"upload": wall(lambda: uploaded(rows), 5), "to": wall(lambda: rows.to(device), 5)}
    index = torch.randint(0, n, (n // 10,))
    some = upload.make(len(index), d, dtype=rows.dtype)
    times["gathered_tenth"] = wall(lambda: upload.send(rows, some, index), 5)
    kmeans = KMeans(1000, None, 10, init=rows[:1000].clone(), verbose=0, warm_start=False, device="cuda")
    kmeans.fit(rows)
    times["fit_from_host"] = wall(lambda: kmeans.fit(rows), 3)
    same = torch.equal(uploaded(rows).cpu(), rows)
    rows = rows.pin_memory()
    times["to_pinned"] = wall(lambda: rows.to(device), 5)
    record("upload", n=n, d=d, same=same, gigabytes=n * d * 4 / 1e9, **times)


ACTIONS = {"check": check, "cupy": cupy, "ways": ways, "overlap": overlap, "memory": memory, "uploads": uploads}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__)

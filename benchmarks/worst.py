"""Rows that no screen can decide, compared with random rows of the same shape and with a dense canonical kernel.

    python benchmarks/worst.py [--device cuda] [--rows 20000] [--features 384] [--clusters 1000] [--epochs 3]
                               [--rounds 5] [--dry]

All cases take turns in one process, so that other work on the machine affects all of them alike; seconds are the least
of the rounds, after one round that compiles. On a GPU, rows are there before anything is timed. The dense kernel
computes all N K canonical scores on the processor and takes the first of the largest, with the same compiled loops as
the backend, in all threads, and without a screen before it. `settled` is how many rows of a fit got canonical scores.
Prints a table and appends a record for each case to benchmarks/results/worst.jsonl.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cases import WORST, Rows, normal
from common import keep, parser_of
from cosmeans import KMeans
from cosmeans.backends.cpu.kernels import canonical
from cosmeans.backends.cpu.kernels.canonical import TOGETHER
from cosmeans.backends.cpu.kernels.compiling import JIT, njit
from cosmeans.backends.cpu.threads import spread


@njit(**JIT)
def dense_labels(rows, centroids, labels, start, stop):  # type: ignore[no-untyped-def]
    """First of the largest canonical scores of every row, with centroids as `canonical.ordered` gives them."""
    q, size = canonical.stride_of(rows.shape[1]), centroids.shape[1]
    wide, room = canonical.room_for(TOGETHER, size), canonical.room_for(TOGETHER, q)
    score, best = np.empty(TOGETHER), np.empty(TOGETHER)
    for first in range(start, stop, TOGETHER):
        for r in range(TOGETHER):
            canonical.widen(rows[min(first + r, stop - 1)], q, wide, r, TOGETHER)
            best[r] = -np.inf
        for j in range(centroids.shape[0]):
            canonical.score_some(wide, centroids[j], q, size // q, room, score)
            for r in range(min(TOGETHER, stop - first)):
                if score[r] > best[r]:
                    best[r], labels[first + r] = score[r], j


def dense(rows: Rows, first: Rows) -> Callable[[], Any]:
    """What computes all canonical scores."""
    rows, first = (torch.nn.functional.normalize(torch.from_numpy(part), dim=1).numpy() for part in (rows, first))
    labels = np.empty(len(rows), np.int32)
    return lambda: spread(dense_labels, rows, canonical.ordered(first), labels, size=len(rows))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for name, default in (("rows", 20_000), ("features", 384), ("clusters", 1000), ("epochs", 3), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    n, d, k, on_gpu = options.rows, options.features, options.clusters, options.device == "cuda"
    finish = torch.cuda.synchronize if on_gpu else lambda: None
    works: dict[tuple[str, str], Callable[[], Any]] = {}
    fits = {}
    for name, make in WORST.items():
        rows, first = (torch.from_numpy(np.ascontiguousarray(part)).to(options.device) for part in make(n, d, k))
        fit = KMeans(k, epochs=options.epochs, init=first, verbose=0, device=options.device, warm_start=False)
        model = KMeans(k, verbose=0, device=options.device)
        model.centers = first
        fits[name], works[name, "fit"] = fit, lambda fit=fit, rows=rows: fit.fit(rows)  # type: ignore[misc]
        works[name, "predict"] = lambda model=model, rows=rows: model.predict(rows)  # type: ignore[misc]
    if not on_gpu:
        works["", "dense"] = dense(normal(n, d, 0), normal(n, d, 0)[:k])
    seconds = dict.fromkeys(works, np.inf)
    for i in range(options.rounds + 1):
        for key, work in works.items():
            finish()
            started = time.perf_counter()
            work()
            finish()
            if i > 0:
                seconds[key] = min(seconds[key], time.perf_counter() - started)
    for name in WORST:
        record: dict[str, Any] = {"case": name, "rows": n, "features": d, "clusters": k, "epochs": options.epochs}
        record |= {f"{what} s": round(seconds[name, what], 5) for what in ("predict", "fit")}
        record |= {f"{w} / random": round(seconds[name, w] / seconds["random", w], 2) for w in ("predict", "fit")}
        if not on_gpu:
            least = seconds["", "dense"]
            record |= {"dense s": round(least, 5), "predict / dense": round(seconds[name, "predict"] / least, 2)}
        record["settled"] = sum(cost.settled for cost in fits[name].costs_ or ())
        print("  ".join(f"{key} {value}" for key, value in record.items()), flush=True)
        keep("worst", record, options, on_gpu)


if __name__ == "__main__":
    main()

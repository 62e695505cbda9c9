"""Rows that no screen can decide, beside random rows of the same shape and a dense canonical kernel.

    python benchmarks/worst.py [--rows 20000] [--features 384] [--clusters 1000] [--epochs 3] [--rounds 3] [--dry]

Every case in one process, turn by turn, so that the machine's mood hits all alike; seconds are the least of the rounds.
The dense kernel computes all N K canonical scores and takes the first of the largest, with the same compiled loops as
the backend, in all threads, and without any screen before it. Prints a table and appends a record for each case to
benchmarks/results/worst.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cosmeans import KMeans
from cosmeans.backends.cpu import canonical
from cosmeans.backends.cpu.canonical import TOGETHER
from cosmeans.backends.cpu.compiling import JIT, njit
from cosmeans.backends.cpu.threads import spread
from cpu import processor

RESULTS = Path(__file__).parent / "results" / "worst.jsonl"


class Case(NamedTuple):
    """Rows (N, D) and first centroids (K, D), float32."""

    rows: np.ndarray
    first: np.ndarray


def normal(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def random(n: int, d: int, k: int) -> Case:
    rows = normal(n, d, 0)
    return Case(rows, rows[:k])


def near(noise: float) -> Callable[[int, int, int], Case]:
    """One direction, and noise: gaps between scores are of the size of noise^2."""

    def case(n: int, d: int, k: int) -> Case:
        rows = noise * normal(n, d, 0)
        rows[:, 0] += 1.0
        return Case(rows, rows[:k])

    return case


def orthogonal(n: int, d: int, k: int) -> Case:
    """Every score is zero."""
    rows, first = normal(n, d, 0), normal(k, d, 1)
    rows[:, d // 2 :], first[:, : d // 2] = 0.0, 0.0
    return Case(rows, first)


def few_directions(n: int, d: int, k: int) -> Case:
    """Eight tight groups of rows."""
    rows = normal(8, d, 0)[np.random.default_rng(1).integers(0, 8, n)] + 1e-5 * normal(n, d, 2)
    return Case(rows, rows[:k])


def distinct(n: int, d: int, k: int) -> Case:
    """Exactly K different rows."""
    rows = normal(k, d, 0)
    return Case(rows[np.arange(n) % k], rows)


CASES: dict[str, Callable[[int, int, int], Case]] = {
    "random": random,
    "e0 + 1e-8 noise": near(1e-8),
    "e0 + 1e-6 noise": near(1e-6),
    "e0 + 1e-4 noise": near(1e-4),
    "orthogonal": orthogonal,
    "few directions": few_directions,
    "K distinct rows": distinct,
}


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


def dense_seconds(case: Case) -> float:
    """The time of all canonical scores."""
    rows, first = (torch.nn.functional.normalize(torch.from_numpy(part), dim=1).numpy() for part in case)
    labels = np.empty(len(rows), np.int32)
    return timed(lambda: spread(dense_labels, rows, canonical.ordered(first), labels, size=len(rows)))


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def arguments(doc: str | None, rounds: int) -> argparse.Namespace:
    """The command line: the shape, how often, and whether anything is recorded."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    return parser.parse_args()


def keep(record: dict[str, Any], dry: bool) -> None:
    """Append a record to the results, unless the run is dry."""
    if not dry:
        with RESULTS.open("a") as out:
            out.write(json.dumps(record) + "\n")


def main() -> None:
    options = arguments(__doc__, rounds=3)
    n, d, k = options.rows, options.features, options.clusters
    cases = {name: make(n, d, k) for name, make in CASES.items()}
    models = {name: KMeans(k, verbose=0, backend="cpu") for name in cases}
    for name, case in cases.items():
        models[name].centers = case.first
    KMeans(64, epochs=3, verbose=0, backend="cpu").fit(cases["random"].rows[:4096])  # compile, start threads
    seconds: dict[str, list[float]] = {name: [np.inf, np.inf] for name in cases}
    dense = np.inf
    for _ in range(options.rounds):
        for name, case in cases.items():
            fit = KMeans(k, epochs=options.epochs, init=case.first, verbose=0, backend="cpu", warm_start=False)
            took = timed(partial(models[name].predict, case.rows)), timed(partial(fit.fit, case.rows))
            seconds[name] = [min(pair) for pair in zip(seconds[name], took, strict=True)]
        dense = min(dense, dense_seconds(cases["random"]))
    print(f"dense canonical kernel: {dense:.3f} s")
    for name, (predict, fit) in seconds.items():
        ratios = [round(predict / seconds["random"][0], 2), round(fit / seconds["random"][1], 2)]
        record = {"case": name, "rows": n, "features": d, "clusters": k, "epochs": options.epochs}
        record |= {"predict s": round(predict, 3), "fit s": round(fit, 3), "dense s": round(dense, 3)}
        record |= {
            "predict / random": ratios[0],
            "fit / random": ratios[1],
            "predict / dense": round(predict / dense, 2),
        }
        record |= {"threads": torch.get_num_threads(), "processor": processor()}
        record["when"] = datetime.now(UTC).isoformat(timespec="seconds")
        print(
            f"{name:16s} predict {predict:.3f} s ({ratios[0]} x random, {record['predict / dense']} x dense), "
            f"fit {fit:.3f} s ({ratios[1]} x random)"
        )
        keep(record, options.dry)


if __name__ == "__main__":
    main()

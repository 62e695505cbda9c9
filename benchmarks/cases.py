"""The table of cases that speed is judged by, and the rows that they need.

A case uses only `KMeans`, so that it runs on every version of the package.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from common import DEMO

Rows = np.ndarray
Pair = tuple[Rows, Rows]
"""Rows (N, D) and first centroids (K, D), float32."""


class Case(NamedTuple):
    """One line of the table."""

    name: str
    data: str  # a key of DATA
    rows: int
    features: int
    clusters: int
    epochs: int = 10
    call: str = "fit"  # fit, predict, or first: importing the package and the first fit of a process
    device: str = "cpu"
    dtype: str = "float32"
    on_host: bool = False  # rows of a case on the GPU start in the memory of the host
    cold: bool = False  # nothing was compiled before


def normal(n: int, d: int, seed: int) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def random(n: int, d: int, k: int) -> Pair:
    rows = normal(n, d, 0)
    return rows, rows[:k]


def demo(n: int, d: int, k: int) -> Pair:
    """Real embeddings of texts: points between a demo row and one of its 8 nearest others, if more rows are wanted."""
    sample = np.load(DEMO).astype(np.float32)
    assert d == sample.shape[1], f"the demo has {sample.shape[1]} features"
    if n > len(sample):
        rng = np.random.default_rng(0)
        nearest = np.argpartition(-(sample @ sample.T), 9, axis=1)[:, :9]
        own, step = rng.integers(0, len(sample), n), 0.5 * rng.random((n, 1), dtype=np.float32)
        sample = sample[own] + step * (sample[nearest[own, rng.integers(0, 9, n)]] - sample[own])
    rows = sample[:n]
    return rows, rows[np.sort(np.random.default_rng(1).choice(n, k, replace=False))]


def noisy(noise: float) -> Callable[[int, int, int], Pair]:
    """One direction, and noise: gaps between scores are of the size of noise^2."""

    def make(n: int, d: int, k: int) -> Pair:
        rows = noise * normal(n, d, 0)
        rows[:, 0] += 1.0
        return rows, rows[:k]

    return make


def orthogonal(n: int, d: int, k: int) -> Pair:
    """Every score is zero."""
    rows, first = normal(n, d, 0), normal(k, d, 1)
    rows[:, d // 2 :], first[:, : d // 2] = 0.0, 0.0
    return rows, first


def few_directions(n: int, d: int, k: int) -> Pair:
    """Eight tight groups of rows."""
    rows = normal(8, d, 0)[np.random.default_rng(1).integers(0, 8, n)] + 1e-5 * normal(n, d, 2)
    return rows, rows[:k]


def distinct(n: int, d: int, k: int) -> Pair:
    """Exactly K different rows."""
    rows = normal(k, d, 0)
    return rows[np.arange(n) % k], rows


WORST = {  # rows that a screen can't decide, after those that it can
    "random": random,
    "e0 + 1e-8 noise": noisy(1e-8),
    "e0 + 1e-6 noise": noisy(1e-6),
    "e0 + 1e-4 noise": noisy(1e-4),
    "orthogonal": orthogonal,
    "few directions": few_directions,
    "K distinct rows": distinct,
}
DATA: dict[str, Callable[[int, int, int], Pair]] = {**WORST, "demo": demo}

CASES = {
    case.name: case
    for case in (
        Case("demo", "demo", 6000, 384, 100),
        Case("demo, grown", "demo", 60_000, 384, 1000, epochs=5),
        Case("random", "random", 100_000, 768, 1000, epochs=5),
        Case("small", "random", 2000, 64, 20),
        Case("tiny", "random", 200, 16, 4),
        *(Case(f"worst: {name}", name, 20_000, 384, 300, epochs=3) for name in WORST if name != "random"),
        Case("predict", "random", 100_000, 768, 1000, call="predict"),
        Case("predict, real", "demo", 60_000, 384, 1000, call="predict"),
        Case("predict, 10 rows", "random", 10, 384, 5, call="predict"),
        Case("first fit", "random", 20_000, 64, 100, call="first"),
        Case("first fit, cold", "random", 20_000, 64, 100, call="first", cold=True),
        Case("gpu: tutorial, float32", "random", 1_000_000, 768, 1000, device="cuda"),
        Case("gpu: tutorial, float16", "random", 1_000_000, 768, 1000, device="cuda", dtype="float16"),
        Case("gpu: real", "demo", 1_000_000, 384, 1000, device="cuda"),
        Case("gpu: medium", "random", 100_000, 768, 1000, device="cuda"),
        Case("gpu: small", "random", 32_000, 128, 256, device="cuda"),
        Case("gpu: tiny", "random", 2000, 64, 20, device="cuda"),
        Case("gpu: rows on the host", "random", 1_000_000, 768, 1000, device="cuda", on_host=True),
        Case("gpu: small, rows on the host", "random", 32_000, 128, 256, device="cuda", on_host=True),
        *(Case(f"gpu worst: {name}", name, 20_000, 384, 1000, 3, device="cuda") for name in WORST if name != "random"),
        Case("gpu: predict", "random", 1_000_000, 768, 1000, call="predict", device="cuda"),
        Case("gpu: first fit", "random", 1_000_000, 768, 1000, call="first", device="cuda"),
        Case("gpu: first fit, cold", "random", 1_000_000, 768, 1000, call="first", device="cuda", cold=True),
    )
}


def prepare(case: Case) -> Callable[[], Any]:
    """Make the rows. Returns what is measured: it ends when its answer, a fitted model or labels, is complete."""
    rows, first = (torch.from_numpy(np.ascontiguousarray(part)) for part in DATA[case.data](*case[2:5]))
    rows, wait = rows.to(getattr(torch, case.dtype)), lambda: None
    if case.device == "cuda":
        rows, wait = (rows if case.on_host else rows.cuda()), torch.cuda.synchronize
        wait()

    def model() -> Any:
        kind = importlib.import_module("cosmeans").KMeans
        options = {"epochs": case.epochs, "init": first.to(rows.device), "empty_clusters": "keep", "warm_start": False}
        return kind(case.clusters, None, device=case.device, verbose=0, **options)

    fitted = model() if case.call == "predict" else None
    if fitted is not None:
        fitted.centers = first.to(rows.device)

    def run() -> Any:
        answer = model().fit(rows) if fitted is None else fitted.predict(rows)
        wait()
        return answer

    return run


def digest(answer: Any) -> str:
    """A hash of the bits of an answer."""
    parts = (answer,) if isinstance(answer, torch.Tensor | np.ndarray) else (answer.labels_, answer.cluster_centers_)
    return hashlib.sha256(b"".join(torch.as_tensor(part).cpu().numpy().tobytes() for part in parts)).hexdigest()[:12]

"""Whole fits on the processor beside other libraries and beside the machine's own limit.

    python benchmarks/cpu.py [--wordnet EMBEDDINGS.npy] [--case NAME ...] [--peer NAME ...] [--rounds 3] [--threads 2]
                             [--avx2]

Everything in one process, round by round, one after another: the machine's mood hits all alike. Seconds are the least
of the rounds (all are recorded): what else a machine does only adds. The limit is the
fastest float32 matrix product of torch and NumPy, timed in every round at the shape of the case, counted on 2 N K D
for each assignment; ours makes one more than there are epochs. Mean similarities are computed again in float64 from
the centroids that came back. With --avx2, every library that can be told so leaves newer instructions alone, as on a
processor that has none. Prints a table and appends records to benchmarks/results/cpu.jsonl.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common import keep, parser_of
from peers import PEERS, installed, mean_similarity, versions

CASES = {  # rows, clusters, epochs
    "random 100,000 x 768, K = 1000": ("random", 1000, 10),
    "WordNet 117,659 x 384, K = 1000": ("wordnet", 1000, 25),
    "WordNet 117,659 x 384, K = 5000": ("wordnet", 5000, 10),
    "WordNet 117,659 x 384, K = 256": ("wordnet", 256, 25),
}
AVX2 = {  # what tells oneDNN, MKL, torch, OpenBLAS, numba and FAISS to use no newer instructions
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
    "FAISS_OPT_LEVEL": "AVX2",
}


def rows_of(kind: str, wordnet: Path | None) -> np.ndarray | None:
    if kind == "random":
        rows = np.random.default_rng(0).standard_normal((100_000, 768), dtype=np.float32)
    elif wordnet is None:
        return None
    else:
        rows = np.load(wordnet).astype(np.float32)
    return torch.nn.functional.normalize(torch.from_numpy(rows), dim=1).numpy()


def gemm_seconds(rows: np.ndarray, first: np.ndarray) -> float:
    """The least time of one assignment's product, of torch and NumPy, in tiles that stay in the cache."""
    tile = rows[:4096]
    out = np.empty((len(tile), len(first)), np.float32)
    x, c, scores = torch.from_numpy(tile), torch.from_numpy(first), torch.from_numpy(out)
    ways = (lambda: np.matmul(tile, first.T, out=out), lambda: torch.mm(x, c.T, out=scores))
    return min(_best_of(way, 20) for way in ways) * len(rows) / len(tile)


def other_rates(rows: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """Billions of operations a second of torch's products in bfloat16 and in 8-bit integers, same tiles."""
    x, c = torch.from_numpy(rows[:4096]), torch.from_numpy(first)
    narrow, codes = (x.bfloat16(), c.bfloat16()), ((127 * x).to(torch.int8), (127 * c).to(torch.int8))
    operations = 2e-9 * len(x) * len(c) * x.shape[1]
    return {
        "bfloat16": operations / _best_of(lambda: torch.mm(narrow[0], narrow[1].T), 20),
        "int8": operations / _best_of(lambda: torch._int_mm(codes[0], codes[1].T), 20),
    }


def _best_of(way: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        way()
        best = min(best, time.perf_counter() - started)
    return best


def measure(rows: np.ndarray, clusters: int, epochs: int, peers: list[str], rounds: int) -> dict:
    chosen = np.random.default_rng(1).choice(len(rows), clusters, replace=False)
    first = rows[np.sort(chosen)]
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    limits, similarity = [], {}
    for name in peers:  # compile, start threads
        PEERS[name](rows[:4096], rows[: min(64, clusters)], 2)
    for turn in range(rounds):
        limits.append(gemm_seconds(rows, first))
        for name in peers if turn % 2 == 0 else reversed(peers):
            started = time.perf_counter()
            centroids = PEERS[name](rows, first, epochs)
            seconds[name].append(time.perf_counter() - started)
            similarity.setdefault(name, mean_similarity(rows, centroids))
            print(f"  {name}: {seconds[name][-1]:.2f} s", flush=True)
    limits.append(gemm_seconds(rows, first))
    return {
        "seconds": {name: min(values) for name, values in seconds.items()},
        "all": seconds,
        "mean_similarity": similarity,
        "gemm_seconds": min(limits),
        "gemm_gflops": 2e-9 * len(rows) * clusters * rows.shape[1] / min(limits),
        "other_rates": other_rates(rows, first),
        "limit": (epochs + 1) * min(limits),
    }


def table(title: str, record: dict) -> str:
    ours = record["seconds"].get("cosmeans")
    lines = [f"\n{title}", f"  {'':20} {'seconds':>8} {'/ ours':>7} {'of limit':>8}  mean similarity"]
    for name, seconds in record["seconds"].items():
        ratio = f"{seconds / ours:7.2f}" if ours else f"{'':7}"
        share = record["limit"] / seconds
        lines.append(f"  {name:20} {seconds:8.2f} {ratio} {share:8.2f}  {record['mean_similarity'][name]:.5f}")
    lines.append(f"  {'limit (sgemm)':20} {record['limit']:8.2f}          {record['gemm_gflops']:6.0f} GFLOP/s")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--wordnet", type=Path, help="embeddings of WordNet's glosses, (117659, 384) .npy")
    parser.add_argument("--case", nargs="*", default=list(CASES), help="part of a case's name")
    parser.add_argument("--peer", nargs="*", default=installed(), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--avx2", action="store_true", help="no newer instructions than AVX2")
    options = parser.parse_args()
    if options.avx2 and any(os.environ.get(name) != value for name, value in AVX2.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | AVX2)  # they are read at import
    torch.set_num_threads(options.threads)
    for title, (kind, clusters, epochs) in CASES.items():
        if not any(part in title for part in options.case):
            continue
        rows = rows_of(kind, options.wordnet)
        if rows is None:
            print(f"{title}: left out, --wordnet names no file")
            continue
        record = measure(rows, clusters, epochs, options.peer, options.rounds)
        print(table(title, record), flush=True)
        facts = {"case": title, "epochs": epochs}
        names = ("torch", "numpy", "numba", "faiss-cpu", "scikit-learn", "superkmeans", "fastkmeans")
        facts["instructions"] = "up to AVX2" if options.avx2 else "all"
        facts["versions"] = versions(*names)
        keep("cpu", facts | record, options)


if __name__ == "__main__":
    main()

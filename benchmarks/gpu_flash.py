"""Whole fits beside flash-kmeans: python benchmarks/gpu_flash.py [--results FILE] [N,D,K,DTYPE ...]

flash-kmeans tunes itself for two minutes at each shape and type with D of 768 and above, so each cell runs in a process
of its own, on whichever GPU of the machine is free; ours runs beside it, on the same GPU. Without cells: all of
`gpu.CELLS` in both types. Records are appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

import gpu
from cosmeans.backends.gpu.host import HostRowsBackend
from gpu_checks import fit, unit_rows

EPOCHS = 10
CELLS = [f"{n},{d},{k},{dtype}" for n, d, k in gpu.CELLS for dtype in ("float16", "float32")]


def flash_fit(rows: Tensor, first: Tensor, epochs: int) -> object:
    """What flash-kmeans finds. rows (N, D) and first centroids (K, D), of one type."""
    from flash_kmeans import batch_kmeans_Cosine

    return batch_kmeans_Cosine(rows[None], len(first), epochs, tol=0.0, init_centroids=first[None])


def measure(cell: str) -> None:
    """One cell, from the same first centroids: medians of whole fits after idling, and the first call of theirs."""
    *sizes, name = cell.split(",")
    n, d, k = map(int, sizes)
    rows = unit_rows(n, d, dtype=getattr(torch, name))
    first = rows[:k].clone()
    centroids = first.float()
    theirs = lambda: flash_fit(rows, first, EPOCHS)  # noqa: E731
    ours = lambda: fit(rows, centroids, HostRowsBackend(), EPOCHS, empty_clusters="keep")  # noqa: E731
    started = time.perf_counter()
    try:
        theirs()
    except OutOfResources as error:
        print(f"flash-kmeans fails at {cell}: {error}", flush=True)
        return
    tuning = time.perf_counter() - started
    ours(), ours()
    both = {"ours": gpu.wall(ours, 5), "flash": gpu.wall(theirs, 5)}
    gpu.record("flash", n=n, d=d, k=k, dtype=str(rows.dtype), epochs=EPOCHS, flash_first_s=tuning, **both)


def share_out(cells: Iterable[str], n_devices: int, results: Path) -> None:
    """Each cell in a process that sees one GPU, as many at once as there are GPUs."""
    free: SimpleQueue[int] = SimpleQueue()
    for device in range(n_devices):
        free.put(device)

    def run(cell: str) -> None:
        device = free.get()
        seen = {**os.environ, "CUDA_VISIBLE_DEVICES": str(device)}
        ended = subprocess.run([sys.executable, __file__, "--here", "--results", results, cell], env=seen, check=False)
        free.put(device)
        if ended.returncode:
            print(f"{cell}: failed with {ended.returncode}", flush=True)

    with ThreadPoolExecutor(n_devices) as pool:
        list(pool.map(run, cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="N,D,K,DTYPE")
    parser.add_argument("--results", type=Path, default=gpu.RESULTS)
    parser.add_argument("--here", action="store_true", help="in this process")
    chosen = parser.parse_args()
    if not chosen.here:
        share_out(chosen.cells, torch.cuda.device_count(), chosen.results)
        return
    gpu.RESULTS = chosen.results
    for cell in chosen.cells:
        measure(cell)


if __name__ == "__main__":
    main()

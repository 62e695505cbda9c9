"""Rows of files on their way to a GPU: python benchmarks/gpu_files.py fits rates [--n N --folder DIR].

`fits`: the epochs of a fit of a file in the page cache, the first one compared with the rate at which pinned memory is
sent: all rows on the GPU, their float16 copy, or neither. `rates`: what fills pinned memory from a file, and how fast.
Records are appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpu_common
from cosmeans import KMeans
from cosmeans.progress import Silent, set_observer
from gpu_common import DEVICE, ON_GPU, record, run_actions, synchronize, unit_rows, wall

D, K, EPOCHS = 768, 1000, 4
PIECE = 32 << 20


class Clock(Silent):
    """When a fit began, and when each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [time.perf_counter()]

    def iteration(self, iteration: Any, cost: Any) -> None:
        self.ends.append(time.perf_counter())


def _written(n: int) -> Path:
    """A .npy file of n unit rows in float16, read once since it was written."""
    options = gpu_common.OPTIONS
    folder = Path(getattr(options, "folder", "") or tempfile.gettempdir())
    path = folder / f"cosmeans-{n}.npy"
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, D))
        step = 1 << 18
        for start in range(0, n, step):
            made = unit_rows(min(step, n - start), D, start, torch.float16)
            rows[start : start + len(made)] = made.cpu().numpy()
        rows.flush()
        del rows
    return path


def _n() -> int:
    return int(getattr(gpu_common.OPTIONS, "n", 10_000_000)) if ON_GPU else 5_000


def _sent_per_second() -> float:
    """Bytes a second of pinned pieces, one after another, in a long burst."""
    pinned = torch.empty(8 * PIECE, dtype=torch.uint8, pin_memory=ON_GPU)
    there = torch.empty_like(pinned, device=DEVICE)
    return 16 * pinned.nbytes / (wall(lambda: [there.copy_(pinned, non_blocking=True) for _ in range(16)], 5) / 1e3)


def fits(rounds: int = 3) -> None:
    """First and later epochs of a fit: rows of a file and of memory, all on the GPU and with a quarter of the room."""
    n = _n()
    path, n_bytes = _written(n), n * D * 2
    x = torch.from_numpy(np.load(path))
    first = x[:K].clone()
    # a quarter holds no copy of the rows in float16, four thirds hold that and not the rows besides
    limits: dict[str, dict[str, Any]] = {"resident": {}}
    limits |= {"copy": {"device_memory_limit": n_bytes * 4 // 3}, "quarter": {"device_memory_limit": n_bytes // 4}}
    ways: dict[str, Callable[[], list[float]]] = {}
    hashes: dict[str, str] = {}
    for room, options in limits.items():
        for where, rows in {"file": path, "memory": x}.items():

            def run(rows: Any = rows, options: Any = options, name: str = f"{where}, {room}") -> list[float]:
                kmeans = KMeans(K, None, EPOCHS, init=first, verbose=0, warm_start=False, device=DEVICE, **options)
                clock = Clock()
                set_observer(kmeans, clock)
                kmeans.fit(rows)
                clock.ends.append(time.perf_counter())
                hashes[name] = hashlib.sha256(np.asarray(kmeans.cluster_centers_).tobytes()).hexdigest()
                return np.diff(clock.ends).tolist()

            ways[f"{where}, {room}"] = run
    took: dict[str, list[list[float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            synchronize()
            spent = run()
            if number:  # the first round compiles
                took[name].append(spent)
    rate = _sent_per_second()
    same = len(set(hashes.values())) == 1
    for name, rows in took.items():
        first_epoch, *later, labels = (statistics.median(times) for times in zip(*rows, strict=True))
        values = {"first": first_epoch, "later": statistics.median(later), "labels": labels}
        share = n_bytes / first_epoch / rate
        record("files", n=n, d=D, k=K, rows=name, same=same, share=share, GB_s=rate / 1e9, **values, rounds=rows)


def rates(rounds: int = 3) -> None:
    """What fills pinned pieces from a file in the page cache: the mapped file, told to map ahead or not, and reads."""
    path = _written(_n())
    n_bytes = path.stat().st_size - 128
    # two slots, as an upload has them: they stay in the processor's cache
    pinned = torch.empty(2, PIECE, dtype=torch.uint8, pin_memory=ON_GPU)
    n_pieces = n_bytes // PIECE

    def mapped() -> None:
        rows = torch.from_numpy(np.memmap(path, np.uint8, "c", 128, n_bytes))
        for piece in range(n_pieces):
            pinned[piece % 2].copy_(rows[piece * PIECE : (piece + 1) * PIECE])

    def reads(threads: int) -> Callable[[], None]:
        descriptor = os.open(path, os.O_RDONLY)
        views = [memoryview(slot.numpy()) for slot in pinned]
        pool = ThreadPoolExecutor(threads)
        share = PIECE // threads

        def one(piece: int, part: int) -> None:
            at = part * share
            os.preadv(descriptor, [views[piece % 2][at : at + share]], 128 + piece * PIECE + at)

        def run() -> None:
            for piece in range(n_pieces):
                list(pool.map(lambda part, piece=piece: one(piece, part), range(threads)))

        return run

    held = torch.from_numpy(np.load(path, mmap_mode=None)).flatten().view(torch.uint8)

    def memory() -> None:
        for piece in range(n_pieces):
            pinned[piece % 2].copy_(held[piece * PIECE : (piece + 1) * PIECE])

    ways = {
        "memory": memory,
        "mapped": mapped,
        **{f"read by {threads}": reads(threads) for threads in (1, 4, 8, 16)},
    }
    took = {name: n_bytes / (wall(way, rounds, 0.0) / 1e3) / 1e9 for name, way in ways.items()}
    record(
        "filling pinned pieces", n_bytes=n_bytes, threads=torch.get_num_threads(), sent=_sent_per_second() / 1e9, **took
    )


ACTIONS = {"fits": fits, "rates": rates}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__, n=10_000_000, folder="")

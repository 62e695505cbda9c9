"""The demo's rows: real texts that the package carries, or the tutorial's random unit vectors."""

from __future__ import annotations

import sys

import psutil
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cosmeans.console import say
from cosmeans.estimator import KMeans
from cosmeans.progress import watch

TUTORIAL_FEATURES = 768
SEED = 0
_CHUNK = 4096
_TELLING = 1 << 30  # bytes of rows; with fewer, most of the memory is the interpreter's and torch's own


def texts_kmeans() -> KMeans:
    return KMeans(60, random_state=SEED)


def tutorial_kmeans() -> KMeans:
    return KMeans(1000, None, 10, random_state=SEED)


def random_unit_rows(n_rows: int, quiet: bool) -> Tensor:
    """Random unit vectors (n_rows, 768) float32, built in place: no second copy ever exists."""
    rows = torch.empty((n_rows, TUTORIAL_FEATURES), dtype=torch.float32, device="cpu")
    generator = torch.Generator("cpu").manual_seed(SEED)
    with watch(n_rows, verbose=int(not quiet)) as observer:
        done = 0
        for chunk in rows.split(_CHUNK):
            observer.step("random rows", done, n_rows, "rows")
            chunk.normal_(generator=generator)
            normalize(chunk, out=chunk)
            done += len(chunk)
            observer.step("random rows", done, n_rows, "rows")
    return rows


def tell_speed_and_memory(kmeans: KMeans, rows: Tensor) -> None:
    """Rates over all epochs, and the largest memory this process had, compared with the bytes of the rows."""
    seconds = sum(cost.seconds for cost in kmeans.costs_)
    if seconds > 0:
        rate = len(rows) * len(kmeans.costs_) / seconds
        flops = rate * 2 * kmeans.n_clusters * rows.shape[1]
        say(f"{rate:,.0f} rows/s, {flops / 1e9:,.0f} GFLOP/s over {len(kmeans.costs_)} epochs ({seconds:.1f} s)")
    size, peak = rows.numel() * rows.element_size(), peak_bytes()
    relative = f": {peak / size - 1:+.0%}" if size >= _TELLING else ""
    say(f"peak memory {peak / 1e9:.2f} GB, the rows are {size / 1e9:.2f} GB{relative}")


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # bytes on macOS, KiB elsewhere
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

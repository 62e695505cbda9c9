"""The demo's rows: real texts that the package carries, or the tutorial's random unit vectors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cosmeans import demo_data
from cosmeans.atomic import new_folder
from cosmeans.console import say
from cosmeans.estimator import KMeans
from cosmeans.progress import watch

TUTORIAL_FEATURES = 768
SEED = 0
DATA = {"embeddings": "embeddings.npy", "texts": "texts.txt", "table": "entries.parquet"}
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


def write_data(folder: Path, force: bool) -> dict[str, str]:
    """Write the sample as files: rows alone, texts alone, and both in one table. Returns their paths by kind."""
    import pyarrow
    from pyarrow import parquet

    rows, texts = demo_data.sample()
    with new_folder(folder, force, owned=DATA.values(), keep_others=True) as new:
        np.save(new / DATA["embeddings"], rows)
        (new / DATA["texts"]).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        vectors = pyarrow.array(rows.astype(np.float32).ravel())
        columns = {
            "id": [f"entry-{number:04d}" for number in range(len(texts))],
            "text": texts,
            "embedding": pyarrow.FixedSizeListArray.from_arrays(vectors, rows.shape[1]),
        }
        parquet.write_table(pyarrow.table(columns), new / DATA["table"])
    return {kind: str(folder / name) for kind, name in DATA.items()}


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

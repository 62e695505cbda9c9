"""Peak memory of whole fits, each in a process of its own, against the size of its rows.

    python benchmarks/memory.py [--rows 1000000] [--epochs 3] [--case NAME ...]
    python benchmarks/memory.py --table [--rows 500000] [--features 256] [--clusters 64] [--call NAME ...]

The peak is the largest resident set of the process: Python, torch, rows and all. With --table, every call is measured
with rows of every kind, and with memory_limit=0: the anonymous memory it needs beside the rows, over what the process
had before (rows, libraries, compiled code), what it returns included; Linux only. Appends records to
benchmarks/results/memory.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import keep, parser_of

FEATURES, CLUSTERS = 768, 1000


def tutorial(rows: int, epochs: int, folder: Path) -> list[str]:
    """The tutorial's rows, made and clustered in memory: they and a quarter more at most."""
    return ["demo", "--tutorial", "--rows", str(rows), "--epochs", str(epochs), "--out", str(folder / "out")]


def file(rows: int, epochs: int, folder: Path) -> list[str]:
    """Rows mapped from a file: those that the system has read count, but it can drop them again."""
    path = folder / "rows.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, FEATURES))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 50_000):
        block = rng.standard_normal((min(50_000, rows - start), FEATURES), dtype=np.float32)
        out[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    del out
    return ["fit", str(path), "-k", str(CLUSTERS), "--epochs", str(epochs), "--out", str(folder / "out")]


CASES: dict[str, Callable[[int, int, Path], list[str]]] = {"tutorial": tutorial, "file": file}


def peak_of(arguments: list[str]) -> int:
    """Bytes of the largest resident set of one command."""
    process = subprocess.Popen([sys.executable, "-m", "cosmeans", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"cosmeans {' '.join(arguments)} failed with status {status}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


KINDS = {  # of rows: number and order
    "float32": ("<f4", "C"),
    "float32, Fortran order": ("<f4", "F"),
    "float64": ("<f8", "C"),
    "float16": ("<f2", "C"),
    "int8": ("i1", "C"),
    "float32, big-endian": (">f4", "C"),
}
CALLS = {  # of a model that is fitted (model) or not (new), on rows x
    "fit": "new('random').fit(x)",
    "fit, k-means++": "new('k-means++').fit(x)",
    "fit, nested": "new('nested').fit(x)",
    "fit, batch_size=N": "new('random').set_params(batch_size=len(x)).fit(x)",
    "predict": "model.predict(x)",
    "transform": "model.transform(x)",
    "score": "model.score(x)",
    "evaluate": "evaluate(model, x, sample_size=1000)",
    "top": "top(model, x)",
    "exemplars": "exemplars(model, x)",
    "outliers": "outliers(model, x)",
    "deduplicate": "deduplicate(model, x, 0.99)",
}
MEASURE = """
import sys, threading, time
import numpy as np
from cosmeans import KMeans
from cosmeans.analysis.dedup import deduplicate
from cosmeans.analysis.evaluation import evaluate
from cosmeans.analysis.queries import exemplars, outliers, top

call, kind, order = sys.argv[1:4]
n, d, k, epochs = map(int, sys.argv[4:])


def anonymous():
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def new(init):
    return KMeans(k, epochs=epochs, init=init, random_state=0, memory_limit=0, verbose=0, backend="cpu")


def rows(size):
    out, rng = np.empty((size, d), kind, order), np.random.default_rng(0)
    for start in range(0, size, 4096):
        block = rng.standard_normal((min(4096, size - start), d), dtype=np.float32)
        out[start : start + len(block)] = np.clip(40 * block, -127, 127)
    return out


x = rows(max(4 * k, 4096))
model = new("random").fit(x)
eval(call)  # compiles, starts threads
x = rows(n)
before, peak, done = anonymous(), [0], threading.Event()


def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)


watcher = threading.Thread(target=watch)
watcher.start()
result = eval(call)
done.set()
watcher.join()
print(x.nbytes, max(peak[0], anonymous()) - before)
"""


# glibc keeps arenas for threads and blocks of up to 32 MiB that were freed: it gives them back, so that peaks are what
# the calls hold, and the same from run to run
GIVEN_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}


def beside(call: str, kind: str, shape: tuple[int, int], clusters: int, epochs: int) -> tuple[int, int]:
    """Bytes of the rows, and the most anonymous memory that a call takes beside them, in a process of its own."""
    arguments = [CALLS[call], *KINDS[kind], *map(str, (*shape, clusters, epochs))]
    child = [sys.executable, "-c", MEASURE, *arguments]
    told = subprocess.run(child, check=True, capture_output=True, text=True, env=os.environ | GIVEN_BACK)
    size, most = map(int, told.stdout.split())
    return size, most


def table(options: argparse.Namespace) -> None:
    shape = (options.rows, options.features)
    for call in options.call:
        for kind in options.kind:
            size, most = beside(call, kind, shape, options.clusters, options.epochs)
            record = {"case": "beside", "call": call, "kind": kind, "rows": options.rows, "features": options.features}
            record |= {"clusters": options.clusters, "epochs": options.epochs, "row_bytes": size, "beside_bytes": most}
            record |= {"ratio": round(most / size, 3), "malloc": GIVEN_BACK}
            print(
                f"{call:18s} {kind:24s} rows {size >> 20:5d} MiB, beside {most >> 20:5d} MiB, {most / size:.2f}",
                flush=True,
            )
            keep("memory", record, options)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--table", action="store_true", help="every call with every kind of rows")
    parser.add_argument("--features", type=int, default=256, help="of the table")
    parser.add_argument("--clusters", type=int, default=64, help="of the table")
    parser.add_argument("--call", nargs="*", default=list(CALLS), choices=list(CALLS))
    parser.add_argument("--kind", nargs="*", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    if options.table:
        table(options)
        return
    for case in options.case:
        with tempfile.TemporaryDirectory() as folder:
            peak = peak_of(CASES[case](options.rows, options.epochs, Path(folder)))
            history = json.loads((Path(folder) / "out" / "history.json").read_text())
            kept = max(epoch["kept_bytes"] or 0 for epoch in history["costs"])
        size = options.rows * FEATURES * 4
        record = {"case": case, "rows": options.rows, "features": FEATURES, "clusters": CLUSTERS}
        record |= {"row_bytes": size, "peak_bytes": peak, "ratio": round(peak / size, 4), "kept_bytes": kept}
        record["epochs"] = options.epochs
        print(f"{case}: rows {size / 2**20:,.0f} MiB, peak {peak / 2**20:,.0f} MiB, {peak / size:.2f} of the rows")
        keep("memory", record, options)


if __name__ == "__main__":
    main()

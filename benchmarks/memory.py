"""Peak memory of whole fits, each in a process of its own, against the size of its rows.

    python benchmarks/memory.py [--rows 1000000] [--epochs 3] [--case NAME ...]

The peak is the largest resident set of the process: Python, torch, rows and all. Appends records to
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
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cpu import processor

RESULTS = Path(__file__).parent / "results" / "memory.jsonl"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    for case in options.case:
        with tempfile.TemporaryDirectory() as folder:
            peak = peak_of(CASES[case](options.rows, options.epochs, Path(folder)))
            history = json.loads((Path(folder) / "out" / "history.json").read_text())
            kept = max(epoch["kept_bytes"] or 0 for epoch in history["costs"])
        size = options.rows * FEATURES * 4
        record = {"case": case, "rows": options.rows, "features": FEATURES, "clusters": CLUSTERS}
        record |= {"row_bytes": size, "peak_bytes": peak, "ratio": round(peak / size, 4), "kept_bytes": kept}
        record |= {"epochs": options.epochs, "processor": processor()}
        record["when"] = datetime.now(UTC).isoformat(timespec="seconds")
        print(f"{case}: rows {size / 2**20:,.0f} MiB, peak {peak / 2**20:,.0f} MiB, {peak / size:.2f} of the rows")
        if not options.dry:
            with RESULTS.open("a") as out:
                out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()

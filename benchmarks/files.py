"""Rows of files compared with the same rows in memory: how often they are read, and what that takes.

    python benchmarks/files.py [--wordnet EMBEDDINGS.npy] [--case readings|halves|mapped|parquet|predict ...]

What is compared takes turns. Seconds are the least of the rounds: of the clock, and of the processor (all threads).
Appends records to benchmarks/results/files.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from common import keep, parser_of
from cosmeans import KMeans, open_rows
from cosmeans.backends.cpu import needed_bytes
from cosmeans.rows import stored
from cosmeans.rows.files import FileRows
from cosmeans.rows.formats import open_reader
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.singles import StoredRows

K = 1000
_PREDICTED = 300_000  # rows: shorter calls are mostly what a session costs


class Counted:
    """`rows.reader.Reader` over another: rows that were asked for in spans, and one by one."""

    def __init__(self, reader: Any) -> None:
        self._reader, self.in_spans, self.singly = reader, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, start: int, stop: int) -> Any:
        self.in_spans += stop - start
        return self._reader.read(start, stop)

    def gather(self, indices: np.ndarray) -> Any:
        self.singly += len(indices)
        return self._reader.gather(indices)


def wordnet_rows(path: Path) -> np.ndarray:
    rows = np.load(path).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_rows(n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def digest(kmeans: KMeans) -> str:
    parts = (kmeans.cluster_centers_, kmeans.labels_, np.array(kmeans.similarities))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:12]


def fit(x: Any, epochs: int, init: Any = "random", **options: Any) -> KMeans:
    return KMeans(K, epochs=epochs, init=init, random_state=0, verbose=0, device="cpu", **options).fit(x)


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Least seconds of each way, after one call of each that warms up."""
    found: dict[str, dict[str, float]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start, used = time.perf_counter(), time.process_time()
            way()
            took = {"clock": time.perf_counter() - start, "processor": time.process_time() - used}
            if number:
                best = found.setdefault(name, took)
                found[name] = {clock: min(best[clock], took[clock]) for clock in took}
    return found


def readings(x: np.ndarray, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Rows asked for by a fit of 25 epochs, as multiples of all rows; the same bits as in memory."""
    np.save(folder / "rows.npy", x)
    lines = []
    for init in ("random", "nested"):
        reader = Counted(open_reader(Place(folder / "rows.npy"), Wanted()))
        source = FileRows(JoinedRows([reader], "rows.npy"), partial(open_rows, folder / "rows.npy"))
        kmeans = fit(source, 25, init)
        lines.append(
            {
                "case": "readings",
                "files": ".npy, float32",
                "init": init,
                "epochs": kmeans.n_iter_,
                "in spans": reader.in_spans / len(x),
                "singly": reader.singly / len(x),
                "same bits": digest(kmeans) == digest(fit(x, 25, init)),
            }
        )
    return lines


def halves(x: np.ndarray, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Bytes that 25 epochs over a copy in halves ask the file and the copy for, in readings of all rows.

    memory_limit has room for the bounds of all rows and for some of the heads.
    """
    np.save(folder / "rows.npy", x)
    whole, lines = digest(fit(x, 25)), []
    for number, share in enumerate((0.0, 0.25)):
        reader = Counted(open_reader(Place(folder / "rows.npy"), Wanted()))
        source = FileRows(JoinedRows([reader], "rows.npy"), partial(open_rows, folder / "rows.npy"))
        limit = needed_bytes("auto", *x.shape) + int(share * x.nbytes / 2)
        with counted_copies() as asked:
            kmeans = fit(source, 25, cache=folder / f"cache{number}", memory_limit=limit)
        of_file = (reader.in_spans + reader.singly) / len(x)
        of_copy = asked["bytes"] / x.nbytes
        lines.append(
            {
                "case": "copy in halves",
                "files": ".npy, float32",
                "epochs": kmeans.n_iter_,
                "heads in memory": share,
                "memory_limit": limit,
                "of the file": of_file,
                "of the copy": of_copy,
                "of E + 3 readings": (of_file + of_copy) / (kmeans.n_iter_ + 3),
                "same bits": digest(kmeans) == whole,
            }
        )
    return lines


@contextmanager
def counted_copies() -> Iterator[dict[str, int]]:
    """Bytes that are asked of the files of copies: of spans, and of single rows by calls of the system."""
    asked = {"bytes": 0}

    class Mapped:
        """What is mapped of a file: n_bytes of each row, whichever of its fields are asked for."""

        def __init__(self, array: np.ndarray, n_bytes: int) -> None:
            self._array, self._n_bytes = array, n_bytes

        def __getattr__(self, name: str) -> Any:
            return getattr(self._array, name)

        def __getitem__(self, at: Any) -> Any:
            found = self._array[at]
            if isinstance(at, str):
                return Mapped(found, self._n_bytes)
            asked["bytes"] += len(found) * self._n_bytes
            return found

    class Stored(StoredRows):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.rows: Any = Mapped(self.rows, self.rows[0].nbytes)

        def _read(self, into: memoryview, offset: int) -> None:
            asked["bytes"] += len(into)
            super()._read(into, offset)

    def mapped_of(path: Path, dtype: np.dtype[Any]) -> Any:
        return Mapped(of_files(path, dtype), dtype.itemsize)

    of_files = stored._mapped
    with patch.object(stored, "StoredRows", Stored), patch.object(stored, "_mapped", mapped_of):
        yield asked


def mapped(x: np.ndarray, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Rows of a mapped file four times the limit, from the page cache, against rows in memory."""
    np.save(folder / "rows.npy", x)
    ways = {
        "files": lambda: fit(folder / "rows.npy", 10, memory_limit=x.nbytes // 4),
        "memory": lambda: fit(x, 10),
    }
    return [compared({"case": "fit, 10 epochs", "files": ".npy, float32"}, timed(ways, rounds))]


def parquet(x: np.ndarray, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The first pass, which decodes and copies, against its parts alone; and an epoch from the copy."""
    import pyarrow
    from pyarrow import parquet as files

    lines = []
    column = pyarrow.ListArray.from_arrays(
        pyarrow.array(np.arange(len(x) + 1, dtype=np.int32) * x.shape[1]), pyarrow.array(x.ravel())
    )
    table = pyarrow.table({"embedding": column})
    np.save(folder / "rows.npy", x)
    init = x[:K].copy()
    for group in (20_000, len(x)):
        path, cache = folder / "rows.parquet", folder / "cache"
        files.write_table(table, path, row_group_size=group)

        def from_parquet(epochs: int, path: Path = path, cache: Path = cache) -> None:
            fit(path, epochs, init, memory_limit=0, cache=cache)
            for copy in cache.iterdir():
                copy.unlink()

        def decode(path: Path = path) -> None:
            with files.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as opened:
                for batch in opened.iter_batches(8192):
                    batch.column(0).flatten().to_numpy()

        def write() -> None:
            with (folder / "written").open("wb") as file:
                file.write(x.data)
                os.fsync(file.fileno())

        ways = {
            "1 epoch": partial(from_parquet, 1),
            "decode": decode,
            "write": write,
            "1 epoch in memory": lambda: fit(x, 1, init),
            "11 epochs": partial(from_parquet, 11),
            "1 epoch, .npy": lambda: fit(folder / "rows.npy", 1, init, memory_limit=0),
            "11 epochs, .npy": lambda: fit(folder / "rows.npy", 11, init, memory_limit=0),
        }
        took = timed(ways, rounds)
        alone = {
            clock: sum(took[name][clock] for name in ("decode", "write", "1 epoch in memory"))
            for clock in ("clock", "processor")
        }
        later = {
            name: {clock: (took[f"11 epochs{of}"][clock] - took[f"1 epoch{of}"][clock]) / 10 for clock in alone}
            for name, of in (("files", ""), ("memory", ", .npy"))
        }
        kind = f"Parquet, row groups of {group:,}"
        lines += [
            compared({"case": "first and last pass, against their parts", "files": kind},
                     {"files": took["1 epoch"], "memory": alone}),
            compared({"case": "a later epoch, against .npy", "files": kind}, later),
        ]  # fmt: skip
    return lines


def predict(x: np.ndarray, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Labels of rows of files, in memory or in tables with their similarity, against labels of rows in memory."""
    x = np.concatenate([x] * -(-_PREDICTED // len(x)))[:_PREDICTED]
    path, tables = folder / "rows.npy", folder / "labels"
    np.save(path, x)
    kmeans = fit(x[: len(x) // 3], 2)

    def with_tables() -> None:
        kmeans.predict(path, labels_out=tables)
        shutil.rmtree(tables)

    ways = {"files": lambda: kmeans.predict(path), "tables": with_tables, "memory": lambda: kmeans.predict(x)}
    took = timed(ways, rounds)
    facts = {"n": len(x), "files": ".npy, float32"}
    return [
        compared(facts | {"case": "predict"}, took),
        compared(facts | {"case": "predict, labels_out"}, {"files": took["tables"], "memory": took["memory"]}),
    ]


def compared(record: dict[str, Any], took: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The record with seconds of files and of memory, and how many times as long files take."""
    files, memory = took["files"], took["memory"]
    return record | {
        "files s": files["clock"],
        "memory s": memory["clock"],
        "files / memory": files["clock"] / memory["clock"],
        "of the processor": files["processor"] / memory["processor"],
    }


CASES: dict[str, Callable[[np.ndarray, Path, int], list[dict[str, Any]]]] = {
    "readings": readings, "halves": halves, "mapped": mapped, "parquet": parquet, "predict": predict,
}  # fmt: skip


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--wordnet", type=Path, help="embeddings of WordNet's glosses, (117659, 384) .npy")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100_000, help="random rows of 768 features; 0: none")
    options: argparse.Namespace = parser.parse_args()
    sources = {}
    if options.wordnet is not None:
        sources["WordNet"] = wordnet_rows(options.wordnet)
    if options.rows:
        sources["random"] = random_rows(options.rows, 768)
    for title, x in sources.items():
        for name in options.case:
            with tempfile.TemporaryDirectory() as folder:
                for line in CASES[name](x, Path(folder), options.rounds):
                    record = {"data": title, "n": len(x), "d": x.shape[1], "k": K} | line
                    print(record, flush=True)
                    keep("files", record, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

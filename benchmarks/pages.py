"""Write the tables of records as pages: python benchmarks/pages.py [--check]

Writes docs/benchmarks/cpu.md and gpu.md, wholly from results/*.jsonl and the introductions below. A table shows the
last record of each of its rows, so a new record replaces an old one. --check writes nothing, and fails if a page
differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from common import HERE, RESULTS, parser_of

DOCS = HERE.parent / "docs" / "benchmarks"
Record = dict[str, Any]
NOTE = "<!-- Written by benchmarks/pages.py from benchmarks/results/. Edit the script, not this page. -->"


def records(name: str) -> list[Record]:
    """All records of a file, oldest first."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def cell(value: Any) -> str:
    """A value as a table shows it: three digits of what was measured."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value).removeprefix("torch.").removeprefix("NVIDIA ")


def grid(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    head = list(head)
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(map(cell, row)) + " |"


class Table(NamedTuple):
    """The last records of one kind: a row for each value of the keys."""

    title: str
    text: str
    file: str
    keys: dict[str, str]  # head: field; "a.b" is a field in a field
    values: dict[str, str | Callable[[Record], Any]]
    where: dict[str, Any] = {}  # noqa: RUF012  read only
    having: str = ""  # a field that the record must have

    def lines(self) -> Iterator[str]:
        last: dict[tuple[Any, ...], Record] = {}
        for record in records(self.file):
            right = all(record.get(name) == value for name, value in self.where.items())
            if right and (not self.having or field(record, self.having) is not None):
                last[tuple(str(field(record, name)) for name in self.keys.values())] = record
        columns, found = self.keys | self.values, [last[key] for key in in_order(last)]
        yield from (f"## {self.title}", "", self.text, "")
        yield from grid(columns, ([field(record, name) for name in columns.values()] for record in found))
        commands = {record["command"] for record in found}
        yield from ("", "Repeat with " + " or ".join(f"`python {command}`" for command in sorted(commands)) + ".", "")


def in_order(keys: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Numbers ascend; names stay in the order of their first record."""
    ranks = [{name: rank for rank, name in reversed(list(enumerate(column)))} for column in zip(*keys, strict=True)]
    return sorted(
        keys, key=lambda key: [int(x) if x.isdigit() else rank[x] for x, rank in zip(key, ranks, strict=True)]
    )


def field(record: Record, name: str | Callable[[Record], Any]) -> Any:
    """A field of a record, or what a function makes of the record."""
    if callable(name):
        return name(record)
    value: Any = record
    for part in name.split("/") if name not in record else [name]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def ratio(above: str, below: str) -> Callable[[Record], float | None]:
    def divide(record: Record) -> float | None:
        pair = field(record, above), field(record, below)
        return pair[0] / pair[1] if all(pair) else None

    return divide


def mebibytes(name: str) -> Callable[[Record], int]:
    return lambda record: round(field(record, name) / 2**20)


def processor(record: Record) -> str:
    return record["processor"].split(" (")[0].replace("(R)", "")


def day(record: Record) -> str:
    return str(record.get("when", ""))[:10]


PEERS = ("cosmeans", "SuperKMeans", "FAISS", "FAISS SuperKmeans", "scikit-learn", "fastkmeans", "PyTorch loop")
SHAPE = {"rows": "n", "features": "d", "K": "k"}
CALLS = {"rows": "rows", "features": "features", "K": "clusters"}
COMMIT = {"commit": "commit"}

CPU = [
    Table(
        "Whole fits",
        "Seconds of a whole fit, the least of the rounds, in which the libraries take turns: all rows, the same "
        'number of iterations, the same first centroids where a library takes them. "limit" is the fastest '
        "float32 matrix product of torch or NumPy, for 2 N K D operations in each pass; a way that needs fewer or"
        " narrower products can be faster.",
        "cpu",
        {"case": "case", "instructions": "instructions"},
        {**{name: f"seconds/{name}" for name in PEERS}, "limit": "limit", "processor": processor, "date": day},
        having="seconds/SuperKMeans",
    ),
    Table(
        "The first fit of a process",
        "Seconds with everything still to be compiled.",
        "cpu",
        {"case": "case"},
        {"seconds": "seconds/cosmeans", "processor": processor, "date": day},
        having="seconds/cosmeans",
        where={"case": "first fit, nothing compiled yet: random 20,000 x 64, K = 100"},
    ),
    Table(
        "Worst cases",
        "Rows that no screen can decide, compared with random rows of the same shape, and with a kernel that "
        "computes all canonical scores and nothing else (dense).",
        "worst",
        {"case": "case", **CALLS},
        {
            **{"predict s": "predict s", "fit s": "fit s", "predict / random": "predict / random"},
            **{
                "fit / random": "fit / random",
                "predict / dense": "predict / dense",
                "processor": processor,
                "date": day,
            },
        },
        having="dense s",
    ),
    Table(
        "Memory of whole fits",
        "Peak resident memory of the process: Python, torch, rows and all, compared with the size of the rows.",
        "memory",
        {"case": "case", **CALLS},
        {
            "rows, MiB": mebibytes("row_bytes"),
            "peak, MiB": mebibytes("peak_bytes"),
            "peak / rows": "ratio",
            "date": day,
        },
        having="peak_bytes",
    ),
    Table(
        "Memory of calls",
        "What a call needs besides the rows, with memory_limit=0.",
        "memory",
        {"call": "call", "rows are": "kind", **CALLS},
        {"rows, MiB": mebibytes("row_bytes"), "besides, MiB": mebibytes("beside_bytes"), "date": day},
        having="beside_bytes",
    ),
    Table(
        "How often files are read",
        "Rows that a fit asks files for, as multiples of all rows: in spans, and one by one (by starts and samples).",
        "files",
        {"data": "data", "files": "files", "start": "init", "epochs": "epochs"},
        {"in spans": "in spans", "one by one": "singly", "same bits as in memory": "same bits", "date": day},
        having="in spans",
    ),
    Table(
        "A copy in halves",
        "Bytes that a fit asks the file and its copy for, as multiples of the bytes of all rows; single rows count "
        "their own bytes. The last ratio is that to E + 3 readings of the file for E epochs.",
        "files",
        {"data": "data", "files": "files", "epochs": "epochs", "heads in memory": "heads in memory"},
        {
            "of the file": "of the file",
            "of the copy": "of the copy",
            "of E + 3 readings": "of E + 3 readings",
            "same bits as in memory": "same bits",
            "date": day,
        },
        having="of the copy",
    ),
    Table(
        "Rows of files against rows in memory",
        "K = 1000. Files that were read before are in the page cache. With Parquet, memory_limit is 0 and the rows are "
        "copied while they are read first: their first and last pass is compared with decoding by pyarrow, writing the "
        "rows, and an epoch in memory, one after another; a later epoch with one of a mapped .npy file.",
        "files",
        {"data": "data", "what": "case", "files": "files"},
        {
            "files s": "files s",
            "compared with s": "memory s",
            "ratio": "files / memory",
            "of processor time": "of the processor",
            "date": day,
        },
        having="files s",
    ),
    Table(
        "Near-duplicates",
        "Near-duplicates within clusters, of all that a brute force over all pairs finds.",
        "dedup",
        {"rows": "rows", "K": "clusters", "threshold": "threshold"},
        {
            "pairs": "pairs",
            "pairs found": "pairs found",
            "fit s": "fit s",
            "dedup s": "dedup s",
            "all pairs s": "all pairs s",
        },
    ),
]
GPU = [
    Table(
        "Fits of the tutorial's size",
        "Milliseconds of a whole fit of ten epochs with its final labels, rows on the GPU, given first centroids.",
        "gpu",
        {"GPU": "device", **SHAPE, "dtype": "dtype"},
        {"ms": "ms", "first of the process, s": "first_s", **COMMIT},
        {"kind": "fit"},
    ),
    Table(
        "KMeans.fit",
        "The same through `KMeans.fit`: with checks, first centroids, and every row's own similarity.",
        "gpu",
        {"GPU": "device", **SHAPE, "init": "init"},
        {"ms": "ms", **COMMIT},
        {"kind": "KMeans.fit"},
    ),
    Table(
        "Small fits",
        "Ten epochs after idling, and many fits in a row over different rows; a loop of plain PyTorch in float16.",
        "gpu",
        {"GPU": "device", **SHAPE},
        {"ms": "ms", "in a row": "in_a_row", "loop": "loop", "loops in a row": "loops_in_a_row", **COMMIT},
        {"kind": "small fit"},
    ),
    Table(
        "Against flash-kmeans",
        "Milliseconds of a whole fit from the same first centroids, in one run. `tuning s` is its first call.",
        "gpu",
        {"GPU": "device", **SHAPE, "dtype": "dtype"},
        {
            "cosmeans": "ours",
            "flash-kmeans": "flash",
            "ratio": ratio("flash", "ours"),
            "tuning s": "flash_first_s",
            **COMMIT,
        },
        {"kind": "flash"},
    ),
    Table(
        "Many shapes",
        "Milliseconds a pass of whole fits (inspection and first copy divided among the passes), of a loop of "
        "plain PyTorch in three precisions, and of cuBLAS for all float16 scores of one pass.",
        "gpu",
        {"GPU": "device", **SHAPE},
        {
            **{"float32": "float32", "float16": "float16", "loop float32": "loop float32", "loop tf32": "loop tf32"},
            **{
                "loop float16": "loop float16",
                "cuBLAS": "cublas",
                "cuBLAS / float16": ratio("cublas", "float16"),
                **COMMIT,
            },
        },
        {"kind": "cell"},
    ),
    Table(
        "Real embeddings",
        "Milliseconds of whole fits in float16 alone, with 8-bit integers first, and as the backend chooses.",
        "gpu",
        {"GPU": "device", **SHAPE, "grown from": "sample"},
        {"float16": "half", "8 bits first": "ladder", "auto": "auto", "loop, float16": "loop, float16", **COMMIT},
        {"kind": "real fit"},
    ),
    Table(
        "Rows on the host",
        "Milliseconds of `KMeans.fit`: rows on the GPU; rows of the host, kept on the GPU; only their float16 "
        "copy kept; rows sent in every pass.",
        "gpu",
        {"GPU": "device", **SHAPE},
        {"on the GPU": "near", "kept": "there", "copy kept": "copy", "sent": "sent", **COMMIT},
        {"kind": "rows on the host"},
    ),
    Table(
        "Files",
        "Seconds of the epochs of a fit of float16 rows in the page cache or in memory: all of them kept on the "
        "GPU, their float16 copy alone, or neither. The first epoch opens, reads, sends, inspects and labels all "
        "rows; share: of the rate at which pinned memory is sent.",
        "gpu",
        {"GPU": "device", **SHAPE, "rows": "n", "from, kept": "rows"},
        {"first epoch": "first", "share": "share", "later epochs": "later", "labels, cosines": "labels", **COMMIT},
        {"kind": "files"},
    ),
    Table(
        "Memory",
        "Planned bytes besides the rows against the measured peak, in MiB. A fit may label its rows in parts.",
        "gpu",
        {"GPU": "device", **SHAPE, "rows a part": "part"},
        {"planned": mebibytes("planned"), "peak": mebibytes("peak"), "enough": "enough", **COMMIT},
        {"kind": "memory"},
    ),
    Table(
        "The first fit of a process",
        "Seconds from rows on the GPU to labels on the host, with what earlier processes compiled, or without it.",
        "gpu",
        {"GPU": "device", **SHAPE, "commit": "commit", "seconds": "seconds"},
        {"note": "note"},
        {"kind": "first fit"},
    ),
    Table(
        "Worst cases",
        "Rows that no screen can decide, compared with random rows of the same shape. `refined` rows got "
        "canonical scores.",
        "worst",
        {"GPU": "device", "case": "case", **CALLS},
        {
            **{"predict s": "predict s", "fit s": "fit s", "predict / random": "predict / random"},
            **{"fit / random": "fit / random", "refined": "settled", "date": day},
        },
        having="device",
    ),
]
INTRODUCTIONS = {
    "cpu": "# Benchmarks on CPUs\n\nThe columns of a line were measured in one run, so their ratios hold. What the "
    "numbers mean is explained in [the measurements of the CPU backend](../design-cpu-measured.md).\n",
    "gpu": "# Benchmarks on GPUs\n\nTimes are medians of bursts after idling. A GPU at these rates is limited by its "
    "power, so two runs differ by a few percent, and by more on a slower host. What the numbers mean is explained in "
    "[the measurements of the GPU backend](../design-gpu-measured.md).\n",
}


def page(name: str) -> str:
    """The page of one device."""
    tables = {"cpu": CPU, "gpu": GPU}[name]
    lines = [NOTE, "", INTRODUCTIONS[name]]
    for table in tables:
        lines += table.lines()
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the pages are up to date")
    check, wrong = parser.parse_args().check, []
    for name in INTRODUCTIONS:
        path, text = DOCS / f"{name}.md", page(name)
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            wrong.append(str(path))
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if wrong:
        print("Run `python benchmarks/pages.py`: not up to date are " + ", ".join(wrong), file=sys.stderr)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""What the scripts of this folder share: their command line, the machine, and how a record is written."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEMO = HERE.parent / "src" / "cosmeans" / "demo_data" / "rows.npy"


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's docstring, and knows where records go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where records are appended")
    return parser


def processor() -> str:
    """Name and vector instructions of the processor, as the system reports them."""
    facts = {}
    if Path("/proc/cpuinfo").exists():
        pairs = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in pairs}
    flags = set(facts.get("flags", "").split())
    kinds = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if name in flags]
    family = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{facts.get('model name', platform.processor())} ({family}; {' '.join(kinds)})"


def gpu() -> str | None:
    """Name of the GPU that torch uses; None without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def commit_of(folder: Path) -> str | None:
    """Short commit of a checkout, with "-dirty" if files differ from it; None for a plain folder."""
    command = ["git", "-C", str(folder), "rev-parse", "--show-toplevel"]
    top = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not top or Path(top) != folder.resolve():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def stamp(on_gpu: bool = False) -> dict[str, Any]:
    """What every record says: machine (processor, and the GPU that did the work), versions, commit, command, time."""
    import numpy as np
    import torch

    facts: dict[str, Any] = {"processor": processor(), "threads": torch.get_num_threads()}
    if on_gpu:
        facts["device"] = gpu()
    facts |= {"versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}}
    facts |= {
        "commit": commit_of(HERE.parent),
        "command": shlex.join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    return facts | {"when": datetime.now(UTC).isoformat(timespec="seconds")}


def keep(name: str, record: dict[str, Any], options: argparse.Namespace, on_gpu: bool = False) -> None:
    """Append a record, with its stamp, to NAME.jsonl where the command line says; a dry run appends nothing."""
    if not options.dry:
        facts = stamp(on_gpu)
        facts["versions"] |= record.get("versions", {})
        with (options.results / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record | facts) + "\n")

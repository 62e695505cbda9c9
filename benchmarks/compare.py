"""Two states of the package, case by case, in one run: is the second one slower, and does it give the same bits?

    python benchmarks/compare.py BEFORE AFTER [--case PART ...] [--device cpu] [--rounds 5] [--turns 3] [--dry]
    python benchmarks/compare.py main .           # what is not committed yet against main
    python benchmarks/compare.py --list

A state is a commit, which is checked out into a temporary worktree, or a folder that holds src/cosmeans. In every round
three processes start: BEFORE, AFTER, and BEFORE again. They take turns, case by case; a measurement is the least time
of the turns. `ratio` is the median of AFTER / BEFORE over the rounds. `A/A` are the least and the largest ratio of
BEFORE again / BEFORE: a ratio that is no farther from 1, or within 2 %, shows no difference. A first fit (with the
import of the package) has a process of its own each time. On a machine that is busy with other work, --cpu-time counts
the processor's seconds of the process in place of those on the clock. GPU cases: --device cuda.
Appends a record for each case to benchmarks/results/compare.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from cases import CASES, Case, digest, prepare
from common import HERE, commit_of, keep, parser_of

SIDES = ("before", "after", "again")
BUDGET = 0.2  # seconds of calls in a turn; at least one call
CACHES = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR")


def serve(clock: Callable[[], float]) -> None:
    """The process of one side: for each name of a case that comes in, the least seconds of a turn and the answer."""
    warnings.simplefilter("ignore")  # worst cases have rows that coincide
    held, run = None, lambda: None
    for name in map(str.strip, sys.stdin):
        case = CASES[name]
        if name != held:
            held, run = None, lambda: None  # rows of the case before are dropped first
            held, run = name, prepare(case)
            if case.call != "first":
                run(), run()  # compiles, starts threads, allocates
        if case.device == "cuda":
            time.sleep(0.1)  # a GPU at its limit of power is slower: each turn begins after idling
        seconds, answer, ends = [], None, time.perf_counter() + BUDGET
        while not seconds or (time.perf_counter() < ends and case.call != "first"):
            started = clock()
            answer = run()
            seconds.append(clock() - started)
        source = sys.modules["cosmeans"].__file__
        print(json.dumps({"seconds": min(seconds), "answer": digest(answer), "source": source}), flush=True)


class Process:
    """A process of one state."""

    def __init__(self, state: Path, caches: str | None = None) -> None:
        self.source = (state / "src").resolve()
        environment = os.environ | {"PYTHONPATH": str(self.source)} | (dict.fromkeys(CACHES, caches) if caches else {})
        clock = [argument for argument in sys.argv if argument == "--cpu-time"]
        command = [sys.executable, str(HERE / "compare.py"), "--serve", *clock]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, case: Case) -> dict[str, Any]:
        """What the process measured in one turn."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(case.name, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{case.name}: the process of {self.source} ended with {self.process.wait()}")
        found = json.loads(answer)
        assert Path(found["source"]).is_relative_to(self.source), f"{found['source']} is not of {self.source}"
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def first_fit(state: Path, case: Case) -> dict[str, Any]:
    """In a process of its own; with empty caches if the case says so."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        process = Process(state, empty if case.cold else None)
        try:
            return process.ask(case)
        finally:
            process.close()


@contextlib.contextmanager
def checked_out(state: str) -> Iterator[tuple[Path, str]]:
    """The folder of a state, and what it is called in the record."""
    if (Path(state) / "src" / "cosmeans").is_dir():
        yield Path(state), commit_of(Path(state)) or Path(state).resolve().name
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "state")
        git = ["git", "-C", str(HERE.parent), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), state], check=True)
        try:
            yield folder, commit_of(folder) or state
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(states: dict[str, Path], cases: list[Case], rounds: int, turns: int) -> dict[Case, list[dict[str, Any]]]:
    """Seconds and answer of every side, for each case and round."""
    found: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    for case in cases:
        for state in set(states.values()) if case.call == "first" and not case.cold else ():
            first_fit(state, case)  # compiles what the timed processes read from the disk
    for i in range(rounds):
        sides = [SIDES[(i + j) % 3] for j in range(3)]  # none is always the first
        processes = {side: Process(states[side]) for side in sides}
        for case in cases:
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            answers = {}
            for _ in range(1 if case.cold else turns):
                for side in sides:
                    one = first_fit(states[side], case) if case.call == "first" else processes[side].ask(case)
                    times[side].append(one["seconds"])
                    answers[side] = one["answer"]
            least = {side: min(times[side]) for side in SIDES}
            found[case].append({"seconds": least, "answers": answers})
            print(f"  {case.name}: " + ", ".join(f"{side} {least[side]:.4f} s" for side in SIDES), flush=True)
        for process in processes.values():
            process.close()
    return found


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of one case."""
    seconds = {side: [one["seconds"][side] for one in found] for side in SIDES}
    against = {side: [b / a for a, b in zip(seconds["before"], seconds[side], strict=True)] for side in SIDES[1:]}
    facts = {side: statistics.median(values) for side, values in seconds.items()}
    same = len({answer for one in found for answer in one["answers"].values()}) == 1
    spread = min(against["again"]), max(against["again"])
    return facts | {"ratio": statistics.median(against["after"]), "A/A": spread, "same bits": same, "all": seconds}


def report(found: dict[Case, list[dict[str, Any]]], before: str, after: str, options: argparse.Namespace) -> None:
    """Print the table of ratios and keep the records."""
    print(f"\n{'case':30} {'before s':>10} {'after s':>10} {'ratio':>7} {'A/A':>15}  {before} -> {after}")
    for case, rounds in found.items():
        facts = summary(rounds)
        low, high = facts["A/A"]
        ratio = facts["ratio"]
        noise = max(1.02, high, 1 / low)
        words = ["SLOWER"] if ratio > noise else ["faster"] if ratio < 1 / noise else []
        words += [] if facts["same bits"] else ["OTHER BITS"]
        times = f"{facts['before']:10.4f} {facts['after']:10.4f} {ratio:7.3f}"
        print(f"{case.name:30} {times}   {low:.3f} - {high:.3f}  {' '.join(words)}")
        record = {**case._asdict(), **facts, "commit before": before, "commit after": after}
        keep("compare", record, options, on_gpu=case.device == "cuda")


def chosen(parts: list[str], device: str, cold: bool) -> list[Case]:
    """The cases of a device with one of these parts in their names."""
    cases = [case for case in CASES.values() if case.device == device and (cold or not case.cold)]
    return [case for case in cases if any(part in case.name for part in parts)]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("states", nargs="*", metavar="STATE", help="before and after: commits or folders")
    parser.add_argument("--case", nargs="*", default=[""], metavar="PART", help="parts of names of cases")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cold", action="store_true", help="also first fits for which everything is compiled")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="print the table of cases")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    parser.add_argument("--serve", action="store_true", help="be one of the processes")
    options = parser.parse_args()
    cases = chosen(options.case, options.device, options.cold)
    if options.serve:
        serve(time.process_time if options.cpu_time else time.perf_counter)
    elif options.list:
        print(*CASES.values(), sep="\n")
    elif len(options.states) != 2 or not cases:
        parser.error("name two states and at least one case of the table (--list)")
    else:
        with contextlib.ExitStack() as stack:
            (before, name), (after, other) = (stack.enter_context(checked_out(state)) for state in options.states)
            found = measure({"before": before, "after": after, "again": before}, cases, options.rounds, options.turns)
        report(found, name, other, options)


if __name__ == "__main__":
    main()

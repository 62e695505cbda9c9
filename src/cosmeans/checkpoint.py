"""A fit's checkpoint: one file from which the same call goes on after its process has ended.

It holds what the next epoch needs and nothing that a pass finds again: centroids, history, which run of n_init they
belong to and the best run so far, but no sums and no labels. It belongs to the rows, options, seed and first centroids
of one fit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from cosmeans.atomic import new_file
from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.model_file import EPOCH
from cosmeans.observer import Log
from cosmeans.reading import read_bytes
from cosmeans.records import Check, each, integer, number, one_of, optional, parse, record, text
from cosmeans.result import Iteration, Progress, StopReason
from cosmeans.version import NUMERICS, __version__

LATEST, PREVIOUS = "latest.safetensors", "previous.safetensors"
_FORMAT, _FORMAT_VERSION = "cosmeans checkpoint", 1
_LARGEST = 1 << 40  # bytes: K x D of twice 10^11
_AGAIN = "pass resume=False (--no-resume) to begin again and replace it"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint belongs to.

    rows     what tells them from others: the names, sizes and hashes of files, or one digest of rows in memory
    options  those that the answer depends on
    seed     of every random choice; None: it is to be that of the checkpoint, or to be drawn
    first    `centroids_digest` of first centroids that were given; None: they come of the seed
    """

    rows: dict[str, Any]
    options: dict[str, Any]
    seed: int | None
    first: str | None


@dataclass(frozen=True, slots=True)
class BestRun:
    """The best of the runs that have ended, without its labels. similarity: under its final centroids."""

    progress: Progress
    similarity: float


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a fit is: run (from 0) of its n_init runs, how far that is, and the best of those before it."""

    run: int
    progress: Progress
    best: BestRun | None = None


def _anything(value: Any, name: str) -> Any:
    return value


_PROGRESS = record({"history": each(EPOCH), "stop": optional(one_of(StopReason))})
_FIELDS: dict[str, Check] = {
    "format": text, "format_version": integer(1), "numerics": integer(1), "library": text, "rows": _anything,
    "options": _anything, "seed": integer(0), "first": optional(text), "run": integer(0), "progress": _PROGRESS,
    "best": optional(record({"progress": _PROGRESS, "similarity": number(-1.0 - 2.0**-20, 1.0 + 2.0**-20)})),
}  # fmt: skip


class Checkpoint:
    """The checkpoint of one fit in a folder. A context manager: leaving it waits for what is being written.

    phase  where the fit is to go on; None: at its beginning
    seed   what every random choice comes from
    """

    def __init__(self, folder: Path, mine: Identity, seed: int, resume: bool | str, seconds: float, log: Log) -> None:
        """seed: what is taken where there is no checkpoint. resume: as in `KMeans`.

        Raises FileError, InputError or OptionError, before anything is replaced.
        """
        self._folder, self._seconds, self._log = folder, seconds, log
        self.phase: Phase | None = None
        self._mine, self.seed = mine, seed
        self._writer: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._written = time.monotonic()
        if resume is not False:
            self._find(resume is True)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._wait(raising=kind is None)

    def keep(self, run: int, best: BestRun | None) -> Callable[[Progress], None]:
        """What is called with the progress of a run after each of its epochs, and at its stop."""

        def reached(progress: Progress) -> None:
            if progress.stop is None and time.monotonic() - self._written < self._seconds:
                return
            self._write(Phase(run, _on_host(progress), best), wait=progress.stop is not None)

        return reached

    def _find(self, demanded: bool) -> None:
        path = self._folder / LATEST
        if not path.exists():
            if demanded:
                missing = f"No checkpoint at {self._folder}: {LATEST} is missing."
                raise FileError(f"{missing} Name another folder, or leave out resume to begin.")
            return
        values, tensors = _read(path)
        if values["numerics"] != NUMERICS:
            raise OptionError(
                f"{self._folder} was written by cosmeans {values['library']}, whose answers have other digits "
                f"(NUMERICS {values['numerics']}, here {NUMERICS}). Go on with that version, or {_AGAIN}."
            )
        self._require_same(values)
        if values["first"] != self._mine.first:
            if demanded:
                raise InputError(f"{self._folder} belongs to a fit from other first centroids; {_AGAIN}.")
            self._log(f"{self._folder} belongs to a fit from other first centroids: beginning again")
            return
        self.seed = values["seed"]
        best = values["best"]
        self.phase = Phase(
            values["run"],
            _progress(values["progress"], tensors["centroids"]),
            None if best is None else BestRun(_progress(best["progress"], tensors["best"]), best["similarity"]),
        )
        done = len(self.phase.progress.iterations)
        self._log(f"going on from {self._folder}, after epoch {done} of at most {self._mine.options['epochs']}")

    def _require_same(self, values: dict[str, Any]) -> None:
        for name, now in self._mine.options.items():
            then = values["options"].get(name)
            if then != now:
                raise OptionError(
                    f"{self._folder} was written with {name}={then!r}, this call says {now!r}. Pass the same, or "
                    f"{_AGAIN}."
                )
        if self._mine.seed is not None and values["seed"] != self._mine.seed:
            raise OptionError(
                f"{self._folder} was written with another random_state (seed {values['seed']}, this call's is "
                f"{self._mine.seed}). Pass the same, or {_AGAIN}."
            )
        if difference := _difference(values["rows"], self._mine.rows):
            raise InputError(f"{self._folder} belongs to other rows: {difference}. Restore them, or {_AGAIN}.")

    def _write(self, phase: Phase, wait: bool) -> None:
        self._wait(raising=True)
        self._written = time.monotonic()
        self._writer = threading.Thread(target=self._save, args=(phase,), name="cosmeans checkpoint")
        self._writer.start()
        if wait:
            self._wait(raising=True)

    def _wait(self, raising: bool) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        failed, self._failed = self._failed, None
        if raising and failed is not None:
            raise failed

    def _save(self, phase: Phase) -> None:
        try:
            content = _bytes(self._mine, self.seed, phase)
            self._folder.mkdir(parents=True, exist_ok=True)
            latest = self._folder / LATEST
            if latest.exists():
                with new_file(self._folder / PREVIOUS, force=True) as temporary:
                    shutil.copyfile(latest, temporary)
            with new_file(latest, force=True) as temporary:
                temporary.write_bytes(content)
        except Exception as error:  # noqa: BLE001 - told to the thread that fits
            self._failed = error


def _on_host(progress: Progress) -> Progress:
    """With centroids that nobody writes to."""
    stop = None if progress.stop is StopReason.INTERRUPTED else progress.stop
    return Progress(progress.centroids.detach().cpu().clone(), progress.iterations, stop)


def _bytes(mine: Identity, seed: int, phase: Phase) -> bytes:
    tensors = {"centroids": phase.progress.centroids}
    best = None
    if phase.best is not None:
        tensors["best"] = phase.best.progress.centroids
        best = {"progress": _plain(phase.best.progress), "similarity": phase.best.similarity}
    values = {
        "format": _FORMAT, "format_version": _FORMAT_VERSION, "numerics": NUMERICS, "library": __version__,
        "torch": torch.__version__, "numpy": np.__version__, "rows": mine.rows, "options": mine.options, "seed": seed,
        "first": mine.first, "run": phase.run, "progress": _plain(phase.progress), "best": best,
    }  # fmt: skip
    written = json.dumps(values, allow_nan=False)
    return save(tensors, {"checkpoint": written, "sha256": _checksum(written, tensors)})


def _plain(progress: Progress) -> dict[str, Any]:
    stop = None if progress.stop is None else progress.stop.value
    return {"history": [asdict(iteration) for iteration in progress.iterations], "stop": stop}


def _progress(values: dict[str, Any], centroids: Tensor) -> Progress:
    return Progress(centroids, tuple(Iteration(**epoch) for epoch in values["history"]), values["stop"])


def _checksum(written: str, tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256(written.encode())
    for name in sorted(tensors):
        found.update(tensors[name].contiguous().numpy().data)
    return found.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint holds, checked. Raises FileError."""
    content = read_bytes(path, _LARGEST)
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]
        tensors = load(content)
        if _checksum(header["checkpoint"], tensors) != header["sha256"]:
            raise ValueError("its checksum is another one")
        values: dict[str, Any] = record(_FIELDS)(parse(header["checkpoint"]), "")
    except Exception as error:  # safetensors' own errors share no class
        before = path.with_name(PREVIOUS)
        whole = f"copy {before}, the one before, over it, or " if before.exists() else ""
        raise FileError(f"{path} is damaged ({error}). To go on, {whole}{_AGAIN}.") from error
    return values, tensors


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What differs between rows, in words."""
    if then == now:
        return None
    before, after = then.get("files"), now.get("files")
    if before is None or after is None:
        for name in ("rows", "features"):
            if then.get(name) != now.get(name):
                return f"they had {then.get(name):,} {name} and have {now.get(name):,}"
        return "their values differ"
    known = {entry[0]: entry for entry in before}
    for name, size, *rest in after:
        if name not in known:
            return f"{name} was not among the files"
        if known[name][1] != size:
            return f"{name} had {known[name][1]:,} bytes and has {size:,}"
        if known[name][2:] != rest:
            return f"{name} was changed since"
    missing = known.keys() - {entry[0] for entry in after}
    if missing:
        return f"{min(missing)} is not among the files now"
    return "the files are in another order, or they are read in another way"

"""Finished runs of `choose_k` in a folder, so that it continues where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.atomic import new_file
from cosmeans.errors import FileError, InputError, OptionError, OutputExistsError
from cosmeans.reading import read_bytes, reading
from cosmeans.records import integer, number, parse, record
from cosmeans.rows.readers.array_files import open_array

_SETUP = "setup.json"
_LARGEST_NOTE = 1 << 20  # bytes of it
_PATIENCE = 10.0  # seconds for another process to write it
_REMOVE = "Remove it, and this run is done again."
_cosine = number(-1.0 - 2.0**-20, 1.0 + 2.0**-20)
_RUN = record(
    {
        "n_clusters": integer(1),
        "seed": integer(0),
        "similarity": _cosine,
        "silhouette": _cosine,
        "epochs": integer(1),
        "seconds": number(0.0, 2.0**53),
    }
)


@dataclass(frozen=True, slots=True)
class Run:
    """One fit. seconds: its wall time; the rest as in `Evaluation`."""

    n_clusters: int
    seed: int
    similarity: float
    silhouette: float
    epochs: int
    seconds: float


class RunStore:
    """Finished runs in a folder: one file each, whole or not there, and a note of what they are runs of.

    Several processes may work in one folder: they share what is finished.
    """

    def __init__(self, folder: Path, sample: Tensor, options: dict[str, Any]) -> None:
        self.folder, self.n_rows = folder, len(sample)
        content = sample.cpu().contiguous().numpy()
        digest = hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()
        setup = {"sample": digest, **options}
        note = folder / _SETUP
        _write_once(note, json.dumps(setup, indent=1) + "\n")
        with reading(note, advice="Choose another folder, or remove it."):
            known = parse(read_bytes(note, _LARGEST_NOTE).decode("utf-8"))
        if known != setup:
            raise FileError(f"{folder} holds runs on other rows or with other options. Choose another folder.")

    def read(self, k: int, seed: int) -> tuple[Run, np.ndarray] | None:
        """The run of this K and seed, every value checked; None if it was not done yet."""
        path = self._path(k, seed)
        if not os.path.lexists(path):
            return None
        try:
            run = _RUN(parse(str(np.asarray(open_array(path, "run", n_dims=0)))), "run")
            labels = np.asarray(open_array(path, "labels", n_dims=1))
            for name, value in (("n_clusters", k), ("seed", seed)):
                if run[name] != value:
                    raise ValueError(f"run.{name} must be {value}; it is {run[name]}")
            if labels.dtype.kind != "i" or labels.shape != (self.n_rows,) or not _within(labels, k):
                raise ValueError(f"labels must be {self.n_rows} integers from 0 to {k - 1}")
        except (OptionError, InputError, ValueError) as error:
            raise FileError(f"{path} is damaged: {str(error).removesuffix('.')}. {_REMOVE}") from error
        except FileError as error:
            raise FileError(f"{path} is damaged, or can't be read: {error} {_REMOVE}") from error
        return Run(**run), labels.astype(np.int32)

    def write(self, run: Run, labels: np.ndarray) -> None:
        # another process may do the same run at the same time: it comes to the same labels
        path = self._path(run.n_clusters, run.seed)
        with new_file(path, force=True) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, run=np.array(json.dumps(asdict(run))), labels=labels)

    def _path(self, k: int, seed: int) -> Path:
        return self.folder / f"k{k}-seed{seed}.npz"


def _within(labels: np.ndarray, k: int) -> bool:
    return len(labels) == 0 or bool(labels.min() >= 0 and labels.max() < k)


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it is there, also if another process is about to write it."""
    end = time.monotonic() + _PATIENCE
    while not os.path.lexists(path):
        try:
            with new_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OutputExistsError:  # the other's is as good, once it is there
            if time.monotonic() > end:
                raise
            time.sleep(0.01)

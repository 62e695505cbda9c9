"""A fitted model in a folder: `model.safetensors` (tensors), `model.json` (the rest); see docs/format.md."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cosmeans.atomic import new_folder, refuse_existing
from cosmeans.errors import FileError, ModelFormatError, OutputExistsError, WriteError
from cosmeans.result import History, StopReason

FORMAT = "cosmeans model"
FORMAT_VERSION = 1
TENSORS, VALUES = "model.safetensors", "model.json"


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a fit leaves behind.

    centroids    (K, D) float32, unit length; the same bits come back
    counts       (K,) int64: rows of each cluster
    options      the parameters of the fit, plain JSON values
    history      all epochs so far
    seed         what every random choice came from
    stop_reason  why the last fit ended
    similarity   mean cosine under these centroids
    library      version of cosmeans that wrote the model
    """

    centroids: Tensor
    counts: Tensor
    options: dict[str, Any]
    history: History
    seed: int
    stop_reason: StopReason
    similarity: float
    library: str


def save_model(folder: str | os.PathLike[str], state: ModelState, force: bool = False) -> None:
    """Write a model folder, whole or not at all.

    Raises OutputExistsError if the folder exists (force replaces a model, and nothing but a model), and
    WriteError if the disk refuses; then the older model is still there.
    """
    target = Path(folder)
    refuse_existing(target, force)
    _refuse_other_things(target)
    with new_folder(target, force) as temporary:
        tensors = {"centroids": state.centroids, "counts": state.counts}
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary / TENSORS)
        except SafetensorError as error:
            raise WriteError(f"Can't write {target}: {error}. Check the disk's free space.") from error
        values = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "library": state.library,
            "n_clusters": state.centroids.shape[0],
            "n_features": state.centroids.shape[1],
            "seed": state.seed,
            "stop_reason": state.stop_reason.value,
            "similarity": state.similarity,
            "options": state.options,
            "history": state.history.to_json(),
            "sha256": _digest(temporary / TENSORS),
        }
        (temporary / VALUES).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        shutil.copymode(temporary / VALUES, temporary / TENSORS)  # safetensors' own is for the owner's eyes only


def load_model(folder: str | os.PathLike[str]) -> ModelState:
    """Read a model folder. Raises FileError if there is none, ModelFormatError if it is damaged or newer."""
    source = Path(folder)
    values = _read_values(source)
    tensors = _read_tensors(source, values)
    try:
        return ModelState(
            centroids=tensors["centroids"],
            counts=tensors["counts"],
            options=dict(values["options"]),
            history=History.from_json(values["history"]),
            seed=int(values["seed"]),
            stop_reason=StopReason(values["stop_reason"]),
            similarity=float(values["similarity"]),
            library=str(values["library"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(source / VALUES, f"a field is missing or wrong ({error})") from error


def is_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a model, whole or damaged."""
    return (Path(folder) / VALUES).is_file() or (Path(folder) / TENSORS).is_file()


def _refuse_other_things(target: Path) -> None:
    """Replacing removes the folder, so it must hold a model and nothing else."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputExistsError(f"{target} is not a model folder, so it is not replaced. Choose another name.")
    others = sorted({entry.name for entry in target.iterdir()} - {TENSORS, VALUES})
    if others:
        raise OutputExistsError(
            f"{target} holds other things than a model ({', '.join(others[:3])}), so it is not replaced. "
            "Choose another folder."
        )


def _read_values(source: Path) -> dict[str, Any]:
    if not source.is_dir():
        raise FileError(f"No model at {source}: a model is a folder with {TENSORS} and {VALUES}.")
    path = source / VALUES
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"No model at {source}: {VALUES} is missing.") from error
    except OSError as error:
        raise FileError(f"Can't read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _damaged(path, f'it does not say "format": "{FORMAT}"')
    version = values.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, f"its format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise ModelFormatError(
            f"{source} has model format {version} (written by cosmeans {values.get('library')}); this one "
            f"reads up to {FORMAT_VERSION}. Upgrade with: pip install --upgrade cosmeans."
        )
    return values


def _read_tensors(source: Path, values: dict[str, Any]) -> dict[str, Tensor]:
    path = source / TENSORS
    try:
        digest = _digest(path)
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise _damaged(path, "the file is missing") from error
    except OSError as error:
        raise FileError(f"Can't read {path}: {error.strerror}.") from error
    except SafetensorError as error:
        raise _damaged(path, f"it is truncated or not safetensors ({error})") from error
    shape = (values.get("n_clusters"), values.get("n_features"))
    expected = {"centroids": (torch.float32, shape), "counts": (torch.int64, shape[:1])}
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != expected:
        raise _damaged(path, f"it holds {found}, but {VALUES} says {expected}")
    if digest != values.get("sha256"):
        raise _damaged(path, f"its contents differ from the checksum in {VALUES}")
    return tensors


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, reason: str) -> ModelFormatError:
    return ModelFormatError(f"{path} is damaged: {reason}. Restore it from a copy, or fit again.")

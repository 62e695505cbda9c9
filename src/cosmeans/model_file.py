"""A fitted model in a folder: `model.safetensors` (tensors), `model.json` (the rest); see docs/format.md.

Whatever is read is checked before anybody uses it, and what is written passes the same checks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from cosmeans import sphere
from cosmeans.atomic import new_folder, put_back, refuse_existing
from cosmeans.digests import model_digest
from cosmeans.errors import FileError, InputError, ModelFormatError, OutputExistsError
from cosmeans.options import OPTIONS, check_start, check_switch
from cosmeans.paths import as_path
from cosmeans.printable import brief
from cosmeans.reading import open_regular, read_bytes, reading
from cosmeans.records import by, each, integer, number, one_of, optional, parse, record, text
from cosmeans.result import History, Iteration, StopReason
from cosmeans.system_errors import write_error

FORMAT = "cosmeans model"
FORMAT_VERSION = 3
TENSORS, VALUES = "model.safetensors", "model.json"
_SYSTEM_ERROR = re.compile(r"os error (\d+)")
_ADVICE = "Restore it from a copy, or fit again."
_LARGEST_VALUES = 1 << 28  # bytes of model.json: a million epochs

_MOST = 1.0 + 2.0**-20  # a cosine of two rows of unit length, which they have within 2^-20
_cosine = number(-_MOST, _MOST)
EPOCH = record(
    {
        "similarity": _cosine,
        "shift": number(0.0, 2.0 * _MOST),
        "changed": optional(integer(0)),
        "moved": integer(0),
        "imbalance": number(0.0, 2.0**63),
        "largest": integer(0),
        "empty": integer(0),
    }
)
_OPTIONS = {name: by(option.plain) for name, option in OPTIONS.items()} | {
    "random_state": optional(integer(0)),
    "init": by(check_start),
}
_FIELDS = {
    "library": text,
    "n_clusters": integer(1),
    "n_features": integer(1),
    "seed": integer(0),
    "stop_reason": optional(one_of(StopReason)),
    "similarity": optional(_cosine),
    "options": record(_OPTIONS, sparse=True),
    "history": each(EPOCH),
    "sha256": text,
}


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a fit leaves behind, or centroids that were set and not fitted yet.

    centroids    (K, D) float32, unit length; the same bits come back
    counts       (K,) int64: rows of each cluster; None without a fit
    options      the parameters of the fit, plain JSON values
    history      all epochs so far
    seed         what every random choice came from
    stop_reason  why the last fit ended; None without a fit
    similarity   mean cosine under these centroids; None without a fit
    library      version of cosmeans that wrote the model
    """

    centroids: Tensor
    counts: Tensor | None
    options: dict[str, Any]
    history: History
    seed: int
    stop_reason: StopReason | None
    similarity: float | None
    library: str

    @property
    def digest(self) -> str:
        """As `KMeans.digest`."""
        last = [] if self.similarity is None else [self.similarity]
        return model_digest(self.centroids, [*self.history.similarities, *last])


def save_model(folder: str | os.PathLike[str], state: ModelState, force: bool = False, known: str | None = None) -> str:
    """Write a model folder, whole or not at all; returns the checksum of its files.

    known  the checksum of a folder that may be replaced without force: what an earlier call returned

    Raises OutputExistsError if the folder exists (force replaces a model, and nothing but a model), InputError for
    values that `load_model` would refuse, and WriteError if the disk refuses; then the older model is still there.
    """
    target, force = as_path(folder, "folder"), check_switch("force", force)
    force = force or (known is not None and _checksum(target) == known)
    refuse_existing(target, force)
    _refuse_other_things(target)
    found = {"centroids": state.centroids, "counts": state.counts}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items() if tensor is not None}
    values = {
        "format": FORMAT,
        "format_version": _version_of(state.history),
        "library": state.library,
        "n_clusters": state.centroids.shape[0],
        "n_features": state.centroids.shape[1],
        "seed": state.seed,
        "stop_reason": None if state.stop_reason is None else state.stop_reason.value,
        "similarity": state.similarity,
        "options": state.options,
        "history": state.history.to_json(),
    }
    try:
        _check_values(values | {"sha256": ""})
        _check_tensors(tensors)
    except ValueError as error:
        raise InputError(f"{error}, so this model can't be saved. Fit again.") from error
    with new_folder(target, force, owned=(TENSORS, VALUES)) as temporary:
        try:
            save_file(tensors, temporary / TENSORS)
        except SafetensorError as error:  # the system's error is in its text alone
            number = _SYSTEM_ERROR.search(str(error))
            cause = OSError(int(number[1]) if number else 0, "the file of tensors can't be written")
            raise write_error(Path(target), cause) from error
        values["sha256"] = _digest(temporary / TENSORS)
        written = json.dumps(values, indent=1, allow_nan=False) + "\n"
        (temporary / VALUES).write_text(written, encoding="utf-8")
        shutil.copymode(temporary / VALUES, temporary / TENSORS)  # safetensors' own is for the owner's eyes only
    return hashlib.sha256(f"{values['sha256']} {written}".encode()).hexdigest()


def _version_of(history: History) -> int:
    """The oldest format that holds this history: earlier than 3, each epoch has a number of changed rows."""
    return FORMAT_VERSION if any(epoch.changed is None for epoch in history) else FORMAT_VERSION - 1


def _checksum(folder: Path) -> str | None:
    """Of both files as they are; None where they can't be read."""
    try:
        return hashlib.sha256(
            f"{_digest(folder / TENSORS)} ".encode() + read_bytes(folder / VALUES, _LARGEST_VALUES)
        ).hexdigest()
    except FileError:
        return None


def load_model(folder: str | os.PathLike[str]) -> ModelState:
    """Read a model folder and check every value. Fields that this version doesn't know are ignored.

    Raises FileError if there is none, ModelFormatError, which names the field, if it is damaged or newer.
    """
    source = as_path(folder, "folder")
    put_back(source)
    values = _read_values(source)
    tensors = _read_tensors(source, values)
    return ModelState(
        centroids=tensors["centroids"],
        counts=tensors.get("counts"),
        options=values["options"],
        history=History([Iteration(**epoch) for epoch in values["history"]]),
        seed=values["seed"],
        stop_reason=values["stop_reason"],
        similarity=values["similarity"],
        library=values["library"],
    )


def is_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a model, whole or damaged."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in (VALUES, TENSORS))


def _refuse_other_things(target: Path) -> None:
    """Replacing removes the folder, so it must hold a model and nothing else."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputExistsError(f"{target} is not a model folder, so it is not replaced. Choose another name.")
    others = sorted({entry.name for entry in target.iterdir()} - {TENSORS, VALUES})
    if others:
        raise OutputExistsError(
            f"{target} also holds files that are not part of a model ({', '.join(others[:3])}), so it is not replaced. "
            "Choose another folder."
        )


def _read_values(source: Path) -> dict[str, Any]:
    if not os.path.isdir(source):  # whatever the system says of a path that is none
        raise FileError(f"No model at {source}: a model is a folder with {TENSORS} and {VALUES}.")
    path = source / VALUES
    if not os.path.lexists(path):
        raise FileError(f"No model at {source}: {VALUES} is missing.")
    contents = read_bytes(path, _LARGEST_VALUES)
    try:
        values = parse(contents.decode("utf-8"))
    except ValueError as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _damaged(path, f'it does not say "format": "{FORMAT}"')
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _damaged(path, f"its format_version is {brief(version)}")
    if version > FORMAT_VERSION:
        raise ModelFormatError(
            f"{source} has model format {version} (written by cosmeans {values.get('library')}); this one "
            f"reads up to {FORMAT_VERSION}. Upgrade with: pip install --upgrade cosmeans."
        )
    try:
        return _check_values(values)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _check_values(values: dict[str, Any]) -> dict[str, Any]:
    """The fields that are known, checked. Raises ValueError that names the field."""
    checked: dict[str, Any] = record(_FIELDS)(values, "")
    fitted = checked["stop_reason"] is not None
    if (checked["similarity"] is not None) is not fitted:
        raise ValueError("stop_reason and similarity must both be null (centers that were set) or neither")
    if checked["history"] and not fitted:
        raise ValueError("history must be empty where stop_reason is null")
    return checked


def _check_tensors(tensors: dict[str, Tensor]) -> None:
    """Raises ValueError unless centroids have unit length and counts are numbers of rows."""
    squared = sphere.squared_norms(tensors["centroids"])
    bad = sphere.first_not_unit(squared)
    if bad is not None:
        raise ValueError(f"centroids: row {bad} must have length 1; it is {float(squared[bad]) ** 0.5:.7g}")
    counts = tensors.get("counts")
    if counts is not None and int(counts.min()) < 0:
        raise ValueError(f"counts: every cluster must have 0 rows or more; one has {int(counts.min())}")
    if counts is not None and float(counts.to(torch.float64).sum()) >= 2.0**63:
        raise ValueError("counts: their sum must be a number of rows below 2^63")


def _read_tensors(source: Path, values: dict[str, Any]) -> dict[str, Tensor]:
    path = source / TENSORS
    if not os.path.lexists(path):
        raise _damaged(path, "the file is missing")
    if _digest(path) != values["sha256"]:
        raise _damaged(path, f"its contents differ from the checksum in {VALUES}")
    with reading(path, ModelFormatError, _ADVICE):
        tensors = _known_tensors(path)
    shape = (values["n_clusters"], values["n_features"])
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {"centroids": (torch.float32, shape)}
    if values["stop_reason"] is not None:
        expected["counts"] = (torch.int64, shape[:1])
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != expected:
        raise _damaged(path, f"it holds {found}, but {VALUES} says {expected}")
    try:
        _check_tensors(tensors)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    return tensors


def _known_tensors(path: Path) -> dict[str, Tensor]:
    known = {"centroids", "counts"}
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:  # safetensors opens no such file, but names may be any bytes
        return {name: tensor for name, tensor in load(path.read_bytes()).items() if name in known}
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in sorted(known & set(file.keys()))}


def _digest(path: Path) -> str:
    with open_regular(path) as file, reading(path):
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it does have readinto


def _damaged(path: Path, reason: str) -> ModelFormatError:
    return ModelFormatError(f"{path} is damaged: {reason}. {_ADVICE}")

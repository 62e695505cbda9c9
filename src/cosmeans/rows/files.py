"""Arrays from files: `.npy` and `.safetensors` are mapped into memory, `.npz` and `.pt` are read."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cosmeans.errors import FileError, InputError, OptionError

Array = np.ndarray | Tensor


def open_file(path: str | os.PathLike[str], key: str | None = None, n_dims: int = 2) -> Array:
    """The array of a file, as it lies there: dtype kept, bfloat16 too; mapped files are never copied.

    key     which array, for files that hold several
    n_dims  2 for rows (N, D), 1 for weights (N,)

    Raises FileError (missing, unreadable, truncated, pickled, unknown kind), OptionError (key missing or
    unknown) and InputError (another number of dimensions).
    """
    source = Path(path)
    if source.is_dir():
        raise FileError(f"{source} is not a file. Pass one of the files in it.")
    read = _READERS.get(source.suffix.lower())
    if read is None:
        known = ", ".join(_READERS)
        raise FileError(f"{source} is of an unknown kind ({source.suffix or 'no suffix'}). Known: {known}.")
    if not source.exists():
        raise FileError(f"No such file: {source}.")
    try:
        array = read(source, key)
    except FileError:
        raise
    except PermissionError as error:
        raise FileError(f"Can't read {source}: permission denied.") from error
    except (EOFError, OSError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise _broken(source, error) from error
    if array.ndim != n_dims:
        needed = "rows of shape (N, D)" if n_dims == 2 else f"{n_dims} dimension"
        raise InputError(f"{source} holds an array of shape {tuple(array.shape)}; needed: {needed}.")
    return array


def _read_npy(source: Path, key: str | None) -> Array:
    if key is not None:
        raise OptionError(f"key={key!r}: {source} is a .npy file, which holds one array. Leave the key away.")
    try:
        return np.lib.format.open_memmap(source, mode="r")
    except ValueError as error:
        if "Python objects" in str(error):
            raise _pickled(source) from error
        raise _broken(source, error) from error


def _read_npz(source: Path, key: str | None) -> Array:
    if not zipfile.is_zipfile(source):
        raise _broken(source, "not a .npz archive")
    with np.load(source, allow_pickle=False) as archive:
        name = _pick(source, archive.files, key)
        try:
            return np.asarray(archive[name])
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise _pickled(source) from error
            raise _broken(source, error) from error


def _read_torch(source: Path, key: str | None) -> Array:
    # mmap needs the zip format, which torch writes since 1.6; older files are pickle streams
    mapped = zipfile.is_zipfile(source)
    if not mapped and _first_bytes(source, len(pickle.PROTO)) != pickle.PROTO:
        raise _broken(source, "not a file of torch.save")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{source} holds other things than tensors, or is damaged. Only tensors are loaded, since "
            "anything else could run code; save the tensor alone with torch.save(tensor, path)."
        ) from error
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise _broken(source, error) from error
    if isinstance(loaded, Tensor):
        if key is not None:
            raise OptionError(f"key={key!r}: {source} holds one tensor without a name. Leave the key away.")
        return loaded
    if not isinstance(loaded, Mapping):
        raise FileError(f"{source} holds a {type(loaded).__name__}; needed: a tensor, or a dict of tensors.")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    return tensors[_pick(source, list(tensors), key)]


def _read_safetensors(source: Path, key: str | None) -> Array:
    with safe_open(source, framework="pt") as archive:
        return archive.get_tensor(_pick(source, list(archive.keys()), key))


def _first_bytes(source: Path, count: int) -> bytes:
    with source.open("rb") as file:
        return file.read(count)


def _pick(source: Path, names: list[str], key: str | None) -> str:
    listed = ", ".join(sorted(names)) or "none"
    if key is not None:
        if key not in names:
            raise OptionError(f"key={key!r}: no such array in {source}. It holds: {listed}.")
        return key
    if len(names) != 1:
        raise OptionError(f"{source} holds {len(names)} arrays; name one with key (--key). It holds: {listed}.")
    return names[0]


def _broken(source: Path, reason: Any) -> FileError:
    text = str(reason).strip().splitlines() or [type(reason).__name__]
    return FileError(f"{source} is truncated or damaged ({text[0][:200]}). Copy or write the file again.")


def _pickled(source: Path) -> FileError:
    return FileError(
        f"{source} holds pickled Python objects, which could run code and are never loaded. "
        "Save a plain numeric array with numpy.save."
    )


_READERS: dict[str, Callable[[Path, str | None], Array]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}

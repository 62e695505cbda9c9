"""Arrays from files: `.npy` and `.safetensors` are mapped into memory, `.npz` and `.pt` are read.

No size that a file declares is believed before it was compared with the file and with the memory that there is.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import pickletools
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import held
from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.reading import damaged, require_memory, size_words
from cosmeans.rows.place import Place
from cosmeans.rows.ranges import StoredArray
from cosmeans.rows.remote import place_of

Array = np.ndarray | Tensor | StoredArray

_BY_RANGES = (".npy", ".safetensors")
_LONGEST_NPY_HEADER = 10_000  # what NumPy reads without being asked
_LONGEST_SAFETENSORS_HEADER = 100_000_000  # the format's own limit
_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def open_array(path: str | os.PathLike[str] | Place, key: str | None = None, n_dims: int = 2) -> Array:
    """The array of a file, as it is stored: dtype kept, bfloat16 too; mapped files are never copied.

    Behind a URL, rows of .npy and .safetensors files are read by ranges, and the other kinds are fetched as a whole.

    key     which array, for files that hold several
    n_dims  2 for rows (N, D), 1 for weights (N,)

    Raises FileError (missing, not a regular file, unreadable, damaged, larger than the memory, pickled, unknown
    kind), OptionError (key missing or unknown) and InputError (another number of dimensions).
    """
    source = place_of(path)
    if not source.remote and source.is_folder():
        raise FileError(f"{source} is not a file. Pass one of the files in it.")
    suffix = source.path.suffix.lower()
    read = ARRAY_FILES.get(suffix)
    if read is None:
        source.require()
        raise FileError(
            f"{source} has an unsupported file type ({source.path.suffix or 'no suffix'}). Supported: "
            f"{', '.join(ARRAY_FILES)}."
        )
    with source.reading(), source.open() if suffix in _BY_RANGES else source.open_whole() as file:
        array = read(source, file, key)
    if array.ndim != n_dims:
        needed = "rows of shape (N, D)" if n_dims == 2 else f"{n_dims} dimension"
        raise InputError(f"{source} holds an array of shape {tuple(array.shape)}; expected {needed}.")
    return array.whole() if isinstance(array, StoredArray) and n_dims != 2 else array


def _read_npy(source: Place, file: BinaryIO, key: str | None) -> Array:
    if key is not None:
        raise OptionError(f"key={key!r}: {source} is a .npy file, which holds one array. Remove the key.")
    size = source.size(file)
    shape, fortran_order, dtype = _npy_header(source, file, size)
    _require_stored(source, math.prod(shape) * dtype.itemsize, size - file.tell())
    return source.array(file, dtype, file.tell(), shape, "F" if fortran_order else "C")


def _read_npz(source: Place, file: BinaryIO, key: str | None) -> Array:
    if not zipfile.is_zipfile(file):
        raise damaged(source.name, "not a .npz archive")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        member = members[names.index(_pick(source, names, key))]
        with archive.open(member) as stored:
            shape, _, dtype = _npy_header(source, stored, member.file_size)
            _require_stored(source, math.prod(shape) * dtype.itemsize, member.file_size - stored.tell())
        require_memory(source.name, member.file_size, "unpacks to")
        with archive.open(member) as stored:
            return np.asarray(np.lib.format.read_array(stored, allow_pickle=False))


def _npy_header(source: Place, file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of a .npy file of `size` bytes; leaves the file at its first entry."""
    version = np.lib.format.read_magic(file)
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(_LONGEST_NPY_HEADER, size):
        raise damaged(source.name, f"it declares a header of {size_words(length)}")
    file.seek(-width, os.SEEK_CUR)
    # version 3 differs from 2 in the names of fields, which no rows have
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise FileError(
            f"{source} holds pickled Python objects, which could run code and are never loaded. "
            "Save a plain numeric array with numpy.save."
        )
    if any(length < 0 for length in shape):
        raise damaged(source.name, f"it declares the shape {shape}")
    return shape, fortran_order, dtype


def _read_torch(source: Place, file: BinaryIO, key: str | None) -> Array:
    # mmap needs the zip format, which torch writes since 1.6; older files are pickle streams
    mapped = zipfile.is_zipfile(file)
    file.seek(0)
    if not mapped and file.read(len(pickle.PROTO)) != pickle.PROTO:
        raise damaged(source.name, "not a file of torch.save")
    _refuse_unpacking(source, file) if mapped else _refuse_other_things(source, file, 4)
    try:
        file.seek(0)
        opened = source.handle(file)
        loaded = torch.load(opened, map_location="cpu", weights_only=True, mmap=mapped and not source.remote)
    except pickle.UnpicklingError as error:
        raise _other_things(source) from error
    if isinstance(loaded, Tensor):
        if key is not None:
            raise OptionError(f"key={key!r}: {source} holds one tensor without a name. Remove the key.")
        return _of_true_size(source, loaded)
    if not isinstance(loaded, Mapping):
        raise FileError(f"{source} holds a {type(loaded).__name__}; expected a tensor, or a dict of tensors.")
    tensors = [(str(name), value) for name, value in loaded.items() if isinstance(value, Tensor)]
    names = [name for name, _ in tensors]
    return _of_true_size(source, tensors[names.index(_pick(source, names, key))][1])


def _refuse_unpacking(source: Place, file: BinaryIO) -> None:
    """torch stores what it saves as it is: a record that is packed, or says that it is larger, is not torch's."""
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
                raise damaged(source.name, f"{record.filename} declares {size_words(record.file_size)} in packed form")
        for record in archive.infolist():
            if record.filename.endswith("data.pkl"):
                with archive.open(record) as stored:
                    _refuse_other_things(source, stored, 1)


def _refuse_other_things(source: Place, file: IO[bytes], pickles: int) -> None:
    """Raise for pickles that ask for bytearrays: torch makes them of any size that a few bytes declare."""
    file.seek(0)
    for _ in range(pickles):
        for opcode, argument, _ in pickletools.genops(file):
            if "GLOBAL" in opcode.name and str(argument).endswith("bytearray"):
                raise _other_things(source)


def _of_true_size(source: Place, tensor: Tensor) -> Tensor:
    """The tensor, unless its shape declares more than is stored and more than fits into memory."""
    if tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized:
        declared = tensor.numel() * tensor.element_size()
        if declared > tensor.untyped_storage().nbytes():  # the same entries under many indices: expanded
            require_memory(source.name, declared, "declares")
    return tensor


def _read_safetensors(source: Place, file: BinaryIO, key: str | None) -> Array:
    size = source.size(file)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_SAFETENSORS_HEADER):
        raise damaged(source.name, f"it declares a header of {size_words(length)} in a file of {size_words(size)}")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_once)
    header.pop("__metadata__", None)
    end = 0
    for entry in sorted(header.values(), key=lambda entry: entry["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or stop < start:
            raise damaged(source.name, "its arrays are not contiguous")
        end = stop
    _require_stored(source, end, size - 8 - length)
    name = _pick(source, list(header), key)
    shape, (start, stop) = header[name]["shape"], header[name]["data_offsets"]
    dtype = _SAFETENSORS_TYPES.get(header[name]["dtype"])
    if dtype is None:
        known = ", ".join(_SAFETENSORS_TYPES)
        raise FileError(f"{source}: {name} has the type {header[name]['dtype']!r}. Known: {known}.")
    if any(type(length) is not int or length < 0 for length in shape):
        raise damaged(source.name, f"it declares the shape {shape}")
    if math.prod(shape) * dtype.itemsize != stop - start:
        raise damaged(source.name, f"{name} declares the shape {shape} in {size_words(stop - start)}")
    if stop == start:
        return torch.empty(shape, dtype=dtype, device="cpu")
    stored = source.array(file, np.uint8, 8 + length + start, (stop - start,))
    if isinstance(stored, StoredArray):
        return stored.of(dtype, tuple(shape))
    if (8 + length + start) % dtype.itemsize:  # no number begins where a processor reads one
        require_memory(source.name, stop - start, "holds")
        stored = np.array(stored)
    return held(stored).view(dtype).reshape(shape)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names differ."""
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise ValueError("a name appears twice")
    return found


def _require_stored(source: Place, declared: int, stored: int) -> None:
    if declared > stored:
        raise damaged(source.name, f"it declares {size_words(declared)} and holds {size_words(stored)}")


def _pick(source: Place, names: list[str], key: str | None) -> str:
    listed = ", ".join(sorted(names)) or "none"
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise FileError(
            f"{source} holds several arrays with the name {twice[0]!r} (names are compared as strings). "
            "Save it again with a name for each."
        )
    if key is not None:
        if key not in names:
            raise OptionError(f"key={key!r}: no such array in {source}. It holds: {listed}.")
        return key
    if len(names) != 1:
        raise OptionError(f"{source} holds {len(names)} arrays; name one with key (--key). It holds: {listed}.")
    return names[0]


def _other_things(source: Place) -> FileError:
    return FileError(
        f"{source} holds objects other than tensors, or is damaged. Only tensors are loaded, since "
        "anything else could run code; save the tensor alone with torch.save(tensor, path)."
    )


ARRAY_FILES: dict[str, Callable[[Place, BinaryIO, str | None], Array]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}

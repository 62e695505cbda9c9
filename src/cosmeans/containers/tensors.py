"""Tensors, and arrays of other libraries that become tensors over the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from cosmeans.containers.converted import ConvertedRows, Rows, floating
from cosmeans.containers.nouns import refusal
from cosmeans.errors import BackendUnavailableError, InputError, InputTypeError

_COMPUTED = {
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8),
}
_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}


def checked_tensor(values: Tensor, name: str, wide: type[np.floating[Any]] = np.float32) -> Rows:
    """A dense tensor of real numbers that has values, without its gradient; uncopied where torch computes with it."""
    if values.device.type == "meta":
        subject = "The rows are" if name == "Rows" else f"{name} is"
        raise BackendUnavailableError(f"{subject} on meta, where tensors have no values. Pass a tensor with values.")
    if type(values).__name__ in ("UninitializedParameter", "UninitializedBuffer", "FakeTensor"):
        raise InputTypeError(f"{name} must have values, got a {type(values).__name__}. Pass a tensor with values.")
    if hasattr(values, "get_mask"):
        raise InputTypeError(f"{name} must be plain numbers, got a masked tensor. Use x.to_tensor(float('nan')).")
    if values.is_quantized:
        raise InputTypeError(f"{name} must be plain numbers, got a quantised tensor. Use x.dequantize().")
    if values.is_nested:
        raise InputTypeError(
            f"{name} must be one tensor of rows of one length, got a nested tensor. Use torch.stack(x.unbind()) if all "
            "rows are of one length, or x.to_padded_tensor(0.0) to fill them up with zeros."
        )
    if values.layout is not torch.strided:
        raise InputTypeError(f"{name} must be dense, got layout {values.layout}. Use x.to_dense().")
    if values.dtype.is_complex:
        raise refusal("complex numbers", name, str(values.dtype))
    if values.dtype is torch.bool:
        raise InputTypeError(f"{name} must be real numbers, got torch.bool. Use x.float().")
    values = values.detach().resolve_neg()
    if values.dtype in _COMPUTED:
        return values
    if values.dtype in _UNSIGNED and values.device.type == "cpu":
        return ConvertedRows(values.numpy(), wide)
    float8 = values.dtype.is_floating_point and values.dtype.itemsize == 1 and "e8m0" not in str(values.dtype)
    try:
        return values.to(torch.float16 if float8 else torch.float64 if wide is np.float64 else torch.float32)
    except (RuntimeError, TypeError) as error:
        raise InputTypeError(
            f"{name} must be numbers that torch can convert, got dtype {values.dtype}. Pass x as float32."
        ) from error


def stacked(values: Sequence[Any], name: str) -> Tensor:
    """Tensors of one shape, on one device and of one dtype, as one."""
    for row, value in enumerate(values):
        if not isinstance(value, Tensor):
            missing = "is missing (None)" if value is None else f"is a {type(value).__name__}"
            raise InputError(f"{name} given as a list of tensors: entry {row} {missing}. Pass a tensor for each.")
        if value.is_nested or value.layout is not torch.strided or value.is_quantized:
            raise InputTypeError(
                f"{name} given as a list of tensors: entry {row} is not a dense, plain tensor. "
                "Use x.to_dense(), x.dequantize() or x.to_padded_tensor(0.0) for it."
            )
        if value.shape != values[0].shape or value.device != values[0].device:
            raise InputError(
                f"{name} given as a list of tensors must be of one shape and on one device: entry {row} has shape "
                f"{tuple(value.shape)} on {value.device}, entry 0 has shape {tuple(values[0].shape)} on "
                f"{values[0].device}. Pass entries that agree."
            )
        if value.dtype in (torch.bool, torch.complex64, torch.complex128):
            checked_tensor(value, f"{name} given as a list of tensors (entry {row})")
    if len({value.dtype for value in values}) == 1:
        return torch.stack([value.detach() for value in values])
    wide = torch.float64 if any(value.dtype is torch.float64 for value in values) else torch.float32
    return torch.stack([floating(value.detach()).to(wide) for value in values])


def tensor_of(values: Any, name: str) -> Any:
    """The tensor of a TensorDataset that has one; anything but data sets of torch as it is.

    Raises InputTypeError for one of several tensors, and for data sets whose items are tuples.
    """
    if isinstance(values, TensorDataset):
        if len(values.tensors) == 1:
            return values.tensors[0]
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in values.tensors)
        raise InputTypeError(
            f"{name} came as a TensorDataset of {len(values.tensors)} tensors, of shapes {shapes}. Pass the one with "
            "the rows: dataset.tensors[0]."
        )
    first = values[0] if isinstance(values, Dataset) and hasattr(values, "__len__") and len(values) else None
    if isinstance(first, list | tuple):
        raise InputTypeError(
            f"{name} came as a {type(values).__name__}, whose items are of type {type(first).__name__}. Pass "
            "torch.utils.data.DataLoader(dataset, batch_size=4096), of which the first entry of each batch is read."
        )
    return values


def by_dlpack(values: Any) -> bool:
    """Whether values come from a library that hands its memory out by DLPack, and have no better way."""
    library = type(values).__module__.partition(".")[0]
    return hasattr(values, "__dlpack__") and not isinstance(values, Tensor | np.ndarray) and library != "pyarrow"


def through_dlpack(values: Any, name: str = "Rows") -> Any:
    """Arrays of other libraries (CuPy, JAX) as tensors over the same memory, wherever it is; anything else as it is."""
    if not by_dlpack(values):
        return values
    try:
        return torch.utils.dlpack.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if hasattr(values, "__array__"):  # read-only memory and types that DLPack has no word for
            return values
        raise InputTypeError(
            f"{name} of type {type(values).__name__} can't be taken through DLPack: {error}. Pass a tensor or an array."
        ) from error

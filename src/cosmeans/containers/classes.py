"""Known classes of rows: anything that can be told apart, one per row."""

from __future__ import annotations

from collections.abc import Sized
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.frames import library
from cosmeans.containers.nouns import is_null
from cosmeans.containers.tensors import checked_tensor, through_dlpack
from cosmeans.errors import InputError, InputTypeError


def read_classes(classes: Any, n_rows: int) -> np.ndarray:
    """A number for the class of each row, (N,) int64: equal classes have equal numbers.

    classes  integers, text, categories or other values that Python can hash: an array, a tensor, a list or a column

    Raises InputError for another shape, and for a class that is missing (None, NaN, NA, NaT, masked): rows without a
    class don't form one together. InputTypeError for what can't be a class.
    """
    values = _as_array(classes)
    if values.shape != (n_rows,):
        raise InputError(f"classes have shape {values.shape}; {n_rows} rows need one class each, shape ({n_rows},).")
    missing = _missing(values)
    if missing.any():
        row, count = int(missing.argmax()), int(missing.sum())
        others = f", and so are {count - 1} more" if count > 1 else ""
        raise InputError(
            f"classes[{row}] is missing ({values[row]}){others}. "
            'Leave such rows out of rows and classes, or give them a class of their own, such as "none".'
        )
    if values.dtype != object:
        return np.unique(values, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    try:
        return np.array([numbers.setdefault(value, len(numbers)) for value in values.tolist()], np.int64)
    except TypeError as error:
        raise InputTypeError(
            f"classes must be integers or text, one per row ({error}). Pass one value per row."
        ) from error


def _as_array(classes: Any) -> np.ndarray:
    """A one-dimensional array whose values are told apart as Python does, or an array of another shape."""
    classes = through_dlpack(classes, "classes")
    if isinstance(classes, Tensor):
        if not classes.is_complex() and classes.dtype is not torch.bool:
            checked_tensor(classes, "classes")  # dense, and with values
        return np.asarray(classes.detach().cpu().tolist() if classes.is_floating_point() else classes.detach().cpu())
    methods = [name for name in ("to_pylist", "tolist", "to_list") if hasattr(classes, name)]
    if methods and library(classes) is not None and not hasattr(classes, "columns"):
        # nulls of pandas, polars and Arrow as None, categories as what they stand for
        classes = getattr(classes, methods[0])()
    if isinstance(classes, np.ma.MaskedArray):
        classes = classes.tolist()
    if isinstance(classes, list | tuple):
        return _from_list(list(classes))
    if not isinstance(classes, np.ndarray) and not hasattr(classes, "__array__"):
        kind = type(classes).__name__
        advice = "list(x)" if isinstance(classes, Sized) else "a list or an array of them"
        raise InputTypeError(f"classes must be an array or a list, one class per row; got a {kind}. Pass {advice}.")
    values = np.asarray(classes)
    # text of several lengths may hold nulls, which NumPy can't sort
    return _from_list(values.tolist()) if values.dtype.kind in "OT" and values.ndim == 1 else values


def _from_list(values: list[Any]) -> np.ndarray:
    """Of one type as NumPy's array of it; of several as objects, since NumPy would make "1" of 1 next to text."""
    if values and len(kinds := set(map(type, values))) == 1 and next(iter(kinds)) in (int, str, bool, float):
        try:
            return np.array(values)
        except OverflowError:  # integers beyond 64 bits are told apart all the same
            pass
    array = np.empty(len(values), dtype=object)
    array[:] = [value.tolist() if isinstance(value, np.generic | np.ndarray | Tensor) else value for value in values]
    return array


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        found = [is_null(value) or _is_nan(value) for value in values.tolist()]
        return np.array(found, dtype=bool)
    if values.dtype.kind in "fc":
        return np.asarray(np.isnan(values))
    return np.isnat(values) if values.dtype.kind in "mM" else np.zeros(len(values), dtype=bool)


def _is_nan(value: Any) -> bool:
    return (isinstance(value, float) and value != value) or (isinstance(value, Decimal) and value.is_nan())

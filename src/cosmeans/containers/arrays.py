"""NumPy arrays, lists and objects as one array of real numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import chain
from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor, nn

from cosmeans.containers.nouns import NUMBERS, VECTORS, is_null, of_dtype, of_type, refusal, refuse_value
from cosmeans.errors import InputError, InputTypeError

_FEW_COLUMNS = 256  # to which sparse rows are reduced
_CONTAINERS = (list, tuple)


def checked_array(values: Any, name: str, wide: type[np.floating[Any]] = np.float32) -> np.ndarray:
    """An array of real numbers, uncopied where it is one already.

    Objects that are numbers become float64; None, NA and masked entries become NaN. An array or a list of vectors of
    one length becomes their table. Raises InputTypeError for what has no cosine, InputError for other shapes.
    """
    _refuse_containers(values, name)
    if isinstance(values, np.ma.MaskedArray):
        return _filled(values, name, wide)
    if isinstance(values, _CONTAINERS):
        return _from_list(values, name)
    array = _as_array(values, name)
    if array.ndim == 0 and array.dtype == object and not is_null(values) and of_type(type(values)) is not None:
        raise _not_an_array(values, name)
    return _judged(array, name)


def _as_array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:
        raise InputTypeError(
            f"{name} of type {type(values).__name__} can't be read as an array ({error}). Pass an array or a tensor."
        ) from error


def _judged(array: np.ndarray, name: str) -> np.ndarray:
    noun = of_dtype(array.dtype)
    if noun == "objects":
        return _from_objects(array, name)
    if noun != NUMBERS:
        raise refusal(noun, name, noun if noun == "booleans" else f"{noun} (dtype {array.dtype})")
    return array


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Numbers that are Python objects, as float64; or vectors, as rows."""
    kinds = set(map(type, array.flat))
    nouns = {kind: noun for kind in kinds if (noun := of_type(kind)) is not None}
    if VECTORS in nouns.values() and (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        return _from_list(list(array.flat), name)
    if nouns:
        place, value = next((place, value) for place, value in np.ndenumerate(array) if type(value) in nouns)
        where = f" at {list(map(int, place))}" if place else ""
        raise refuse_value(value, nouns[type(value)], name, where)
    if any(kind is not type(None) and is_null_type(kind) for kind in kinds):
        array = array.copy()
        array[np.frompyfunc(is_null, 1, 1)(array).astype(bool)] = np.nan
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputTypeError(
            f"{name} must be an array of real numbers, and an entry can't be converted to float64 ({error}). "
            "Leave it out or scale it."
        ) from error


def is_null_type(kind: type) -> bool:
    return kind.__name__ in ("NAType", "NaTType", "MaskedConstant")


def _from_list(values: Sequence[Any], name: str) -> np.ndarray:
    """A list of numbers, or of rows that are lists or arrays; every entry is judged, since NumPy mixes types."""
    values = [_plain_row(value, name) for value in values]
    if _check_entries(values, name):
        values = [[None if is_null(entry) else entry for entry in row] for row in values]
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _ragged(values, name) or InputError(
            f"{name} must be an array of real numbers, and this list has no regular shape ({error}). "
            "Pass rows of one length."
        ) from error
    if array.dtype != object:
        return _judged(array, name)
    if array.ndim == 1 and len(array) and of_type(type(array[0])) == VECTORS and (odd := _ragged(values, name)):
        raise odd
    if array.ndim == 1 and len(array) and any(of_type(type(value)) == VECTORS for value in array):
        # arrays of objects, each of the same length
        array = np.array([list(row) for row in values], dtype=object)
    return _from_objects(array, name)


def _plain_row(value: Any, name: str) -> Any:
    """One entry of a list: rows that other libraries hold as arrays of NumPy, masked entries of theirs as NaN."""
    if isinstance(value, np.ma.MaskedArray):
        return _filled(value, name, np.float64)
    if isinstance(value, np.ndarray | np.generic | list | tuple) or not hasattr(value, "__array__"):
        return value
    return _as_array(value, f"{name}: a row")


def _check_entries(values: Sequence[Any], name: str) -> bool:
    """Raise for the first entry that is not a number, row by row: NumPy would take True for 1 and 2 for "2".

    Returns whether rows that are lists hold masked entries, of which NumPy would warn.
    """
    masked = False
    for row, value in enumerate(values):
        if isinstance(value, np.ndarray):
            noun = of_dtype(value.dtype)
            if noun not in (NUMBERS, "objects"):
                raise refusal(noun, name, f"{noun} (dtype {value.dtype})", f" in row {row}")
            kinds: set[type] = set(map(type, value.flat)) if noun == "objects" else set()
        else:
            kinds = set(map(type, value)) if isinstance(value, _CONTAINERS) else {type(value)}
            masked |= np.ma.core.MaskedConstant in kinds
        for kind in kinds:
            if (noun_of := of_type(kind)) is not None and noun_of != VECTORS:
                entries = value if isinstance(value, _CONTAINERS) else [value]
                entries = list(value.flat) if isinstance(value, np.ndarray) else entries
                wrong = next(entry for entry in entries if type(entry) is kind)
                raise refuse_value(wrong, noun_of, name, f" in row {row}")
        if kinds and isinstance(value, _CONTAINERS) and any(issubclass(kind, _CONTAINERS) for kind in kinds):
            _check_entries(list(chain.from_iterable(v for v in value if isinstance(v, _CONTAINERS))), name)
    return masked


def _ragged(values: Sequence[Any], name: str) -> InputError | None:
    """The error for the first row that is missing or of another length than the first."""
    first: int | None = None
    for row, value in enumerate(values):
        if is_null(value):
            return InputError(f"{name}: row {row} is missing ({value}). Leave it out, or give it a vector.")
        length = len(value) if hasattr(value, "__len__") else None
        if row == 0:
            first = length
        if length != first:
            has = "is a single number" if length is None else f"has {length} numbers"
            had = "is a single number" if first is None else f"has {first}"
            return InputError(
                f"{name} must be an array of real numbers, all of one length: row {row} {has}, row 0 {had}. "
                "Leave such rows out, or pad them."
            )
    return None


def _filled(values: np.ma.MaskedArray, name: str, wide: type[np.floating[Any]]) -> np.ndarray:
    """Masked entries are nulls, so NaN; without any the array is taken as it is."""
    data = values.data
    noun = of_dtype(data.dtype)
    if noun not in (NUMBERS, "objects") or not np.ma.is_masked(values):
        return _judged(np.asarray(data), name)
    if noun == "objects":
        return _from_objects(values.filled(None), name)
    with np.errstate(over="ignore"):
        array = data.astype(data.dtype if data.dtype in (np.float16, np.float32, np.float64) else wide)
    array[np.ma.getmaskarray(values)] = np.nan
    return array


def _refuse_containers(values: Any, name: str) -> None:
    """Raise for what NumPy would take for something else than rows, with the way to make rows of it."""
    if issparse(values):
        raise InputTypeError(f"{name} must be dense, got a sparse {type(values).__name__}. {_dense(values)}")
    kind, needed = type(values).__name__, f"{name} must be an array, a tensor or a list of rows"
    if isinstance(values, nn.Module):
        advice = "Use x.weight." if hasattr(values, "weight") else "Pass what it computes for your data."
        raise InputTypeError(f"{needed}, got a {kind}, a module of torch. {advice}")
    if isinstance(values, Mapping) and not hasattr(values, "__array__"):
        raise InputTypeError(f"{needed}, got a {kind}. Put its rows into a list first: list(x.values()).")
    if isinstance(values, Iterator | Set | ValuesView):
        raise InputTypeError(f"{needed}, got a {kind}. Put the rows into a list first: list(x).")


def _dense(values: Any) -> str:
    """How sparse rows become dense ones: many columns by a decomposition that never holds all entries."""
    size = math.prod(values.shape) * values.dtype.itemsize
    if len(values.shape) != 2 or values.shape[1] <= _FEW_COLUMNS:
        return "Use x.toarray()."
    return (
        f"Reduce its {values.shape[1]:,} columns with "
        f"sklearn.decomposition.TruncatedSVD({_FEW_COLUMNS}).fit_transform(x), or use x.toarray(), which takes "
        f"{size / 1e9:,.2f} GB."
    )


def _not_an_array(values: Any, name: str) -> InputTypeError:
    kind, needed = type(values).__name__, f"{name} must be an array of real numbers"
    if isinstance(values, Tensor):
        return InputTypeError(f"{needed}, got a tensor that NumPy can't read. Use x.detach().cpu().")
    for method in ("to_numpy", "compute", "collect", "toPandas", "to_pandas", "numpy"):
        if hasattr(values, method):
            return InputTypeError(f"{needed}, got a {kind}. Pass x.{method}().")
    if isinstance(values, Iterable):
        return InputTypeError(f"{needed}, got a {kind}. Put the rows into a list first: list(x).")
    return InputTypeError(f"{needed}, got a {kind}. Pass an array, a tensor or a list of rows.")

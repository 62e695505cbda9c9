"""Rows that come in batches: what may be iterated again and again, and the rows of one batch."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Set, ValuesView
from typing import Any

from scipy.sparse import issparse
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from cosmeans.containers.converted import Rows
from cosmeans.containers.frames import column_names, library
from cosmeans.containers.read import read_numbers
from cosmeans.errors import InputError, InputTypeError

_WHOLE = ("__array__", "__array_interface__", "__dlpack__", "__arrow_c_stream__")  # of what is rows itself
_OTHERS = (type, nn.Module, Mapping, Set, ValuesView, str, bytes)
_RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_EMBEDDING = "embedding"  # the entry of a batch that needs no other reason to be taken
_SHOWN = 20  # names that a message lists


def in_batches(X: Any) -> bool:
    """Whether this gives rows in batches: an iterable or a function, but no container that `read_numbers` reads."""
    if isinstance(X, DataLoader):
        return True
    if isinstance(X, _OTHERS) or issparse(X) or library(X) is not None or any(hasattr(X, name) for name in _WHOLE):
        return False
    if hasattr(X, "__len__") and hasattr(X, "__getitem__"):  # a sequence, which is a list of rows
        return False
    return isinstance(X, Iterable) or callable(X)


def new_iterator(X: Any, name: str) -> Iterator[Any]:
    """The batches from the first one on. X: an object for which `in_batches` holds. name: for messages.

    Raises InputTypeError for what can be read only once, or is not an iterable after all, and InputError for a
    DataLoader that draws its rows at random.
    """
    if isinstance(X, Iterator):
        raise InputTypeError(
            f"{name} must be an array, a tensor, a list of rows, or batches that can be read again; got a "
            f"{type(X).__name__}, which can be read only once. Pass a function that returns a new iterator each time "
            "(the generator function itself, without calling it), or put the rows into a list first: list(x)."
        )
    found = X if isinstance(X, Iterable) else _called(X, name)
    if isinstance(found, DataLoader):
        _refuse_random(found, name)
    return iter(found)


def rows_of_batch(batch: Any, name: str) -> tuple[Rows, bool, list[Any] | None]:
    """The rows of one batch, (B, D) or empty; whether they are a tensor; the names of their columns, if they have any.

    batch  anything that `read_numbers` takes; a tuple or list whose first item is the rows (B, D), as data sets of
           torch give; or a mapping, by its entry "embedding" or its only one of floating numbers in two dimensions
    Raises InputError and InputTypeError.
    """
    held = _rows_in(batch, name)
    rows, tensor = read_numbers(held, name)
    if rows.ndim != 2 and not (rows.ndim > 0 and len(rows) == 0):
        raise InputError(
            f"{name} must have two dimensions (B, D), got shape {tuple(rows.shape)}. Give several rows at once, or "
            "x[None, :] for a single one."
        )
    return rows, tensor, column_names(held)


def _called(function: Any, name: str) -> Iterable[Any]:
    told = getattr(function, "__name__", type(function).__name__)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InputTypeError(
            f"{name}: the function {told} needs arguments ({error}). Pass one without any that returns an iterator of "
            "batches, such as lambda: batches(path)."
        ) from error
    except ValueError:  # a builtin that doesn't tell its arguments
        pass
    found = function()
    if not isinstance(found, Iterable):
        raise InputTypeError(
            f"{name}: the function {told} returned a {type(found).__name__}; expected an iterator of batches. Write it "
            "with yield, or let it return an iterator."
        )
    return found


def _refuse_random(loader: DataLoader[Any], name: str) -> None:
    samplers = (loader.sampler, getattr(loader.batch_sampler, "sampler", None))
    if drawn := [type(sampler).__name__ for sampler in samplers if isinstance(sampler, _RANDOM)]:
        raise InputError(
            f"{name}: the DataLoader gives its rows in another order each time ({drawn[0]}), and row numbers, labels "
            "and later passes need one order. Make it with shuffle=False."
        )


def _rows_in(batch: Any, name: str) -> Any:
    if isinstance(batch, Mapping) and not hasattr(batch, "__array__"):
        return _entry(batch, name)
    if isinstance(batch, list | tuple) and len(batch) and _is_table(batch[0]):
        return batch[0]
    return batch


def _entry(batch: Mapping[Any, Any], name: str) -> Any:
    """The entry of a mapping that holds the rows."""
    if _EMBEDDING in batch:
        return batch[_EMBEDDING]
    tables = [key for key, value in batch.items() if _is_table(value) and _is_floating(value)]
    if len(tables) != 1:
        listed = ", ".join(map(repr, list(batch)[:_SHOWN])) or "none"
        raise InputError(
            f"{name}: a batch with the entries {listed}, of which {len(tables)} hold floating numbers in two "
            f'dimensions. Call the one with the rows "{_EMBEDDING}", or give that one alone.'
        )
    return batch[tables[0]]


def _is_table(value: Any) -> bool:
    """Whether this has two dimensions: an array, a frame, or a list of lists."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) == 2
    return isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], list | tuple)


def _is_floating(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value[0]) and isinstance(value[0][0], float)
    return "float" in str(getattr(value, "dtype", ""))

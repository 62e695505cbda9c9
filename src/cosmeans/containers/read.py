"""`read_numbers`: the one door through which rows, weights and centroids come in."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.containers.arrays import checked_array
from cosmeans.containers.converted import Rows, from_numpy
from cosmeans.containers.frames import as_table, from_frame, library
from cosmeans.containers.tensors import by_dlpack, checked_tensor, stacked, tensor_of, through_dlpack


def read_numbers(values: Any, name: str, wide: type[np.floating[Any]] = np.float32) -> tuple[Rows, bool]:
    """Real numbers of any shape, uncopied where that is possible, and whether they came as tensors.

    Takes torch tensors, lists of them and a TensorDataset of one, NumPy arrays and memory maps, lists, frames and
    tables, anything with `__dlpack__` or `__array__`. Integers keep their type: they count by value.
    wide: the type of numbers that torch has no type for.

    Raises InputTypeError for what is not numbers, with the column or the row; InputError for rows of several lengths.
    """
    values = as_table(tensor_of(values, name))
    if library(values) is not None:
        values = from_frame(values, name, wide)
    values = through_dlpack(values, name)
    if isinstance(values, list | tuple) and len(values) and (isinstance(values[0], Tensor) or by_dlpack(values[0])):
        values = stacked([through_dlpack(value, name) for value in values], name)
    if isinstance(values, Tensor):
        return checked_tensor(values, name, wide), True
    return from_numpy(checked_array(values, name, wide), wide), False

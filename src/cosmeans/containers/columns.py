"""Columns of frames and tables, one class for each library: what a column holds, its numbers, its vectors.

None of these libraries is imported: a column of one comes with the library loaded.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from cosmeans.containers.arrays import checked_array
from cosmeans.containers.nouns import NUMBERS, VECTORS, of_dtype, of_type, refuse_value
from cosmeans.errors import InputError, InputTypeError


class Column(Protocol):
    """name; dtype: as a message names it; native: NumPy's dtype of numbers that are all there, else None."""

    name: Any
    dtype: Any

    def noun(self) -> str:
        """NUMBERS, VECTORS, or what it holds instead."""
        ...

    def native(self) -> np.dtype[Any] | None:
        """NumPy's own dtype if the column is an array of it without nulls."""
        ...

    def numbers(self, dtype: Any) -> np.ndarray:
        """(N,) of this floating dtype; a null is NaN."""
        ...

    def vectors(self, name: str) -> np.ndarray | list[Any]:
        """(N, D) or a list of rows. Raises InputError for the first row that is missing or of another length."""
        ...

    def refusal(self, name: str) -> InputTypeError | None:
        """A better error than the noun's, where one entry is what is wrong."""
        ...


class PandasColumn:
    """A Series of pandas, or of a library that looks like it."""

    def __init__(self, name: Any, series: Any) -> None:
        self.name, self.dtype, self._series = name, series.dtype, series

    def noun(self) -> str:
        dtype = self.dtype
        if isinstance(dtype, np.dtype):
            noun = of_dtype(dtype)
            return self._of_objects() if noun == "objects" else noun
        kind = type(dtype).__name__
        if kind in ("StringDtype", "CategoricalDtype", "SparseDtype", "PeriodDtype", "DatetimeTZDtype"):
            return {"S": "text", "C": "categories"}.get(kind[0], "dates") if kind != "SparseDtype" else "sparse values"
        if getattr(dtype, "kind", "O") in "biuf":
            return of_dtype(np.dtype("?" if dtype.kind == "b" else f"{dtype.kind}8"))
        return f"values of dtype {dtype}"

    def _of_objects(self) -> str:
        nouns = {of_type(kind) for kind in set(map(type, self._series.array))}
        return NUMBERS if nouns <= {None} else VECTORS if nouns <= {None, VECTORS} else "objects"

    def native(self) -> np.dtype[Any] | None:
        return self.dtype if isinstance(self.dtype, np.dtype) and self.dtype.kind in "fiu" else None

    def numbers(self, dtype: Any) -> np.ndarray:
        if isinstance(self.dtype, np.dtype):
            return checked_array(self._series.to_numpy(), str(self.name)).astype(dtype)
        found: np.ndarray = self._series.to_numpy(dtype=dtype, na_value=np.nan)
        return found

    def vectors(self, name: str) -> list[Any]:
        return list(self._series.array)

    def refusal(self, name: str) -> InputTypeError | None:
        if self.noun() != "objects":
            return None
        for row, value in enumerate(self._series.array):
            if (noun := of_type(type(value))) is not None:
                return refuse_value(value, noun, name, f" in{_column(self.name)} row {row}")
        return None


class PolarsColumn:
    """A Series of polars."""

    def __init__(self, name: Any, series: Any) -> None:
        self.name, self.dtype, self._series = name, series.dtype, series
        self._polars = sys.modules["polars"]

    def noun(self) -> str:
        kind = str(self.dtype).partition("(")[0]
        if kind in ("List", "Array"):
            inner = PolarsColumn(self.name, self._polars.Series([], dtype=self.dtype.inner)).noun()
            return VECTORS if inner == NUMBERS else f"lists of {inner}"
        if self.dtype.is_numeric() or kind == "Null":
            return NUMBERS
        if kind == "Object":
            nouns = {of_type(type(value)) for value in self._series.to_list()}
            return NUMBERS if nouns <= {None} else VECTORS if nouns <= {None, VECTORS} else "objects"
        names = {
            **dict.fromkeys(("Date", "Datetime", "Time"), "dates"),
            **dict.fromkeys(("Categorical", "Enum"), "categories"),
            **dict.fromkeys(("String", "Utf8", "Binary"), "text"),
            **{"Boolean": "booleans", "Duration": "durations", "Struct": "records"},
        }
        return names.get(kind, f"values of dtype {self.dtype}")

    def native(self) -> np.dtype[Any] | None:
        if not self.dtype.is_numeric() or self._series.null_count() or str(self.dtype).endswith("128"):
            return None
        dtype = self._series[:0].to_numpy().dtype
        return dtype if dtype.kind in "fiu" else None

    def numbers(self, dtype: Any) -> np.ndarray:
        if str(self.dtype) == "Object":
            return checked_array(np.array(self._series.to_list(), dtype=object), str(self.name)).astype(dtype)
        if self.native() is not None:
            found: np.ndarray = self._series.to_numpy()
            return found.astype(dtype, copy=False)
        wanted = self._polars.Float64 if np.dtype(dtype) == np.float64 else self._polars.Float32
        return np.asarray(self._series.cast(wanted).to_numpy())

    def vectors(self, name: str) -> np.ndarray | list[Any]:
        series = self._series
        kind = str(self.dtype).partition("(")[0]
        if kind == "Object":
            return list(series.to_list())
        if series.null_count():
            raise missing(name, self.name, series.is_null().arg_max())
        lengths = (series.list if kind == "List" else series.arr).len().to_numpy()
        check_lengths(lengths, name, self.name)
        inner = PolarsColumn(self.name, series.explode()) if len(lengths) and lengths[0] else None
        if inner is None:
            return np.empty((len(lengths), 0), np.float32)
        dtype = inner.native()
        return inner.numbers(np.float32 if dtype is None else dtype).reshape(len(lengths), -1)

    def refusal(self, name: str) -> InputTypeError | None:
        return None


def _column(name: Any) -> str:
    return "" if name is None else f" column {name!r},"


def missing(name: str, column: Any, row: Any) -> InputError:
    return InputError(f"{name}: row {row}{_of(column)} is missing. Leave it out, or give it a vector.")


def _of(column: Any) -> str:
    return f" of column {column!r}" if column not in (None, "") else ""


def check_lengths(lengths: np.ndarray, name: str, column: Any) -> None:
    """Raise InputError for the first of the vectors that is of another length than the first."""
    odd = lengths != lengths[:1]
    if odd.any():
        row = int(odd.argmax())
        raise InputError(
            f"{name} must be vectors of one length: row {row}{_of(column)} has {lengths[row]} numbers, "
            f"row 0 has {lengths[0]}. Leave such rows out, or pad them."
        )

"""Frames, tables and single columns: one column of vectors is the rows; else every column must be numbers."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from cosmeans.containers.arrow import ArrowColumn
from cosmeans.containers.columns import Column, PandasColumn, PolarsColumn
from cosmeans.containers.nouns import NUMBERS, VECTORS, refusal
from cosmeans.errors import InputError, InputTypeError

_SHOWN = 5  # columns that a message names


def library(values: Any) -> str | None:
    """Which of the libraries of frames an object is of, or looks like; None: no frame, no column."""
    for kind in type(values).__mro__:
        root = kind.__module__.partition(".")[0]
        if root in ("pandas", "polars", "pyarrow"):
            return root
    return "pandas" if hasattr(values, "iloc") and (hasattr(values, "dtypes") or hasattr(values, "dtype")) else None


def as_table(values: Any) -> Any:
    """A table of Arrow, where an object of another library hands one out; else the object itself.

    Those are anything with `__arrow_c_stream__` (DuckDB's relations, say), and data sets of Hugging Face's `datasets`,
    by their indices mapping.
    """
    if library(values) is not None:
        return values
    if type(values).__module__.partition(".")[0] == "datasets" and hasattr(values, "with_format"):
        return values.with_format("arrow")[:]
    if hasattr(values, "__arrow_c_stream__") and not hasattr(values, "__array__"):
        import pyarrow

        return pyarrow.table(values)
    return values


def from_frame(values: Any, name: str, wide: type[np.floating[Any]] = np.float32) -> Any:
    """What a frame, a table or a column holds: an array of numbers, or a list of rows that is still to be judged.

    values is an object that `library` knows. A Series of numbers is one-dimensional.
    """
    _refuse_unread(values, name)
    if library(values) == "pyarrow" and type(values).__name__ == "Tensor":
        return values.to_numpy()
    if getattr(values, "ndim", 1) > 1 and not hasattr(values, "columns") and not hasattr(values, "schema"):
        return values.to_numpy()  # an extension array of pandas that has rows
    columns = _columns(values)
    if columns is None:
        return _from_column(_column(values), name, wide)
    vectors = [column for column in columns if column.noun() == VECTORS]
    if len(vectors) > 1:
        raise InputError(
            f"{name}: {len(vectors)} columns hold vectors ({_names(vectors)}), and one is needed. Pass one: "
            f"x[{vectors[0].name!r}]."
        )
    if vectors:
        return _from_column(vectors[0], name, wide)
    _refuse_others(columns, name)
    natives = [column.native() for column in columns]
    if len(set(natives)) == 1 and natives[0] is not None:
        plain = values.to_numpy() if library(values) == "pandas" else None
        if isinstance(plain, np.ndarray) and plain.dtype == natives[0]:
            return plain  # often the frame's own memory
        return np.stack([column.numbers(natives[0]) for column in columns], axis=1)
    return _mixed(columns, natives, wide) if columns else np.empty((len(values), 0), np.float32)


def column_names(values: Any) -> list[Any] | None:
    """The names of the columns that are features; None where rows have no names, or are vectors of one column."""
    if library(values) is None:
        return None
    columns = _columns(values)
    if columns is None or any(column.noun() == VECTORS for column in columns):
        return None
    return [column.name for column in columns]


def _from_column(column: Column, name: str, wide: type[np.floating[Any]]) -> Any:
    if (error := column.refusal(name)) is not None:
        raise error
    noun = column.noun()
    if noun == VECTORS:
        return column.vectors(name)
    if noun != NUMBERS:
        raise refusal(noun, name, f"{noun} (dtype {column.dtype})")
    native = column.native()
    return column.numbers(wide if native is None else native)


def _refuse_others(columns: list[Column], name: str) -> None:
    """Raise for columns that are not numbers, with their names."""
    wrong = [(column, noun) for column in columns if (noun := column.noun()) != NUMBERS]
    if not wrong:
        for column in columns:
            if (error := column.refusal(name)) is not None:
                raise error
        return
    column, noun = wrong[0]
    if noun == "objects" and (error := column.refusal(name)) is not None:
        raise error
    same = [other for other, its in wrong if its == noun]
    where = f" in column{'s' if len(same) > 1 else ''} {_names(same)}"
    others = [other for other, its in wrong if its != noun]
    also = f" (and other things in {_names(others)})" if others else ""
    raise refusal(noun, name, f"{noun} (dtype {column.dtype})", where + also)


def _mixed(columns: list[Column], natives: list[Any], wide: type[np.floating[Any]]) -> np.ndarray:
    """Columns of several types, each by its values: integers are rounded once, to what rows are computed in."""
    doubles = any(native == np.float64 for native in natives)
    target = np.float64 if doubles or wide is np.float64 else np.float32
    first = columns[0].numbers(target)
    out = np.empty((len(first), len(columns)), target)
    for place, (column, native) in enumerate(zip(columns, natives, strict=True)):
        floats = native is not None and native.kind == "f"
        out[:, place] = column.numbers(target if floats or wide is np.float64 else _rounded(column, native))
    return out


def _rounded(column: Column, native: np.dtype[Any] | None) -> Any:
    """The type in which the numbers of a column that are not plain floats are rounded."""
    integers = native is not None or "int" in str(column.dtype).lower()
    return np.float32 if integers else np.float64


def _columns(values: Any) -> list[Column] | None:
    """The columns of a frame or a table; None for a single column."""
    origin = library(values)
    if origin == "polars" and hasattr(values, "get_columns"):
        return [PolarsColumn(series.name, series) for series in values.get_columns()]
    if origin == "pyarrow" and hasattr(values, "schema"):
        return [ArrowColumn(name, values.column(place)) for place, name in enumerate(values.schema.names)]
    if origin == "pandas" and hasattr(values, "columns"):
        return [_pandas_column(name, values.iloc[:, place]) for place, name in enumerate(values.columns)]
    return None


def _column(values: Any) -> Column:
    origin = library(values)
    if origin == "polars":
        return PolarsColumn(values.name, values)
    if origin == "pyarrow":
        return ArrowColumn(None, values)
    if not hasattr(values, "iloc"):  # an Index or an extension array
        values = sys.modules["pandas"].Series(values)
    return _pandas_column(values.name, values)


def _pandas_column(name: Any, series: Any) -> Column:
    if type(series.dtype).__name__ == "ArrowDtype":
        return ArrowColumn(name, sys.modules["pyarrow"].chunked_array([series.array.__arrow_array__()]))
    return PandasColumn(name, series)


def _refuse_unread(values: Any, name: str) -> None:
    """Frames whose rows are still to be computed or read, and objects of these libraries that are neither."""
    kind = type(values).__name__
    for method in ("collect", "compute", "read_all", "to_table"):
        if hasattr(values, method) and (not hasattr(values, "to_numpy") or method == "compute"):
            raise InputTypeError(f"{name} must be in memory, got a {kind}. Use x.{method}().")
    origin = library(values)
    held = ("columns", "schema", "get_columns", *{"pyarrow": ("type",)}.get(str(origin), ("dtype",)))
    neither = kind == "MultiIndex" or not any(hasattr(values, name) for name in held) or not hasattr(values, "__len__")
    if neither and not (origin == "pyarrow" and kind == "Tensor"):
        raise InputTypeError(
            f"{name} must be a frame, a table or a column of numbers, got a {kind} of {origin}. Pass an array of its "
            "values."
        )


def _names(columns: list[Column]) -> str:
    shown = ", ".join(repr(column.name) for column in columns[:_SHOWN])
    return shown + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")

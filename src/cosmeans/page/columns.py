"""Columns that go with the rows, as filters of the page: few values, or numbers in ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cosmeans.data import NO_LABEL
from cosmeans.errors import InputError, InputTypeError, OptionError
from cosmeans.page.examples import clean
from cosmeans.printable import brief

MAX_VALUES = 24  # of a column: the most frequent ones, and one for all others
MAX_COLUMNS = 12
_RANGES = 5
_OTHER, _EMPTY = "(other)", "(empty)"


@dataclass(frozen=True, slots=True)
class Column:
    """name, its values in the order that a reader expects, and which of them each row has: code (N,) int64."""

    name: str
    values: list[str]
    code: np.ndarray

    def counts(self, labels: np.ndarray, n_clusters: int) -> np.ndarray:
        """Rows of each cluster with each value, (K, values) int64."""
        kept = labels != NO_LABEL
        pairs = labels[kept] * len(self.values) + self.code[kept]
        counted = np.bincount(pairs, minlength=n_clusters * len(self.values))
        return np.asarray(counted.reshape(n_clusters, len(self.values)))


def read_columns(given: Mapping[str, Sequence[Any]] | None, n_rows: int) -> tuple[Column, ...]:
    """Columns (N,) as filters. Raises InputError for one of another length, OptionError for too many."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise InputTypeError(f"columns must be a dict of names and lists, one value per row; got {brief(given)}.")
    if len(given) > MAX_COLUMNS:
        raise OptionError(f"columns has {len(given)} columns; the page shows at most {MAX_COLUMNS}. Choose some.")
    return tuple(_column(str(name), values, n_rows) for name, values in given.items())


def check_column(name: str, given: Any, n_rows: int) -> None:
    """Raise InputTypeError or InputError for a column that is not one value per row."""
    if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        raise InputTypeError(f"columns[{name!r}] must be a list with one value per row; got {brief(given)}.")
    if len(given) != n_rows:
        raise InputError(f"columns[{name!r}] has {len(given):,} values, the rows are {n_rows:,}; pass one per row.")


def _column(name: str, given: Any, n_rows: int) -> Column:
    check_column(name, given, n_rows)
    numbers = _numbers(given)
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) > MAX_VALUES:
        return _ranges(clean(name, 40), numbers)
    texts = [_EMPTY if value is None or value != value or value == "" else clean(str(value), 40) for value in given]
    values, code, count = np.unique(np.array(texts, dtype=object), return_inverse=True, return_counts=True)
    names = [str(value) for value in values]
    if len(names) <= MAX_VALUES:
        if numbers is not None:  # 9 before 10
            order = sorted(range(len(names)), key=lambda place: _sort_key(names[place]))
            rank = np.argsort(order)
            return Column(clean(name, 40), [names[place] for place in order], rank[code])
        return Column(clean(name, 40), names, np.asarray(code))
    frequent = np.sort(np.argsort(-count, kind="stable")[: MAX_VALUES - 1])
    number = np.full(len(names), len(frequent))
    number[frequent] = np.arange(len(frequent))
    return Column(clean(name, 40), [*(names[place] for place in frequent), _OTHER], number[code])


def _numbers(given: Any) -> np.ndarray | None:
    """The column as float64 if all its values are numbers or missing; None otherwise."""
    if any(isinstance(value, str | bytes) for value in given):
        return None
    try:
        return np.array([np.nan if value is None else value for value in given], np.float64)
    except (TypeError, ValueError):
        return None


def _ranges(name: str, numbers: np.ndarray) -> Column:
    """Ranges with about as many rows each."""
    finite = numbers[np.isfinite(numbers)]
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, _RANGES + 1), method="nearest"))
    code = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(edges) - 2)
    last = len(edges) - 2
    names = [
        f"{low:,.6g} to {'' if at == last else 'below '}{high:,.6g}" for at, (low, high) in enumerate(pairwise(edges))
    ]
    if len(finite) == len(numbers):
        return Column(name, names, code)
    return Column(name, [*names, _EMPTY], np.where(np.isfinite(numbers), code, len(names)))


def _sort_key(name: str) -> tuple[int, float]:
    try:
        return 0, float(name)
    except ValueError:
        return 1, 0.0

"""What users hand in, as tensors; and tensors handed back as what came in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.console import warn
from cosmeans.containers.batches import in_batches
from cosmeans.containers.converted import ConvertedRows
from cosmeans.containers.frames import column_names
from cosmeans.containers.read import read_numbers
from cosmeans.contracts import RowSource
from cosmeans.errors import (
    ArgumentOrderWarning,
    FeatureNamesError,
    FeatureNamesWarning,
    InputError,
    InputTypeError,
    TooFewRowsError,
)
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.files import FileRows
from cosmeans.rows.held import limit_of
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.opening import open_rows
from cosmeans.rows.paths import is_named
from cosmeans.rows.readers.arrays import ArrayRows
from cosmeans.rows.readers.strips import refuse_far_apart

_SMALL_BATCH = 1 << 16  # a batch_size up to this may have been meant as a number of clusters
_SHOWN = 5  # names that a message lists


@dataclass(frozen=True, slots=True)
class Kind:
    """What came in decides what goes out: torch tensors on their device, or NumPy arrays.

    names  of the features, (D,) objects, where rows came with names that are all text
    """

    tensor: bool
    device: torch.device
    names: np.ndarray | None = None

    def out(self, values: Tensor) -> Any:
        return values.to(self.device) if self.tensor else values.cpu().numpy()

    def cosines(self, values: Tensor) -> Any:
        """`out` for cosines: in [-1, 1], clipped in place. What compares them does so before."""
        return self.out(sphere.clipped(values))


def read_rows(X: Any, name: str = "Rows", memory_limit: int | None = None) -> tuple[RowSource, Kind]:
    """Rows (N, D) of real numbers, uncopied where that is possible, and the kind to answer in.

    Takes what `containers.read.read_numbers` takes, what `open_rows` returns, paths, which are opened by it, and
    iterables of batches, which are read once here: to count them, and to keep their rows if the limit allows it.
    Integers keep their type. name: for messages. memory_limit: bytes; None: a quarter of the free memory.
    """
    if is_named(X):
        X = open_rows(X)
    if isinstance(X, FileRows):
        return X, Kind(X.tensor, X.device)
    if isinstance(X, MemoryRows):  # a piece of files
        return X, Kind(tensor=False, device=X.device)
    if in_batches(X):
        batches = BatchRows(X, name, limit_of(memory_limit))
        _require_some((batches.n_rows, batches.n_features), name)
        names = None if batches.tensor else feature_names(batches.column_names)
        return batches, Kind(batches.tensor, batches.device, names)
    refuse_far_apart(X)
    if isinstance(X, np.memmap) and X.filename is not None and X.ndim == 2 and X.size and X.dtype.kind in "fiu":
        return _mapped(X), Kind(tensor=False, device=FileRows.device)
    rows, tensor = read_numbers(X, name)
    kind = Kind(tensor, rows.device, None if tensor else feature_names(column_names(X)))
    if rows.ndim != 2:
        raise InputError(
            f"{name} must have two dimensions (N, D), got shape {tuple(rows.shape)}. Reshape your data: x[None, :] "
            "for a single row, x.reshape(len(x), -1) for more than two dimensions."
        )
    _require_some(tuple(rows.shape), name)
    return MemoryRows(rows), kind


def _mapped(X: np.memmap) -> FileRows:
    """An array that the caller has mapped, which is read as files are."""
    rows = ArrayRows(os.fspath(X.filename or ""), X, mapped=True)
    return FileRows(JoinedRows([rows], rows.name), partial(_mapped, X))


def _require_some(shape: tuple[int, ...], name: str) -> None:
    for size, what in zip(shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise InputError(f"{name} have 0 {what}(s) (shape={shape}) while a minimum of 1 is required.")


def check_size(source: RowSource, options: FitOptions) -> None:
    """At least one row per cluster; a hint where the arguments look like another library's."""
    n, d, k, batch = source.n_rows, source.n_features, options.n_clusters, options.batch_size
    if n < k:
        raise TooFewRowsError(
            f"n_clusters={k} needs at least {k} rows, got n_samples={n}. Lower n_clusters or pass more rows."
        )
    if k == d and batch is not None and batch < min(n, _SMALL_BATCH):
        warn(
            f"n_clusters={k} equals the number of features: KMeans takes (n_clusters, batch_size, epochs), "
            f"and D is read from the rows. If {batch} clusters are meant, write KMeans({batch}).",
            ArgumentOrderWarning,
        )


def feature_names(names: list[Any] | None) -> np.ndarray | None:
    """The names of the columns of a frame, if all are text; None where there are none.

    Raises InputTypeError for text mixed with other names, as scikit-learn does.
    """
    if not names or not any(isinstance(name, str) for name in names):
        return None
    if odd := [name for name in names if not isinstance(name, str)]:
        types = sorted({type(name).__qualname__ for name in names})
        raise InputTypeError(
            f"Feature names are only supported if all input features have string names, but your input has {types} as "
            f"feature name / column name types ({_listed(odd)} mixed with text). Make them all text, with "
            "x.columns = x.columns.astype(str), or pass the values alone: x.to_numpy()."
        )
    found = np.empty(len(names), dtype=object)
    found[:] = names
    return found


def check_features(estimator: Any, kind: Kind, source: RowSource) -> None:
    """Rows must have the features of the fit: the same names where both have names, and as many."""
    known = getattr(estimator, "feature_names_in_", None)
    model = type(estimator).__name__
    if known is not None and kind.names is not None:
        check_names(known.tolist(), kind.names.tolist())
    if source.n_features != estimator.n_features_in_:
        raise InputError(
            f"X has {source.n_features} features, but {model} is expecting {estimator.n_features_in_} features as "
            "input. Pass rows of the same embedding as in fit."
        )
    if known is None and kind.names is not None:
        told = f"X has feature names, but {model} was fitted without feature names"
    elif known is not None and kind.names is None:
        told = f"X does not have valid feature names, but {model} was fitted with feature names"
    else:
        return
    warn(told, FeatureNamesWarning)


def check_names(known: list[str], names: list[str]) -> None:
    """Raise InputError in scikit-learn's words, then what to do."""
    if known == names:
        return
    unseen, absent = sorted(set(names) - set(known)), sorted(set(known) - set(names))
    lines = ["The feature names should match those that were passed during fit."]
    for which, what in ((unseen, "unseen at fit time"), (absent, "seen at fit time, yet now missing")):
        if which:
            shown = [f"- {name}" for name in which[:_SHOWN]] + (["- ..."] if len(which) > _SHOWN else [])
            lines += [f"Feature names {what}:", *shown]
    if not unseen and not absent:
        lines.append("Feature names must be in the same order as they were in fit.")
    raise FeatureNamesError(*lines, "Pass the columns of fit in their order: x[kmeans.feature_names_in_].")


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def read_centroids(values: Any, shape: tuple[int, int | None], name: str, device: torch.device) -> Tensor:
    """Centroids given by the user, scaled to unit length by rule 1. shape (K, D); D None: any."""
    check_device(values, name, device)
    given, _ = read_numbers(values, name)
    centroids = (given[:] if isinstance(given, ConvertedRows) else given).to(device, torch.float32)
    needed = shape if shape[1] is not None or centroids.ndim != 2 else (shape[0], centroids.shape[1])
    if tuple(centroids.shape) != needed:
        raise InputError(
            f"{name} has shape {tuple(centroids.shape)}; n_clusters and the rows need {_shape(shape)}. "
            "Pass one centroid per cluster, with as many features as the rows."
        )
    squared = sphere.squared_norms(centroids)
    found = sphere.lengths(squared)
    if not found.usable:
        for bad, what in ((~torch.isfinite(squared), "contains NaN or infinity"), (squared == 0, "is zero")):
            if bool(bad.any()):
                raise InputError(f"{name}: centroid {int(bad.to(torch.int8).argmax())} {what}; it needs a direction.")
    # kernels read the entries of a centroid side by side
    return sphere.unit_rows(centroids, found.divisors).contiguous()


def check_device(values: Any, name: str, device: torch.device) -> None:
    """Tensors that belong to rows must be on their device; anything else is on the CPU and is sent there."""
    if isinstance(values, Tensor) and values.device != device:
        raise InputError(f"{name} is on {values.device}, the rows on {device}. Put both on one device.")


def _shape(shape: tuple[int, int | None]) -> str:
    return f"({shape[0]}, {'D' if shape[1] is None else shape[1]})"

"""What users hand in, as tensors; and tensors handed back as what came in."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from cosmeans import sphere
from cosmeans.errors import ArgumentOrderWarning, InputError, InputTypeError, TooFewRowsError
from cosmeans.options import FitOptions
from cosmeans.rows.files import open_file

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SMALL_BATCH = 1 << 16  # a batch_size up to this may have been meant as a number of clusters


@dataclass(frozen=True, slots=True)
class Kind:
    """What came in decides what goes out: torch tensors on their device, or NumPy arrays."""

    tensor: bool
    device: torch.device

    def out(self, values: Tensor) -> Any:
        return values.to(self.device) if self.tensor else values.cpu().numpy()


def read_rows(X: Any) -> tuple[Tensor, Kind]:
    """Rows (N, D) of a floating type, uncopied where that is possible, and the kind to answer in.

    Takes torch tensors, NumPy arrays and memory maps, lists, data frames, anything with `__dlpack__`, and paths
    of files.
    """
    if isinstance(X, str | os.PathLike):
        X = open_file(X)
    if not isinstance(X, Tensor | np.ndarray) and hasattr(X, "__dlpack__"):
        X = torch.from_dlpack(X)
    if isinstance(X, Tensor):
        rows = checked_tensor(X)
        return rows, Kind(tensor=True, device=rows.device)
    return from_numpy(_checked_array(X)), Kind(tensor=False, device=torch.device("cpu"))


def check_size(shape: torch.Size, options: FitOptions) -> None:
    """At least one row per cluster; a hint where the arguments look like another library's."""
    (n, d), k, batch = shape, options.n_clusters, options.batch_size
    if n < k:
        raise TooFewRowsError(
            f"n_clusters={k} needs at least {k} rows, got n_samples={n}. Lower n_clusters or pass more rows."
        )
    if k == d and batch is not None and batch < min(n, _SMALL_BATCH):
        warnings.warn(
            f"n_clusters={k} equals the number of features: KMeans takes (n_clusters, batch_size, epochs), "
            f"and D is read from the rows. If {batch} clusters are meant, write KMeans({batch}).",
            ArgumentOrderWarning,
            stacklevel=3,
        )


def keep_features(estimator: BaseEstimator, X: Any, rows: Tensor) -> None:
    """Remember how many features a fit saw, and their names where X has names."""
    validate_data(estimator, _with_names(X, rows), reset=True, skip_check_array=True)


def check_features(estimator: Any, X: Any, rows: Tensor) -> None:
    """Rows must have as many features as those of the fit, and the same names where both have names."""
    if rows.shape[1] != estimator.n_features_in_:
        raise InputError(
            f"X has {rows.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input. Pass rows of the same embedding as in fit."
        )
    validate_data(estimator, _with_names(X, rows), reset=False, skip_check_array=True)


def checked_tensor(X: Tensor) -> Tensor:
    """A strided, two-dimensional tensor of a floating type, without its gradient."""
    if X.ndim != 2:
        raise InputError(
            f"Rows must be a 2-d tensor (N, D), got shape {tuple(X.shape)}. Reshape your data: x[None, :] for a "
            "single row, x.flatten(1) for more than two dimensions."
        )
    if X.layout is not torch.strided:
        raise InputTypeError(f"Rows must be a dense tensor, got layout {X.layout}. Use x.to_dense().")
    if X.dtype not in _FLOATS:
        raise InputTypeError(
            f"Rows have dtype {X.dtype}; needed is float32, float16, bfloat16 or float64. Use x.float()."
        )
    if 0 in X.shape:
        raise InputError(f"Rows have shape {tuple(X.shape)}; needed is at least one row and one feature.")
    return X.detach()


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over the same memory, read-only memory maps included (no row is ever written)."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    with warnings.catch_warnings():
        # memory maps are read-only; torch warns that it can't forbid writing, and no row is ever written here
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def read_centroids(values: Any, shape: tuple[int, int | None], name: str, device: torch.device) -> Tensor:
    """Centroids given by the user, scaled to unit length by rule 1. shape (K, D); D None: any."""
    if isinstance(values, Tensor):
        if values.device != device:
            raise InputError(f"{name} lies on {values.device}, the rows on {device}. Put both on one device.")
        centroids = values.detach().to(torch.float32)
    else:
        centroids = torch.from_numpy(np.array(values, dtype=np.float32)).to(device)
    needed = shape if shape[1] is not None or centroids.ndim != 2 else (shape[0], centroids.shape[1])
    if tuple(centroids.shape) != needed:
        raise InputError(
            f"{name} has shape {tuple(centroids.shape)}; n_clusters and the rows need {_shape(shape)}. "
            "Pass one centroid per cluster, with as many features as the rows."
        )
    squared = sphere.squared_norms(centroids)
    for bad, what in ((~torch.isfinite(squared), "contains NaN or infinity"), (squared == 0, "is zero")):
        if bool(bad.any()):
            raise InputError(f"{name}: centroid {int(bad.to(torch.int8).argmax())} {what}; it needs a direction.")
    return sphere.unit_rows(centroids, sphere.divisors(squared))


def _checked_array(X: Any) -> np.ndarray:
    dtype = getattr(X, "dtype", None)
    if dtype == np.bool_:
        raise InputTypeError("Rows are boolean; needed are real numbers. Use x.astype(np.float32).")
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        raise InputError("Complex data not supported: rows are complex; needed are real numbers.")
    return check_array(
        X,
        dtype=[np.float32, np.float64, np.float16],
        ensure_all_finite=False,  # the inspection of rows finds NaN and infinity, and names the row
        estimator="KMeans",
    )


def _with_names(X: Any, rows: Tensor) -> Any:
    return X if hasattr(X, "columns") or hasattr(X, "__dataframe__") else rows


def _shape(shape: tuple[int, int | None]) -> str:
    return f"({shape[0]}, {'D' if shape[1] is None else shape[1]})"

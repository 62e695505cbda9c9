"""What users hand in, as tensors; and tensors handed back as what came in."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from cosmeans import sphere
from cosmeans.errors import InputError, InputTypeError
from cosmeans.rows.files import open_file

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True)
class Kind:
    """What came in decides what goes out: torch tensors on their device, or NumPy arrays."""

    tensor: bool
    device: torch.device

    def out(self, values: Tensor) -> Any:
        return values.to(self.device) if self.tensor else values.cpu().numpy()


def read_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> tuple[Tensor, Kind]:
    """Rows (N, D) of a floating type, uncopied where that is possible, and the kind to answer in.

    Takes torch tensors, NumPy arrays and memory maps, lists, data frames, anything with `__dlpack__`, and paths
    of files. `reset`: a fit, which sets `n_features_in_`; else D must be what the fit saw.
    """
    if isinstance(X, str | os.PathLike):
        X = open_file(X)
    if not isinstance(X, Tensor | np.ndarray) and hasattr(X, "__dlpack__"):
        X = torch.from_dlpack(X)
    if isinstance(X, Tensor):
        rows = checked_tensor(X)
        _check_features(estimator, rows.shape[1], reset)
        return rows, Kind(tensor=True, device=rows.device)
    array = _checked_array(estimator, X, reset)
    return from_numpy(array), Kind(tensor=False, device=torch.device("cpu"))


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


def read_centroids(values: Any, shape: tuple[int, int], name: str, device: torch.device) -> Tensor:
    """Centroids given by the user: (K, D), scaled to unit length by rule 1."""
    if isinstance(values, Tensor):
        if values.device != device:
            raise InputError(f"{name} lies on {values.device}, the rows on {device}. Put both on one device.")
        centroids = values.detach().to(torch.float32)
    else:
        centroids = torch.from_numpy(np.array(values, dtype=np.float32)).to(device)
    if tuple(centroids.shape) != shape:
        raise InputError(
            f"{name} has shape {tuple(centroids.shape)}; n_clusters and the rows need {shape}. "
            "Pass one centroid per cluster, with as many features as the rows."
        )
    squared = sphere.squared_norms(centroids)
    for bad, what in ((~torch.isfinite(squared), "contains NaN or infinity"), (squared == 0, "is zero")):
        if bool(bad.any()):
            raise InputError(f"{name}: centroid {int(bad.to(torch.int8).argmax())} {what}; it needs a direction.")
    return sphere.unit_rows(centroids, sphere.divisors(squared))


def _checked_array(estimator: BaseEstimator, X: Any, reset: bool) -> np.ndarray:
    dtype = getattr(X, "dtype", None)
    if dtype == np.bool_:
        raise InputTypeError("Rows are boolean; needed are real numbers. Use x.astype(np.float32).")
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        raise InputError("Complex data not supported: rows are complex; needed are real numbers.")
    return validate_data(
        estimator,
        X,
        reset=reset,
        dtype=[np.float32, np.float64, np.float16],
        ensure_all_finite=False,  # the inspection of rows finds NaN and infinity, and names the row
    )


def _check_features(estimator: Any, n_features: int, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = n_features
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif n_features != estimator.n_features_in_:
        raise InputError(
            f"X has {n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input. Pass rows of the same embedding as in fit."
        )

"""What users hand in, as tensors; and tensors handed back as what came in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from cosmeans import sphere
from cosmeans.console import warn
from cosmeans.errors import ArgumentOrderWarning, CosmeansError, InputError, InputTypeError, TooFewRowsError
from cosmeans.options import FitOptions
from cosmeans.rows.files import open_file

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NOT_REAL = (bool, np.bool_, str, bytes, complex, np.complexfloating)
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

    Takes torch tensors and lists of them, NumPy arrays and memory maps, lists, data frames, anything with
    `__dlpack__` or `__array__`, and paths of files.
    """
    if isinstance(X, str | os.PathLike):
        X = open_file(X)
    elif isinstance(X, list | tuple) and X and isinstance(X[0], Tensor):
        X = _stacked(X)
    X = through_dlpack(X)
    if isinstance(X, Tensor):
        rows = checked_tensor(X, "Rows")
        kind = Kind(tensor=True, device=rows.device)
    else:
        rows = from_numpy(checked_array(X, "Rows"))
        kind = Kind(tensor=False, device=torch.device("cpu"))
    if rows.ndim != 2:
        raise InputError(
            f"Rows must have two dimensions (N, D), got shape {tuple(rows.shape)}. Reshape your data: x[None, :] "
            "for a single row, x.reshape(len(x), -1) for more than two dimensions."
        )
    for size, what in zip(rows.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise InputError(f"Rows have 0 {what}(s) (shape={tuple(rows.shape)}) while a minimum of 1 is required.")
    return rows, kind


def from_file(X: Any) -> bool:
    """Whether single rows may have to be read from a disk: each takes longer than many in a row."""
    return isinstance(X, str | os.PathLike | np.memmap)


def check_size(shape: torch.Size, options: FitOptions) -> None:
    """At least one row per cluster; a hint where the arguments look like another library's."""
    (n, d), k, batch = shape, options.n_clusters, options.batch_size
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


def checked_tensor(values: Tensor, name: str) -> Tensor:
    """A dense tensor of a floating type, without its gradient."""
    if values.layout is not torch.strided:
        raise InputTypeError(f"{name} must be dense, got layout {values.layout}. Use x.to_dense().")
    if values.dtype not in _FLOATS:
        raise InputTypeError(
            f"{name} must have dtype float32, float16, bfloat16 or float64, got {values.dtype}. Use x.float()."
        )
    return values.detach().resolve_neg()


def checked_array(values: Any, name: str) -> np.ndarray:
    """An array of a floating type: as it is if it has one, else float32.

    Integers and objects that are numbers are converted. Raises InputTypeError for everything else, InputError
    for complex numbers and rows of different lengths.
    """
    if issparse(values):
        raise InputTypeError(f"{name} must be dense, got a sparse {type(values).__name__}. Use x.toarray().")
    if isinstance(values, Iterator | Mapping | Set):
        raise InputTypeError(
            f"{name} must be an array, a tensor or a list of rows, got a {type(values).__name__}. Put the rows into a "
            "list first: list(x)."
        )
    if np.ma.is_masked(values):
        raise InputError(
            f"{name} hold {np.ma.count_masked(values)} masked entries, which have no value. Use x.filled(0), or leave "
            "such rows out."
        )
    try:
        array = values if _is_frame(values) else np.asarray(values)
        check_types(array, name)
        return check_array(
            array,
            dtype=[np.float32, np.float64, np.float16],
            ensure_all_finite=False,  # the inspection of rows finds NaN and infinity, and names the row
            ensure_2d=False,
            allow_nd=True,
            ensure_min_samples=0,
            ensure_min_features=0,
        )
    except CosmeansError:
        raise
    except ValueError as error:
        raise InputError(f"{name} must be an array of real numbers: {error}") from error
    except (TypeError, RuntimeError, OverflowError) as error:
        raise InputTypeError(f"{name} must be an array of real numbers: {error}") from error


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over the same memory, read-only memory maps included (no row is ever written)."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()  # torch knows neither
    with warnings.catch_warnings():
        # memory maps are read-only; torch warns that it can't forbid writing, and no row is ever written here
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def read_centroids(values: Any, shape: tuple[int, int | None], name: str, device: torch.device) -> Tensor:
    """Centroids given by the user, scaled to unit length by rule 1. shape (K, D); D None: any."""
    if isinstance(values, Tensor):
        check_device(values, name, device)
        centroids = checked_tensor(values, name)
    else:
        centroids = from_numpy(checked_array(values, name)).to(device)
    centroids = centroids.to(torch.float32)
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
    """Tensors that belong to rows must lie where the rows lie; anything else is on the CPU and is sent there."""
    if isinstance(values, Tensor) and values.device != device:
        raise InputError(f"{name} lies on {values.device}, the rows on {device}. Put both on one device.")


def check_types(array: Any, name: str) -> None:
    """Raise unless an array or a frame is all real numbers: what NumPy would convert in silence has no cosine."""
    if _is_frame(array):
        kinds = {str(dtype).lower() for dtype in array.dtypes}
        boolean, is_complex = (any(word in kind for kind in kinds) for word in ("bool", "complex"))
    else:
        boolean, is_complex = array.dtype.kind == "b", array.dtype.kind == "c"
    if boolean:
        raise InputTypeError(f"{name} must be real numbers, got booleans. Use x.astype(np.float32).")
    if is_complex:
        raise InputError(f"Complex data not supported: {name} must be real numbers. Use x.real or abs(x).")
    if _is_frame(array):
        return
    if array.dtype.kind not in "fiuO":
        raise InputTypeError(f"{name} must be real numbers, got dtype {array.dtype}. Use x.astype(np.float32).")
    if array.dtype.kind == "O":
        for value in array.flat:
            if isinstance(value, _NOT_REAL):
                raise InputTypeError(f"{name} must be real numbers, got {value!r:.60} of type {type(value).__name__}.")


def _stacked(X: Sequence[Any]) -> Tensor:
    try:
        return torch.stack(tuple(X))
    except (RuntimeError, TypeError) as error:
        raise InputError(f"Rows given as a list of tensors must be of one shape and on one device: {error}") from error


def through_dlpack(values: Any, name: str = "Rows") -> Any:
    """Arrays of other libraries (CuPy, JAX) as tensors over the same memory, wherever it is; anything else as it is."""
    if isinstance(values, Tensor | np.ndarray) or not hasattr(values, "__dlpack__"):
        return values
    try:
        return torch.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputTypeError(
            f"{name} of type {type(values).__name__} can't be taken through DLPack: {error}. Pass a tensor or an array."
        ) from error


def _is_frame(values: Any) -> bool:
    return hasattr(values, "dtypes") and hasattr(values, "columns")


def _with_names(X: Any, rows: Tensor) -> Any:
    return X if hasattr(X, "columns") or hasattr(X, "__dataframe__") else rows


def _shape(shape: tuple[int, int | None]) -> str:
    return f"({shape[0]}, {'D' if shape[1] is None else shape[1]})"

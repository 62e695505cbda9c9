"""Cosines of rows with every centroid: in memory, or written to a file that may exceed it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from torch import Tensor

from cosmeans import sphere
from cosmeans._estimator.file_labels import FileLabels
from cosmeans._estimator.fitted_state import state_of
from cosmeans._estimator.inputs import read_rows
from cosmeans._estimator.opening import open_fitted, options_of
from cosmeans._estimator.row_outputs import map_npy
from cosmeans.atomic import new_file, refuse_existing
from cosmeans.contracts import RowSource, Session
from cosmeans.errors import OptionError, OutputExistsError
from cosmeans.paths import as_path
from cosmeans.progress import watch
from cosmeans.reading import size_words
from cosmeans.rows.files import FileRows
from cosmeans.rows.held import limit_of
from cosmeans.scoring import tiles


def cosines_of(model: Any, X: Any, out: str | os.PathLike[str] | None = None) -> Any:
    """Cosines of rows with every centroid (N, K) float32, 0 for rows left out. out: a .npy file, mapped afterwards."""
    options = options_of(model)
    source, _ = read_rows(X, memory_limit=options.memory_limit)
    given = source if isinstance(source, FileRows) else X
    if out is not None:
        return _written(model, source, given, out)
    size = 4 * source.n_rows * len(state_of(model).cluster_centers_)
    limit = limit_of(options.memory_limit)
    if isinstance(source, FileRows) and size > limit:
        raise OptionError(
            f"The cosines of {source.n_rows:,} rows with all clusters take {size_words(size)} of memory, and "
            f'{size_words(limit)} are allowed. Pass out="cosines.npy", a file that is mapped, or a memory_limit.'
        )
    return _in_memory(model, given)


def _in_memory(model: Any, X: Any) -> Any:
    with open_fitted(model, X) as (session, kind, centroids):
        if _framed(model):
            kind = replace(kind, tensor=False, device=torch.device("cpu"))  # frames hold NumPy arrays
        # where they are wanted: a device that can't hold the rows may not hold N x K cosines either
        cosines = torch.empty((session.rows.n_rows, len(centroids)), dtype=torch.float32, device=kind.device)
        for batch in session.rows.batches():
            cosines[batch.span] = session.cosines(batch, centroids)
    return kind.cosines(cosines)


def _written(model: Any, source: RowSource, X: Any, out: str | os.PathLike[str]) -> np.ndarray:
    path = as_path(out, "out")
    if path.suffix != ".npy":
        raise OptionError(f"out={str(path)!r}: cosines are written as .npy. Change the suffix.")
    if os.path.lexists(path):
        raise OutputExistsError(f"{path} already exists. Choose another name, or remove it.")
    refuse_existing(path, force=False, folder=False)
    sessions = FileLabels(model, X).sessions(X.whole()) if isinstance(X, FileRows) else _one_session(model, X)
    shape = source.n_rows, len(state_of(model).cluster_centers_)
    verbose = model.verbose if isinstance(X, FileRows) else 0  # other rows are one piece
    with new_file(path) as temporary, temporary.open("r+b") as file, watch(verbose=verbose) as observer:
        cosines = map_npy(file, np.dtype(np.float32), shape)
        rows = torch.from_numpy(cosines)
        for start, session, centroids in sessions:
            for batch in tiles(session.rows, len(centroids)):
                stop = start + batch.span.stop
                observer.step("cosines", stop, source.n_rows, "rows")
                rows[start + batch.start : stop] = sphere.clipped(session.cosines(batch, centroids))
        del rows, cosines  # a system may not rename what is mapped
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def _one_session(model: Any, X: Any) -> Iterator[tuple[int, Session, Tensor]]:
    with open_fitted(model, X) as (session, _, centroids):
        yield 0, session, centroids


def _framed(model: Any) -> bool:
    """Whether scikit-learn makes a frame of what `transform` returns: by `set_output`, or by its configuration."""
    own = getattr(model, "_sklearn_output_config", {})
    return bool(own.get("transform", get_config()["transform_output"]) != "default")

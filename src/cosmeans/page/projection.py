"""A sample of the rows on a plane, so that a reader sees which clusters are next to each other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from cosmeans.choices import ProjectionName, names_of
from cosmeans.errors import OptionError
from cosmeans.page.charts import percent
from cosmeans.printable import brief

PROJECTIONS = names_of(ProjectionName)
SIDE = 2000  # coordinates are integers from 0 to SIDE: finer than any screen
N_STYLES = 24  # 8 colours times 3 shapes: style s has colour s % 8 and shape s % 3, so neighbours differ in both
_LEAST_ROWS = 3


@dataclass(frozen=True, slots=True)
class Projection:
    """rows (n,), their x and y (n,) integers from 0 to SIDE, and a sentence on how they were found."""

    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    caption: str


def check_projection(name: str) -> None:
    """Raise OptionError unless this projection exists and can run here."""
    if not isinstance(name, str) or name not in PROJECTIONS:
        raise OptionError(f"projection must be one of {', '.join(map(repr, PROJECTIONS))}; got {brief(name)}.")
    if name == "umap":
        _umap()


def project(units: np.ndarray, rows: np.ndarray, projection: str, seed: int) -> Projection | None:
    """Place unit rows (n, D), whose indices are `rows`, on a plane; None for fewer than three rows."""
    if len(rows) < _LEAST_ROWS:
        return None
    if projection == "umap":
        points, caption = _by_umap(units, seed)
    else:
        points, caption = _by_pca(units, seed)
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    # one scale for both axes: distances keep their proportions
    grid = np.rint((points - low) * (SIDE / extent if extent > 0 else 0.0)).astype(np.int64)
    return Projection(rows, grid[:, 0], grid[:, 1], caption)


def styles(size: np.ndarray, near: np.ndarray) -> np.ndarray:
    """A style 0..N_STYLES-1 for every cluster (K,): by size where there are enough, else unlike its neighbours'.

    near (K, m): the most similar clusters of each.
    """
    out = np.full(len(size), -1, np.int64)
    for rank, cluster in enumerate(np.argsort(-size, kind="stable")):
        taken = set(out[near[cluster]].tolist()) if len(size) > N_STYLES else set()
        out[cluster] = next(style for step in range(N_STYLES) if (style := (rank + step) % N_STYLES) not in taken)
    return out


def _by_pca(units: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    from sklearn.decomposition import PCA

    n_components = min(2, *units.shape)
    with warnings.catch_warnings():
        # rows that are all the same have no variance to share out
        warnings.filterwarnings("ignore", message="invalid value encountered in", category=RuntimeWarning)
        pca = PCA(n_components, random_state=seed % 2**32).fit(units)
    points = np.zeros((len(units), 2))
    points[:, :n_components] = pca.transform(units)
    share = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    return points, (
        f"the two directions in which the rows differ most (PCA); they explain {percent(100 * share)} of the variance, "
        "so rows that are close here need not be alike, but rows that are alike are close"
    )


def _by_umap(units: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on threads and sparse graphs, none on the result
        mapper = _umap()(n_components=2, metric="cosine", random_state=seed % 2**32, n_jobs=1)
        points = np.asarray(mapper.fit_transform(units), dtype=np.float64)
    return points, "a plane that keeps neighbours together (UMAP); distances between groups mean little"


def _umap() -> type:
    try:
        return import_module("umap").UMAP  # type: ignore[no-any-return]
    except ImportError as error:
        raise OptionError(
            'projection="umap" needs umap-learn, which is not installed. Install it with: pip install umap-learn; '
            'or use projection="pca".'
        ) from error

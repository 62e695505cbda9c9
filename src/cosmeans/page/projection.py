"""Rows on a plane, so that a reader sees which clusters are next to each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from cosmeans.choices import ProjectionName, names_of
from cosmeans.errors import OptionError
from cosmeans.observer import Log
from cosmeans.page.charts import percent
from cosmeans.page.sample import sample_rows
from cosmeans.printable import brief

PROJECTIONS = names_of(ProjectionName)
SIDE = 4000  # coordinates are integers from 0 to SIDE: finer than any screen, and than most when zoomed
MAX_LANDMARKS = 2000  # rows and centroids that t-SNE or UMAP place; the others find their place between them
_DIRECTIONS = 50  # in which the centroids differ most
_NEIGHBOURS = 10  # landmarks that a row's place depends on
_REACH = 0.1  # of the width of the plane: of those landmarks, the ones that are together
_BLOCK, _FETCHED = 1 << 12, 1 << 15  # rows that are placed at once, and that are fetched at once
_LEAST_ROWS = 3
_PERPLEXITY, _STEPS = 30.0, 750
_TOLD_FROM = 500  # landmarks: fewer take less than two seconds
_TAKES = {"tsne": "about {seconds:.0f} s", "umap": "up to a minute, most of which it compiles"}  # on one core
_CALLED = {"tsne": "t-SNE", "umap": "UMAP"}
Take = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Projection:
    """rows (n,), their x and y (n,) integers from 0 to SIDE, and a sentence on how they were found.

    proportional  whether distances on the plane mean something, so that both axes need one scale
    """

    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    caption: str
    proportional: bool


@dataclass(frozen=True, slots=True)
class Plane:
    """points (n, 2) float64, and the rest as in `Projection`."""

    points: np.ndarray
    caption: str
    proportional: bool


@dataclass(frozen=True, slots=True)
class Directions:
    """The directions in which the centroids differ most: mean (D,) of all rows' clusters, basis (D, q), best first."""

    mean: np.ndarray
    basis: np.ndarray

    def of(self, units: np.ndarray) -> np.ndarray:
        """Rows (n, D) in these directions, (n, q) of unit length where they differ from the mean at all."""
        low = (units - self.mean) @ self.basis
        norm = np.linalg.norm(low, axis=1, keepdims=True)
        return np.asarray(low / np.where(norm > 0, norm, 1.0), np.float32)


def check_projection(name: str) -> None:
    """Raise OptionError unless this projection exists and can run here."""
    if not isinstance(name, str) or name not in PROJECTIONS:
        raise OptionError(f"projection must be one of {', '.join(map(repr, PROJECTIONS))}; got {brief(name)}.")
    if name == "umap":
        _umap()


def chosen(projection: str) -> str:
    """What "auto" stands for here: UMAP where umap-learn is installed, else t-SNE."""
    return projection if projection != "auto" else "umap" if _has_umap() else "tsne"


def project(
    take: Take, rows: np.ndarray, centroids: np.ndarray, size: np.ndarray, projection: str, seed: int
) -> Projection | None:
    """Place unit rows, whose indices (n,) are `rows` in rising order, on a plane; None for fewer than three.

    take       fetches rows by index, (m, D)
    centroids  (K, D) with the size (K,) of each
    """
    placed = place_rows(take, rows, centroids, size, projection, seed)
    if placed is None:
        return None
    low, extent = placed.points.min(axis=0), np.ptp(placed.points, axis=0)
    # one scale for both axes: distances keep their proportions
    grid = np.rint((placed.points - low) * (SIDE / extent.max() if extent.max() > 0 else 0.0)).astype(np.int64)
    return Projection(rows, grid[:, 0], grid[:, 1], placed.caption, placed.proportional)


def place_rows(
    take: Take, rows: np.ndarray, centroids: np.ndarray, size: np.ndarray, projection: str, seed: int
) -> Plane | None:
    """The same, in the method's own coordinates. Rows are fetched in blocks, however many there are."""
    if len(rows) < _LEAST_ROWS:
        return None
    how = chosen(projection)
    # of three clusters or features nothing is to be reduced: two directions, or one, are all there is
    if how == "pca" or np.count_nonzero(size) < 3 or centroids.shape[1] < 3:
        return _by_pca(take, rows, seed)
    return _by_landmarks(take, rows, centroids, size, how, seed)


def announce(log: Log, projection: str, n_rows: int) -> None:
    """Say what takes its time, if it takes any."""
    how, landmarks = chosen(projection), min(n_rows, MAX_LANDMARKS)
    if how in _TAKES and landmarks >= _TOLD_FROM:
        log(f"placing the rows on a map by {_CALLED[how]}: {_TAKES[how].format(seconds=0.003 * landmarks)}")


def directions(centroids: np.ndarray, size: np.ndarray) -> Directions:
    """Between clusters, not within: principal components of the centroids (K, D), weighted by size (K,)."""
    weight = size / size.sum()
    mean = weight @ centroids
    _, strength, basis = np.linalg.svd((centroids - mean) * np.sqrt(weight)[:, None], full_matrices=False)
    q = max(2, min(_DIRECTIONS, int((strength > 1e-6 * strength[0]).sum())))
    # the sign of a direction is arbitrary: the same on every machine
    signs = np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)])
    return Directions(mean, (basis * signs[:, None])[:q].T)


def _by_landmarks(take: Take, rows: np.ndarray, centroids: np.ndarray, size: np.ndarray, how: str, seed: int) -> Plane:
    """Some rows and the centroids are placed by the method itself, all others between those that they are like."""
    filled = np.flatnonzero(size)
    into = directions(centroids[filled], size[filled])
    caption = f"a plane that keeps neighbours together ({_CALLED[how]}); distances between groups mean little"
    if len(rows) <= MAX_LANDMARKS:
        return Plane(_upright(_embed(into.of(take(rows)), how, seed)), caption, proportional=False)
    shown = filled[np.argsort(-size[filled], kind="stable")][: MAX_LANDMARKS // 2]
    every = np.zeros(int(rows[-1]) + 1, bool)
    every[rows] = True
    fitted = sample_rows(every, MAX_LANDMARKS - len(shown), seed)
    marks = np.concatenate([into.of(centroids[shown]), into.of(take(fitted))])
    placed = _upright(_embed(marks, how, seed))
    points = np.concatenate([_between(into.of(units), marks, placed) for units in _blocks(take, rows)])
    points[np.searchsorted(rows, fitted)] = placed[len(shown) :]
    return Plane(points, caption, proportional=False)


def _blocks(take: Take, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Fetched in large blocks, since files are decoded for each, and given in small ones."""
    for start in range(0, len(rows), _FETCHED):
        units = take(rows[start : start + _FETCHED])
        for at in range(0, len(units), _BLOCK):
            yield units[at : at + _BLOCK]


def _embed(marks: np.ndarray, how: str, seed: int) -> np.ndarray:
    return _by_umap(marks, seed) if how == "umap" else _by_tsne(marks, seed)


def _between(low: np.ndarray, marks: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """The place (n, 2) of rows (n, q): a mean of the landmarks most like each that are close to the first of them."""
    cosines = low @ marks.T
    m = min(_NEIGHBOURS, len(marks))
    near = np.argpartition(-cosines, m - 1, axis=1)[:, :m]
    distance = 1.0 - np.take_along_axis(cosines, near, axis=1).astype(np.float64)
    least = distance.min(axis=1, keepdims=True)
    weight = np.exp(-(distance - least) / (0.5 * np.maximum(least, 0.0) + 1e-3))
    first = np.take_along_axis(near, distance.argmin(axis=1)[:, None], axis=1)
    reach = _REACH * np.ptp(placed, axis=0).max()
    weight *= np.linalg.norm(placed[near] - placed[first], axis=2) <= reach
    return np.asarray((weight[:, :, None] * placed[near]).sum(axis=1) / weight.sum(axis=1, keepdims=True))


def _upright(points: np.ndarray) -> np.ndarray:
    """Turned so that the longer axis is horizontal: these methods know no direction."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return np.asarray(centred @ (axes * signs[:, None]).T)


def _by_tsne(marks: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n_rows = len(marks)
    spread = float(marks[:, 0].std())
    start = np.ascontiguousarray(marks[:, :2] * (1e-4 / spread if spread > 0 else 1.0), np.float32)
    # one thread: sums in another order end in another picture
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # remarks on rows that are all the same
        tsne = TSNE(
            2, perplexity=min(_PERPLEXITY, (n_rows - 1) / 3), max_iter=_STEPS, init=start, random_state=seed % 2**32,
            n_jobs=1,
        )  # fmt: skip
        return np.asarray(tsne.fit_transform(marks), np.float64)


def _by_umap(marks: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on threads and sparse graphs, none on the result
        mapper = _umap()(n_components=2, metric="cosine", random_state=seed % 2**32, n_jobs=1)
        return np.asarray(mapper.fit_transform(marks), dtype=np.float64)


def _by_pca(take: Take, rows: np.ndarray, seed: int) -> Plane:
    from sklearn.decomposition import PCA

    fitted = take(np.unique(rows[np.linspace(0, len(rows) - 1, min(len(rows), _FETCHED)).astype(np.int64)]))
    n_components = min(2, *fitted.shape)
    with warnings.catch_warnings():
        # rows that are all the same have no variance to share out
        warnings.filterwarnings("ignore", message="invalid value encountered in", category=RuntimeWarning)
        pca = PCA(n_components, random_state=seed % 2**32).fit(fitted)
    points = np.zeros((len(rows), 2))
    points[:, :n_components] = np.concatenate([pca.transform(units) for units in _blocks(take, rows)])
    share = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    caption = (
        f"the two directions in which the rows differ most (PCA); they explain {percent(100 * share)} of the variance, "
        "so rows that are close here need not be alike, but rows that are alike are close"
    )
    return Plane(points, caption, proportional=True)


def _has_umap() -> bool:
    try:
        return find_spec("umap") is not None
    except ValueError:  # a stand-in without a spec
        return True


def _umap() -> type:
    try:
        return import_module("umap").UMAP  # type: ignore[no-any-return]
    except ImportError as error:
        raise OptionError(
            'projection="umap" needs umap-learn, which is not installed. Install it with: pip install umap-learn; '
            'or use projection="tsne".'
        ) from error

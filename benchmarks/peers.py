"""Other libraries doing the same work: rows (N, D) float32 of unit length, first centroids, so many iterations.

Each takes all rows, stops for nothing, starts from the same centroids (SuperKMeans and fastkmeans can't: they draw
their own), and returns its centroids.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import torch

ALL_ROWS = 2**31 - 1

Peer = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def cosmeans(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    from cosmeans import KMeans

    return np.asarray(_fitted(KMeans(len(first), init=first, epochs=epochs), rows).cluster_centers_)


def cosmeans_bounds(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    """As on processors without fast integer products."""
    from cosmeans import KMeans

    return np.asarray(_fitted(KMeans(len(first), init=first, epochs=epochs, strategy="split"), rows).cluster_centers_)


def cosmeans_plain(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    from cosmeans import KMeans

    return np.asarray(_fitted(KMeans(len(first), init=first, epochs=epochs, strategy="float32"), rows).cluster_centers_)


def _fitted(kmeans, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kmeans.fit(rows)


def faiss_kmeans(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    k, d = first.shape
    kmeans = faiss.Kmeans(d, k, niter=epochs, spherical=True, max_points_per_centroid=ALL_ROWS)
    kmeans.train(rows, init_centroids=first)
    return kmeans.centroids


def faiss_superkmeans(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    """Draws its own first centroids."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    k, d = first.shape
    kmeans = faiss.SuperKmeans(
        d, k, niter=epochs, spherical=True, max_points_per_centroid=ALL_ROWS, early_stop_threshold=0.0
    )
    kmeans.train(rows)
    return kmeans.centroids


def superkmeans(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    from superkmeans import SuperKMeans

    k, d = first.shape
    kmeans = SuperKMeans(
        k, d, hierarchical=False, iters=epochs, sampling_fraction=1.0, max_points_per_cluster=ALL_ROWS,
        n_threads=torch.get_num_threads(), early_termination=False, tol=0.0, angular=True,
    )  # fmt: skip
    return np.asarray(kmeans.train(rows))


def fastkmeans(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    """Euclidean; draws its own first centroids."""
    from fastkmeans import FastKMeans

    k, d = first.shape
    kmeans = FastKMeans(d, k, niter=epochs, tol=0.0, gpu=False, max_points_per_centroid=ALL_ROWS, use_triton=False)
    kmeans.train(rows)
    return kmeans.centroids


def sklearn(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    """Euclidean, centroids not scaled back to unit length."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kmeans = KMeans(len(first), init=first, n_init=1, max_iter=epochs, tol=0, algorithm="lloyd").fit(rows)
    return kmeans.cluster_centers_


def pytorch_loop(rows: np.ndarray, first: np.ndarray, epochs: int) -> np.ndarray:
    """Twenty lines of PyTorch, as the tutorial has them, with batches large enough to be fast."""
    x, centers = torch.from_numpy(rows), torch.from_numpy(first.copy())
    for _ in range(epochs):
        sums, counts = torch.zeros_like(centers), torch.zeros(len(centers))
        for batch in x.split(8192):
            _, labels = (batch @ centers.T).max(dim=1)
            sums.index_add_(0, labels, batch)
            counts.index_add_(0, labels, torch.ones(len(batch)))
        new = torch.nn.functional.normalize(sums / counts[:, None], dim=1)
        centers = torch.where(counts[:, None] > 0, new, centers)
    return centers.numpy()


PEERS: dict[str, Peer] = {
    "cosmeans": cosmeans,
    "cosmeans, split": cosmeans_bounds,
    "cosmeans, plain": cosmeans_plain,
    "FAISS": faiss_kmeans,
    "FAISS SuperKmeans": faiss_superkmeans,
    "SuperKMeans": superkmeans,
    "fastkmeans": fastkmeans,
    "scikit-learn": sklearn,
    "PyTorch loop": pytorch_loop,
}


NEEDED = {"FAISS": "faiss", "FAISS SuperKmeans": "faiss", "SuperKMeans": "superkmeans", "fastkmeans": "fastkmeans"}


def installed() -> list[str]:
    """The peers that can run here."""
    return [name for name in PEERS if name not in NEEDED or find_spec(NEEDED[name])]


def versions(*names: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def mean_similarity(rows: np.ndarray, centroids: np.ndarray) -> float:
    """Mean over the rows of the largest cosine, in float64."""
    wide = centroids.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    best = [(block.astype(np.float64) @ wide.T).max(axis=1) for block in np.array_split(rows, 64)]
    return float(np.concatenate(best).mean())

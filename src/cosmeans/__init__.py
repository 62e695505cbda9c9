"""Spherical k-means for embeddings: one exact answer on every machine, fast."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cosmeans")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

from cosmeans.errors import CosmeansError, CosmeansWarning
from cosmeans.estimator import KMeans
from cosmeans.result import History, Iteration, StopReason

__all__ = ["CosmeansError", "CosmeansWarning", "History", "Iteration", "KMeans", "StopReason", "__version__"]

"""Spherical k-means for embeddings: one exact answer on every machine, fast."""

from cosmeans.choose import choose_k
from cosmeans.dedup import deduplicate
from cosmeans.errors import CosmeansError, CosmeansWarning
from cosmeans.estimator import KMeans
from cosmeans.evaluation import evaluate
from cosmeans.machine import empty_cache
from cosmeans.matching import match, moved, reorder
from cosmeans.pickles import safe_globals
from cosmeans.result import EpochCost, History, Iteration, StopReason
from cosmeans.use import exemplars, outliers, top
from cosmeans.version import __version__

__all__ = [
    "CosmeansError",
    "CosmeansWarning",
    "EpochCost",
    "History",
    "Iteration",
    "KMeans",
    "StopReason",
    "__version__",
    "choose_k",
    "deduplicate",
    "empty_cache",
    "evaluate",
    "exemplars",
    "match",
    "moved",
    "outliers",
    "reorder",
    "safe_globals",
    "top",
]

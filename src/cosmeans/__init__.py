"""Spherical k-means for embeddings: one exact answer on every machine, fast."""

from cosmeans._estimator.dispatch import empty_cache
from cosmeans.analysis.choose_k import choose_k
from cosmeans.analysis.dedup import deduplicate
from cosmeans.analysis.evaluation import evaluate
from cosmeans.analysis.matching import match, moved, reorder
from cosmeans.analysis.queries import exemplars, outliers, top
from cosmeans.errors import CosmeansError, CosmeansWarning
from cosmeans.estimator import KMeans
from cosmeans.pickles import safe_globals
from cosmeans.result import EpochCost, History, Iteration, StopReason
from cosmeans.rows.opening import open_rows
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
    "open_rows",
    "outliers",
    "reorder",
    "safe_globals",
    "top",
]

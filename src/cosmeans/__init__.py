"""Spherical k-means for embeddings: one exact answer on every machine, fast.

Names are imported from their modules when they are first used, so that `import cosmeans` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cosmeans.errors import CosmeansError, CosmeansWarning

if TYPE_CHECKING:
    from cosmeans._estimator.dispatch import empty_cache
    from cosmeans.analysis.choose_k import choose_k
    from cosmeans.analysis.dedup import deduplicate
    from cosmeans.analysis.evaluation import evaluate
    from cosmeans.analysis.matching import match, moved, reorder
    from cosmeans.analysis.queries import exemplars, members, outliers, top
    from cosmeans.analysis.topics import topics
    from cosmeans.digests import label_digest
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
    "label_digest",
    "match",
    "members",
    "moved",
    "open_rows",
    "outliers",
    "reorder",
    "safe_globals",
    "top",
    "topics",
]

# the imports above once more, for a running program; a test compares them
_MODULES = {
    "EpochCost": "result",
    "History": "result",
    "Iteration": "result",
    "KMeans": "estimator",
    "StopReason": "result",
    "__version__": "version",
    "choose_k": "analysis.choose_k",
    "deduplicate": "analysis.dedup",
    "empty_cache": "_estimator.dispatch",
    "evaluate": "analysis.evaluation",
    "exemplars": "analysis.queries",
    "label_digest": "digests",
    "match": "analysis.matching",
    "members": "analysis.queries",
    "moved": "analysis.matching",
    "open_rows": "rows.opening",
    "outliers": "analysis.queries",
    "reorder": "analysis.matching",
    "safe_globals": "pickles",
    "top": "analysis.queries",
    "topics": "analysis.topics",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"cosmeans.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

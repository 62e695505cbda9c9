"""The names that options take, each set once. Type checkers and editors complete them; validation reads them.

This module imports nothing but `typing`, so that a command line can know its choices before anything is loaded.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

InitName = Literal["random", "k-means++", "nested"]
ZeroRows = Literal["warn", "skip", "error"]
Nonfinite = Literal["error", "skip"]
EmptyClusters = Literal["move", "keep", "error"]
BackendName = Literal["auto", "cpu", "gpu", "reference"]
Strategy = Literal["auto", "float32", "split", "pca", "int8"]
Preferred = Literal["closest", "farthest"]  # rows that `deduplicate` prefers
ProjectionName = Literal["auto", "umap", "tsne", "pca"]  # of the map on the page
Library = Literal["pandas", "polars", "arrow"]  # of frames that results become


def names_of(choice: Any) -> tuple[str, ...]:
    """The names of a Literal, in order."""
    return get_args(choice)

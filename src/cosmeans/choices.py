"""The names that options take, each set once. Type checkers and editors complete them; validation reads them.

This module imports Python's own alone, so that a command line can know its choices before anything is loaded.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal, get_args

InitName = Literal["random", "k-means++", "nested"]
ZeroRows = Literal["warn", "skip", "error"]
Nonfinite = Literal["error", "skip"]
EmptyClusters = Literal["move", "keep", "error"]
BackendName = Literal["auto", "cpu", "gpu", "reference"]
Strategy = Literal["auto", "float32", "split", "pca", "int8"]
Preferred = Literal["closest", "farthest"]  # rows that `deduplicate` prefers
DEVICES = ("auto", "cpu", "cuda")  # and "cuda:1"
ProjectionName = Literal["auto", "umap", "tsne", "pca"]  # of the map on the page
FileOrder = Literal["path", "natural"]  # of the files of a folder or a pattern
Library = Literal["pandas", "polars", "arrow"]  # of frames that results become

_MEANT = {  # what other libraries call a choice
    "gpu": ("cuda",),
    "cuda": ("gpu",),
    "kmeans++": ("k-means++",),
    "fast": ("auto",),
    "fastest": ("auto",),
    "ignore": ("skip",),
    "drop": ("skip",),
    "nearest": ("closest",),
    "raise": ("error",),
}


def names_of(choice: Any) -> tuple[str, ...]:
    """The names of a Literal, in order."""
    return get_args(choice)


def did_you_mean(value: Any, choices: tuple[str, ...]) -> str:
    """A question that names the choice which was probably meant; empty where none is near."""
    if not isinstance(value, str):
        return ""
    typed = value.lower()
    meant = [name for name in _MEANT.get(typed, ()) if name in choices] or get_close_matches(typed, choices, n=1)
    return f" Did you mean {meant[0]!r}?" if meant else ""

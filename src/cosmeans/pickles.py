"""What a pickle of a model needs, for readers that allow nothing else."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np

from cosmeans.estimator import KMeans


def safe_globals() -> list[Any]:
    """The classes and functions that a pickled `KMeans` refers to, for `torch.load(weights_only=True)`.

        with torch.serialization.safe_globals(cosmeans.safe_globals()):
            kmeans = torch.load("kmeans.pt", weights_only=True)

    All but KMeans are NumPy's, which rebuild arrays of numbers and run no code. An `init` or `random_state` that is
    an object (a callable, a RandomState) needs more, which you have to add and trust yourself.
    """
    rebuild = np.empty(0).__reduce__()[0]
    types = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    return [KMeans, rebuild, np.ndarray, np.dtype, *types, codecs.encode]

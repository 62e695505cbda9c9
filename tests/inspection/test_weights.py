"""Weights far apart, or too large for exact sums."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cosmeans import KMeans
from cosmeans.errors import CosmeansWarning, InputError, WeightRangeWarning
from generators import normal

X = normal(60, 7)


def fit(x=X, weights=None, **options):
    return KMeans(**{"n_clusters": 3, "random_state": 0, "verbose": 0, **options}).fit(x, sample_weight=weights)


@pytest.mark.parametrize("largest", [1e-300, 1e-3, 1.0, 1e8])
@pytest.mark.parametrize(
    ("ratio", "words"), [(2.0**-31, "4.7e-10"), (1e-12, "1e-12"), (1e-16, "1e-16"), (1e-200, None)]
)
def test_weights_far_apart_are_told_with_their_ratio(largest, ratio, words):
    weights = np.full(60, largest)
    weights[7] = largest * ratio
    if weights[7] == 0.0:
        pytest.skip("no weight is so small")
    with pytest.warns(
        WeightRangeWarning, match=rf"is {words or '.*'} of the largest.*Bring the weights closer"
    ) as told:
        fit(weights=weights)
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    "weights", [np.ones(60), np.linspace(2.0**-30, 1, 60), np.r_[np.zeros(30), np.full(30, 1e-300)]]
)
def test_weights_that_are_close_are_not_spoken_of(weights):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CosmeansWarning)
        fit(weights=weights)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.full(60, 1e300), r"sum to about 6e\+301.*at least 1e\+290"),
        (np.full(60, 1.7e308), r"sum to about 1e\+310.*at least 1e\+298"),
        (np.full(60, 1e12), r"sum to about 6e\+13.*at least 1e\+02"),
        (np.r_[1e200, np.ones(59)], r"sum to about 1e\+200.*at least 1e\+188"),
    ],
)
def test_weights_too_large_are_told_what_to_divide_by(weights, words):
    with pytest.raises(InputError, match=words) as told:
        fit(weights=weights)
    divisor = float(str(told.value).rsplit(" ", 1)[1].rstrip("."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightRangeWarning)
        fit(weights=weights / divisor)

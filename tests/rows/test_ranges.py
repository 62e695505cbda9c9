"""Values far apart: weights, tiny rows, and no rows at all."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from cosmeans import KMeans, lloyd
from cosmeans.errors import CosmeansWarning, IgnoredOptionWarning, InputError, WeightRangeWarning, ZeroRowsWarning
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import normal, unit_rows

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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_below_float32_are_told_from_zero_rows(dtype):
    x = X.astype(dtype)
    x[[5, 9]] *= 1e-60 if dtype is np.float64 else np.float32(1e-40)
    x[20] = 0.0
    with pytest.warns(
        ZeroRowsWarning, match=r"3 of 60 rows are zero \(the first is row 5, 2 of them with numbers below"
    ):
        fit(x)
    with pytest.raises(InputError, match=r"1.2e-38\).*Multiply such rows by a constant first"):
        fit(x, zero_rows="error")


def test_more_starts_than_one_of_given_centroids_are_told():
    with pytest.warns(IgnoredOptionWarning, match="instead of n_init=10") as told:
        kmeans = fit(init=unit_rows(3, 7), n_init=10)
    assert issubclass(told[0].category, RuntimeWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IgnoredOptionWarning)
        kmeans.fit(X)  # goes on, and says so by itself
        fit(n_init=3)
        fit(init=unit_rows(3, 7))


@pytest.mark.parametrize("sampled", [False, True])
def test_no_rows_are_no_interrupted_pass(sampled, backend, open_rows):
    none = torch.empty(0, dtype=torch.int64)
    rows = open_rows(X[:0], backend) if not sampled else open_rows(X, backend).sample(none).sample(none)
    first = torch.from_numpy(unit_rows(3, 7))

    result = lloyd.fit(rows, first, FitOptions(n_clusters=3, epochs=4), backend, Alone(), Silent())
    labels, _ = lloyd.score(rows, first, backend, Alone(), Silent())
    own, inertia = lloyd.own_chords(rows, first, labels, backend)

    assert torch.equal(result.centroids, first)
    assert result.counts.tolist() == [0, 0, 0]
    assert (len(labels), len(own), inertia) == (0, 0, 0.0)

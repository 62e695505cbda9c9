"""Each option is declared once: KMeans has the same names and defaults, and every wrong value is named."""

import inspect
from dataclasses import fields

import numpy as np
import pytest

from cosmeans import KMeans
from cosmeans.errors import OptionError
from cosmeans.options import FitOptions
from generators import unit_rows

NOT_PLAIN = {"self", "init"}  # checked where it is opened


def test_kmeans_has_the_options_with_their_defaults_in_their_order():
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(KMeans.__init__).parameters.items()
        if name not in NOT_PLAIN
    }

    assert parameters == FitOptions.defaults()
    assert list(parameters)[:3] == ["n_clusters", "batch_size", "epochs"]


def test_only_the_three_of_the_tutorial_are_positional():
    kinds = {name: p.kind for name, p in inspect.signature(KMeans).parameters.items()}

    positional = [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == ["n_clusters", "batch_size", "epochs"]


def test_every_option_explains_itself():
    for spec in fields(FitOptions):
        assert len(FitOptions.help(spec.name)) > 10
        assert spec.name in KMeans.__doc__


WRONG = {
    "n_clusters": [0, -1, 2.0, "8", None, True],
    "batch_size": [0, -5, 1.5, "all", False],
    "epochs": [0, None, 1e3],
    "n_init": [0, "auto", None],
    "tol": [-1e-9, float("nan"), None, "small", True],
    "max_iter": [0, 2.5],
    "verbose": [-1, "loud", None],
    "warm_start": [2, None, "yes"],
    "zero_rows": ["drop", None, 0],
    "nonfinite": ["warn", None],
    "empty_clusters": ["raise", 1],
    "backend": ["gpu3", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_with_what_is_needed(name, value):
    with pytest.raises(OptionError, match=rf"^{name} must be .*got {value!r}\.$"):
        FitOptions(**{name: value})


RIGHT = {
    "n_clusters": [1, np.int64(3)],
    "batch_size": [None, 1, np.int32(7)],
    "tol": [0, 2.0, np.float32(0.5)],
    "verbose": [0, 2, True, False],
    "warm_start": [True, False, np.True_],
    "zero_rows": ["warn", "skip", "error"],
    "empty_clusters": ["move", "keep", "error"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_a_right_value_is_taken_as_it_is(name, value):
    assert getattr(FitOptions(**{name: value}), name) == value


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_numbers_of_few_bits_do_not_overflow(kind):
    X = unit_rows(3000, 4)
    params = {"init": "k-means++", "random_state": 0, "verbose": 0}

    narrow = KMeans(kind(100), kind(100), kind(2), **params).fit(X)

    assert np.array_equal(narrow.cluster_centers_, KMeans(100, 100, 2, **params).fit(X).cluster_centers_)
    assert isinstance(FitOptions(tol=np.float16(0.1)).tol, float)


def test_max_iter_sets_the_epochs_and_may_repeat_but_not_contradict_them():
    assert FitOptions(max_iter=7).epochs == 7
    assert FitOptions(epochs=7, max_iter=7).epochs == 7
    with pytest.raises(OptionError, match="two names for one number"):
        FitOptions(epochs=8, max_iter=7)


def test_options_are_checked_by_fit_not_by_the_constructor():
    kmeans = KMeans(0)

    with pytest.raises(OptionError, match="n_clusters must be an integer of at least 1; got 0"):
        kmeans.fit(np.eye(3))

"""What the package promises by name."""

import inspect
import typing

import pytest

import cosmeans
from cosmeans import KMeans, errors

PROMISED = {
    *("fit", "predict", "transform", "score", "fit_predict", "fit_transform", "reset", "plot", "save", "load"),
    *("centers", "similarities", "get_params", "set_params", "set_output", "get_feature_names_out"),
}


def own_functions(cls):
    """Public methods and properties that cls itself defines."""
    for name, member in vars(cls).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function) and not name.startswith("_"):
            yield name, function


def test_all_is_sorted_and_whole():
    assert cosmeans.__all__ == sorted(cosmeans.__all__)
    assert all(hasattr(cosmeans, name) for name in cosmeans.__all__)
    assert {"KMeans", "History", "StopReason", "CosmeansError", "CosmeansWarning", "__version__"} <= {*cosmeans.__all__}


def test_kmeans_has_what_is_promised():
    assert set(dir(KMeans)) >= PROMISED


def test_every_public_function_says_what_it_gives_and_takes():
    for name, function in own_functions(KMeans):
        assert inspect.getdoc(function), name
        hints = typing.get_type_hints(function, localns={"Figure": object})  # matplotlib is loaded for a plot only
        needed = {*inspect.signature(function).parameters, "return"} - {"self", "cls"}
        assert needed <= set(hints), name


def test_fitted_attributes_are_documented():
    kmeans = KMeans(2, random_state=0, verbose=0).fit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    public = {name for name in vars(kmeans) if name.endswith("_") and not name.startswith("_")}
    assert {name for name in public if name not in KMeans.__doc__} == set()


@pytest.mark.parametrize(
    "name",
    [n for n in dir(errors) if inspect.isclass(getattr(errors, n)) and issubclass(getattr(errors, n), Exception)],
)
def test_every_error_is_in_the_tree_and_drawn_there(name):
    cls = getattr(errors, name)

    assert issubclass(cls, cosmeans.CosmeansError | cosmeans.CosmeansWarning)
    assert name in errors.__doc__
    assert inspect.getdoc(cls)

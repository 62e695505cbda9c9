"""Each option is declared once: whatever repeats its declaration agrees with it, and every wrong value is named."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from cosmeans import KMeans
from cosmeans.cli import app
from cosmeans.errors import OptionError
from cosmeans.options import OPTIONS, FitOptions
from generators import unit_rows

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
SIGNATURE = inspect.signature(KMeans).parameters
FLAGS = {parameter.name: parameter for parameter in get_command(app).commands["fit"].params}
SAID_BY = {"max_iter": "--epochs", "verbose": "--quiet", "warm_start": "--from", "resume": "--resume"}
# what is checked where it is used, and not by its type
ANNOTATIONS = {
    "init": "InitName | ArrayLike | Tensor | Callable[..., Any]",
    "random_state": "int | np.random.RandomState | None",
    "cache": "PathLike | None",
    "checkpoint": "PathLike | None",
    "resume": "bool | Literal['auto']",
}
DEFAULT_OF_FLAG = {"n_clusters": None, "random_state": 0}  # a model of --from has one; one command, one answer


def test_every_option_is_a_parameter_a_flag_and_an_entry_in_one_order():
    entries = re.findall(r"^    (\w+) : ", parameters_of_the_docstring(), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert list(SIGNATURE) == list(OPTIONS) == entries == rows
    assert [name for name in FLAGS if name in OPTIONS] == [name for name in OPTIONS if name not in SAID_BY]
    assert FitOptions.defaults() == {name: option.default for name, option in OPTIONS.items() if name != "init"}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_whatever_repeats_an_option_agrees_with_its_declaration(option):
    assert len(option.help) > 10
    assert SIGNATURE[option.name].default == option.default
    annotation = ANNOTATIONS.get(option.name) or FitOptions.__annotations__[option.name]
    # what is a number of bytes once it is checked may be given as a string with a unit
    assert SIGNATURE[option.name].annotation == (annotation.replace("int", "int | str") if option.size else annotation)
    if option.name not in SAID_BY:
        assert FLAGS[option.name].help == option.help
        assert FLAGS[option.name].default == DEFAULT_OF_FLAG.get(option.name, option.default)

    beginning = f"{option.name} : {option.takes}, default {written(option.default)} {sentence(option.help)}"
    assert beginning in " ".join(parameters_of_the_docstring().split())
    assert row_of(option) in PAGE.read_text(encoding="utf-8").splitlines()


def parameters_of_the_docstring():
    """The section of KMeans' docstring on its parameters."""
    return KMeans.__doc__.partition("Parameters\n")[2].partition("Attributes\n")[0]


def row_of(option):
    """The row of an option in docs/options.md; one to copy when an option was added or changed."""
    flag = SAID_BY.get(option.name) or next(name for name in FLAGS[option.name].opts if name[:2] == "--")
    return f"| `{option.name}` | {option.takes} | `{written(option.default)}` | `{flag}` | {option.help} |"


def written(value):
    return f'"{value}"' if isinstance(value, str) else repr(value)


def sentence(text):
    return text[0].upper() + text[1:]


def test_only_the_three_of_the_tutorial_are_positional():
    positional = [name for name, p in SIGNATURE.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]

    assert positional == ["n_clusters", "batch_size", "epochs"]


WRONG = {
    "n_clusters": [0, -1, 2.0, "8", None, True],
    "batch_size": [0, -5, 1.5, "all", False],
    "epochs": [0, None, 1e3],
    "n_init": [0, "auto", None],
    "tol": [-1e-9, float("nan"), None, "small", True],
    "max_iter": [0, 2.5],
    "verbose": [-1, "loud", None],
    "warm_start": [2, None, "yes"],
    "zero_rows": ["no", None, 0],
    "nonfinite": ["warn", None],
    "empty_clusters": ["lost", 1],
    "backend": ["x3", None],
    "memory_limit": [-1, 0.5],
    "device_memory_limit": [-1, 0.5],
    "checkpoint": [5, b"a"],
    "resume": ["yes", 1, None],
    "checkpoint_seconds": [-1, "often", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_with_what_is_needed(name, value):
    with pytest.raises(OptionError, match=rf"^{name} must be .*got {value!r}\.$"):
        FitOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("zero_rows", "drop", "skip"),
        ("empty_clusters", "raise", "error"),
        ("backend", "cuda", "gpu"),
        ("strategy", "Int8", "int8"),
        ("strategy", "fast", "auto"),
    ],
)
def test_a_name_that_is_nearly_right_gets_the_right_one(name, value, meant):
    with pytest.raises(OptionError, match=rf"got '{value}'\. Did you mean '{meant}'\?$"):
        FitOptions(**{name: value})


@pytest.mark.parametrize(("params", "meant"), [({"init": "kmeans++"}, "k-means++"), ({"device": "gpu"}, "cuda")])
def test_a_fit_asks_what_was_meant(params, meant):
    with pytest.raises(OptionError, match=re.escape(f"Did you mean {meant!r}?")):
        KMeans(2, verbose=0, **params).fit(np.eye(3))


RIGHT = {
    "n_clusters": [1, np.int64(3)],
    "batch_size": [None, 1, np.int32(7)],
    "tol": [0, 2.0, np.float32(0.5)],
    "verbose": [0, 2, True, False],
    "warm_start": [True, False, np.True_],
    "resume": ["auto", False, np.False_],
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

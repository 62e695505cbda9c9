"""Every public function answers for every kind of input what it answers for a float32 array, in the kind that came."""

import inspect

import pytest

import cosmeans
import face

# all functions open rows at one door, so a few of them try every kind, and a few kinds try all of them
ENTRANCES = ("fit", "predict", "score")
LONGER = ("choose_k", "report", "plot")
CHOSEN = ("array >f4", "array reversed", "tensor int8", "tensor list", "frame pandas mixed", "frame Series of arrays")
CHOSEN += ("batches of a DataLoader",)


@pytest.mark.parametrize("kind", face.rows())
def test_rows_of_every_kind_are_taken(kind, tmp_path):
    face.check(kind, tmp_path, only=ENTRANCES)


@pytest.mark.parametrize("kind", CHOSEN)
def test_every_function_takes_rows_of_chosen_kinds(kind, tmp_path):
    face.check(kind, tmp_path, only=face.FUNCTIONS if kind == CHOSEN[0] else face.FUNCTIONS.keys() - LONGER)


@pytest.mark.soak
@pytest.mark.parametrize("kind", face.rows())
def test_every_function_takes_rows_of_every_kind(kind, tmp_path):
    face.check(kind, tmp_path)


@pytest.mark.parametrize("kind", face.weights())
def test_weights_are_numbers_by_the_same_rule(kind, tmp_path):
    face.check_weights(kind, tmp_path)


@pytest.mark.parametrize("kind", face.kinds())
def test_first_centroids_are_numbers_by_the_same_rule(kind, tmp_path):
    face.check_centroids(kind, tmp_path)


def test_the_table_holds_every_public_function():
    functions = {name for name in cosmeans.__all__ if inspect.isfunction(getattr(cosmeans, name))}
    methods = {name for name, _ in inspect.getmembers(cosmeans.KMeans, inspect.isfunction) if name[0] != "_"}
    without_rows = {
        "open_rows",
        "empty_cache",
        "safe_globals",
        "reset",
        "load",
        "get_params",
        "set_params",
        "get_metadata_routing",
    }
    of_options = {f"set_{name}_request" for name in ("fit", "predict", "transform", "score")} | {
        "get_feature_names_out"
    }

    assert functions | methods - without_rows - of_options - {"fit_transform"} <= face.FUNCTIONS.keys() | without_rows

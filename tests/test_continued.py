"""A second fit goes on, or starts from scratch, where it should; centers that are set; models that are saved."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

import truth
from cosmeans import KMeans
from cosmeans.errors import InputError
from generators import normal, unit_rows

X = normal(300, 9)
FIRST = unit_rows(7, 9, 1)


def quiet(*args, **params):
    return KMeans(*args, **{"random_state": 0, "verbose": 0, **params})


def same(a, b):
    """Whether two models hold the same bits."""
    return (
        np.array_equal(a.labels_, b.labels_)
        and np.array_equal(a.cluster_centers_, b.cluster_centers_)
        and a.similarities == b.similarities
    )


def assert_answer(kmeans, expected):
    """The bits of the brute force, whole."""
    assert np.asarray(kmeans.cluster_centers_).tobytes() == expected.centroids.tobytes()
    assert np.array_equal(kmeans.labels_, expected.labels)
    assert kmeans.similarities == expected.similarities
    assert kmeans.n_iter_ == len(expected.similarities)


# ---------------------------------------------------------------- a second fit


def test_a_second_fit_goes_on(capsys):
    kmeans = quiet(7, None, 2, init=FIRST).fit(X).fit(X)

    expected = truth.fit(X, FIRST, 4)
    expected_labels, expected.similarities = expected.similarities, expected.similarities[2:]
    assert kmeans.similarities == expected_labels
    assert len(kmeans.history_) == 4
    assert kmeans.n_iter_ == 2
    assert np.array_equal(kmeans.cluster_centers_, expected.centroids)
    assert np.array_equal(kmeans.labels_, expected.labels)
    assert capsys.readouterr().err == ""


def test_one_line_says_that_a_fit_goes_on(capsys):
    kmeans = KMeans(7, None, 2, random_state=0).fit(X)
    assert capsys.readouterr().err == ""

    kmeans.fit(X)

    out, err = capsys.readouterr()
    assert (out, err) == ("", "cosmeans: continuing from the current 7 centers (warm_start=True)\n")


FROM_SCRATCH = {
    "another K": lambda k: k.set_params(n_clusters=6),
    "another init": lambda k: k.set_params(init="k-means++"),
    "another random_state": lambda k: k.set_params(random_state=1),
    "warm_start=False": lambda k: k.set_params(warm_start=False),
    "reset": lambda k: k.reset(),
    "a clone": clone,
}
ON = {
    "more epochs": lambda k: k.set_params(epochs=3),
    "another batch_size": lambda k: k.set_params(batch_size=11),
    "another backend": lambda k: k.set_params(backend="reference"),
    "another tol": lambda k: k.set_params(tol=1e-9),
    "the same parameters": lambda k: k.set_params(n_clusters=np.int64(7), random_state=0, init="random"),
    "pickled": lambda k: pickle.loads(pickle.dumps(k)),
    "copied": copy.deepcopy,
}


@pytest.mark.parametrize("change", FROM_SCRATCH)
def test_a_second_fit_starts_anew_after(change):
    kmeans = FROM_SCRATCH[change](quiet(7, None, 2).fit(X)).fit(X)

    assert same(kmeans, clone(kmeans).fit(X))
    assert kmeans.n_iter_ == len(kmeans.similarities) <= 2


@pytest.mark.parametrize("change", ON)
def test_a_second_fit_goes_on_after(change):
    kmeans = ON[change](quiet(7, None, 2).fit(X)).fit(X)

    epochs = 2 + kmeans.epochs
    assert kmeans.similarities == truth.fit(X, truth.random_start(X, 7, kmeans.random_state_), epochs).similarities


def test_a_second_fit_on_rows_of_another_width_starts_anew():
    kmeans = quiet(7, None, 2).fit(X).fit(X[:, :5])

    assert same(kmeans, quiet(7, None, 2).fit(X[:, :5]))
    assert kmeans.n_features_in_ == 5


def test_an_init_array_changed_in_place_is_another_init():
    init = FIRST.copy()
    kmeans = quiet(7, None, 2, init=init).fit(X)
    init[:] = unit_rows(7, 9, 2)

    assert_answer(kmeans.fit(X), truth.fit(X, init, 2))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))])
def test_a_copy_with_a_random_state_object_goes_on_too(duplicate):
    kmeans = quiet(7, None, 2, random_state=np.random.RandomState(3)).fit(X)

    assert len(duplicate(kmeans).fit(X).similarities) == 4


# ---------------------------------------------------------------- centers


@pytest.mark.parametrize("warm_start", [True, False])
def test_centers_set_before_the_first_fit_are_where_it_starts(warm_start):
    kmeans = quiet(7, None, 3, warm_start=warm_start)
    kmeans.centers = 5.0 * FIRST.astype(np.float64)

    assert kmeans.centers.tobytes() == truth.unit(5.0 * FIRST.astype(np.float64))[0].tobytes()
    expected = truth.fit(X, kmeans.centers, 3)
    assert_answer(kmeans.fit(X), expected)


def test_centers_set_after_a_fit_begin_a_new_history():
    kmeans = quiet(7, None, 3).fit(X)
    kmeans.centers = torch.from_numpy(FIRST)

    assert isinstance(kmeans.centers, torch.Tensor)
    assert kmeans.similarities == []
    assert not hasattr(kmeans, "labels_")
    assert_answer(kmeans.fit(X), truth.fit(X, FIRST, 3))


def test_centers_of_another_width_than_the_rows_are_an_error():
    kmeans = quiet(7)
    kmeans.centers = FIRST[:, :4]

    with pytest.raises(InputError, match=r"were set with shape \(7, 4\); n_clusters and the rows need \(7, 9\)"):
        kmeans.fit(X)


def test_centers_are_the_cluster_centers():
    kmeans = KMeans(verbose=0)
    assert kmeans.centers is None
    assert kmeans.similarities == []

    kmeans.fit(X)

    assert kmeans.centers is kmeans.cluster_centers_


# ---------------------------------------------------------------- saved and loaded


def test_a_saved_model_predicts_the_same_bits_and_goes_on(tmp_path):
    kmeans = quiet(7, None, 2, init="k-means++", random_state=None).fit(X)
    kmeans.save(tmp_path / "model")
    loaded = KMeans.load(tmp_path / "model")

    assert loaded.cluster_centers_.tobytes() == kmeans.cluster_centers_.tobytes()
    assert np.array_equal(loaded.predict(X), kmeans.labels_)
    assert loaded.transform(X).tobytes() == kmeans.transform(X).tobytes()
    assert loaded.similarities == kmeans.similarities
    assert same(loaded.set_params(verbose=0).fit(X), kmeans.fit(X))


def test_a_loaded_model_repeats_its_fit(tmp_path):
    kmeans = quiet(7, None, 2, random_state=None).fit(torch.from_numpy(X))
    kmeans.save(tmp_path / "model")

    assert same(KMeans.load(tmp_path / "model").reset().fit(X), kmeans)


def test_a_loaded_model_has_the_parameters_of_the_saved_one(tmp_path):
    kmeans = quiet(np.int64(7), 64, 2, tol=np.float32(0.5), zero_rows="skip", init=FIRST).fit(X)
    kmeans.save(tmp_path / "model")

    loaded = KMeans.load(tmp_path / "model").get_params()

    assert loaded == {**kmeans.get_params(), "init": "random"}

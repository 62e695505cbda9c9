"""KMeans is a scikit-learn estimator, in every place where one is put."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import truth
from cosmeans import KMeans
from cosmeans.errors import ZeroRowsWarning
from generators import normal

X = normal(200, 6)
FAILING = {
    "check_sample_weight_equivalence_on_dense_data": (
        "shuffles one of the two sides: a random start counts rows by index, so it draws other rows there, as "
        "scikit-learn's own KMeans does; integer weights equal repeated rows in their order (test_estimator.py)"
    ),
}


@parametrize_with_checks([KMeans(verbose=0)], expected_failed_checks=lambda _: FAILING, xfail_strict=True)
@pytest.mark.filterwarnings("ignore")
def test_the_contract(estimator, check):
    check(estimator)


def test_an_estimator_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), KMeans(4, random_state=0, verbose=0))
    labels = pipeline.fit_predict(X)

    alone = KMeans(4, random_state=0, verbose=0).fit(StandardScaler().fit_transform(X))
    assert np.array_equal(labels, alone.labels_)
    assert np.array_equal(pipeline.predict(X), labels)
    assert np.array_equal(pipeline.transform(X).argmax(axis=1), labels)


def test_a_grid_search_finds_the_highest_cosine():
    search = GridSearchCV(KMeans(random_state=0, verbose=0), {"n_clusters": [1, 3, 9]}, cv=3, error_score="raise")
    search.fit(X)

    best = search.best_estimator_
    cosines = truth.scores(truth.unit(X)[0], best.cluster_centers_).max(axis=1)
    assert best.n_clusters == 9
    assert abs(best.score(X) - cosines.mean()) < 1e-7
    assert (np.diff(search.cv_results_["mean_test_score"]) > 0).all()


def test_a_caller_that_sets_n_clusters_on_one_object_and_fits_again():
    kmeans = KMeans(random_state=0, verbose=0)
    for k in (2, 5, 3):
        kmeans.n_clusters = k
        fresh = KMeans(k, random_state=0, verbose=0).fit(X)

        assert np.array_equal(kmeans.fit(X).cluster_centers_, fresh.cluster_centers_)
        assert kmeans.similarities == fresh.similarities


def test_parameters_come_back_as_they_were_given():
    params = {
        "n_clusters": 5,
        "batch_size": 16,
        "epochs": 7,
        "init": normal(5, 6),
        "random_state": np.random.RandomState(0),
        "tol": 0.25,
    }

    kmeans = KMeans(**params)

    assert all(kmeans.get_params()[name] is value for name, value in params.items())
    assert set(clone(kmeans).get_params()) == set(kmeans.get_params())
    assert not any(name.endswith("_") for name in vars(clone(kmeans.fit(X))))


def test_frames_in_named_columns_out():
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(200) + 7)
    kmeans = KMeans(3, random_state=0, verbose=0).set_output(transform="pandas").fit(frame)

    cosines = kmeans.transform(frame)

    assert list(cosines.columns) == ["kmeans0", "kmeans1", "kmeans2"]
    assert list(cosines.index) == list(frame.index)
    assert list(kmeans.feature_names_in_) == list("abcdef")
    assert np.array_equal(cosines.to_numpy(), KMeans(3, random_state=0, verbose=0).fit(X).transform(X))
    assert isinstance(kmeans.labels_, np.ndarray)


def test_columns_in_another_order_are_an_error():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    kmeans = KMeans(3, random_state=0, verbose=0).fit(frame)

    with pytest.raises(ValueError, match="feature names should match"):
        kmeans.predict(frame[list("fedcba")])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        kmeans.predict(X)


def test_columns_out_are_as_many_as_centers_even_after_n_clusters_changed():
    kmeans = KMeans(3, random_state=0, verbose=0).fit(X).set_params(n_clusters=9)

    assert len(kmeans.get_feature_names_out()) == kmeans.transform(X).shape[1] == 3


def test_a_nullable_frame_is_read_by_its_numbers():
    frame = pd.DataFrame(X).convert_dtypes()

    assert np.array_equal(
        KMeans(3, random_state=0, verbose=0).fit(frame).labels_, KMeans(3, random_state=0, verbose=0).fit(X).labels_
    )


@pytest.mark.parametrize("kind", ["bool", "boolean", "complex64"])
def test_a_frame_with_a_column_that_is_no_real_number_is_refused(kind):
    frame = pd.DataFrame(X)
    frame[2] = pd.Series(np.arange(200) % 2 == 0).astype(kind)

    with pytest.raises((TypeError, ValueError), match="Rows must be real numbers"):
        KMeans(3, verbose=0).fit(frame)


def test_rows_without_direction_stay_in_place_in_a_pipeline():
    rows = X.copy()
    rows[4] = 0.0
    pipeline = make_pipeline(KMeans(3, random_state=0, verbose=0))

    with pytest.warns(ZeroRowsWarning):
        labels = pipeline.fit_predict(rows)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroRowsWarning)
        assert np.array_equal(pipeline.predict(rows), labels)
    assert np.flatnonzero(labels < 0).tolist() == [4]

"""Whatever can be said of arguments is said before the first pass over the rows: no hours of work are thrown away."""

import copy
import re
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from beginnings import Began, no_work
from cosmeans import KMeans, choose_k, deduplicate, evaluate, exemplars, match, moved, outliers, reorder, top
from cosmeans.analysis.matching import Match
from cosmeans.errors import CosmeansError, FeatureNamesError, FileError, InputError, InputTypeError, OptionError
from generators import normal

X = normal(40, 6)
T = torch.from_numpy(X)
NAMES = list("abcdef")
FRAME = pd.DataFrame(X, columns=NAMES)


@pytest.fixture
def models():
    """Two fitted models, one of them fitted on a frame, where no backend can begin a pass any more."""
    array, frame = (KMeans(3, random_state=0, verbose=0).fit(rows) for rows in (X, FRAME))
    with no_work():
        yield array, frame


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_work_that_begins_is_noticed(models, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (OF_ROWS | OF_MODEL).values():
        with pytest.raises(Began), no_work():
            call(models[0].set_params(backend=backend), X)


def mixed_names():
    frame = pd.DataFrame(normal(40, 5))
    frame["extra"] = 1.0
    return frame


def weights(value):
    values = np.ones(40)
    values[5] = value
    return values


SAME = Match(np.arange(3), np.arange(3), np.ones(3, np.float32))
NEW = {"verbose": 0, "random_state": 0}
ROWS = {  # rows that can't be those of a model of six features with names
    "names of two kinds": (mixed_names, InputTypeError, "only supported if all input features have string names"),
    "text in a column": (lambda: FRAME.assign(zip="90210"), InputTypeError, "'zip'"),
    "sparse": (lambda: T.to_sparse(), InputTypeError, "dense"),
    "three dimensions": (lambda: X[None], InputError, "two dimensions"),
    "no rows": (lambda: X[:0], InputError, "0 sample(s)"),
}
WRONG_D = {
    "a column missing": (lambda: FRAME.drop(columns="c"), FeatureNamesError, "yet now missing:\n- c\n"),
    "a column added": (lambda: FRAME.assign(z=1.0), FeatureNamesError, "unseen at fit time:\n- z\n"),
    "columns in another order": (lambda: FRAME[NAMES[::-1]], FeatureNamesError, "must be in the same order"),
    "more features": (lambda: normal(40, 7), InputError, "7 features, but KMeans is expecting 6"),
}
OF_ROWS = {
    "fit": lambda m, x: KMeans(3, **NEW).fit(x),
    "fit_predict": lambda m, x: KMeans(3, **NEW).fit_predict(x),
    "fit_transform": lambda m, x: KMeans(3, **NEW).fit_transform(x),
    "choose_k": lambda m, x: choose_k(x, [2], verbose=0),
}
OF_MODEL = {
    "predict": lambda m, x: m.predict(x),
    "transform": lambda m, x: m.transform(x),
    "score": lambda m, x: m.score(x),
    "report": lambda m, x: m.report(x, "page.html"),
    "evaluate": evaluate,
    "top": top,
    "outliers": outliers,
    "exemplars": exemplars,
    "deduplicate": deduplicate,
    "moved": lambda m, x: moved(m, m, x),
    "reorder": lambda m, x: reorder(m, rows=x),
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("name", [*OF_ROWS, *OF_MODEL])
def test_rows_that_are_none(models, name, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, error, text = ROWS[case]

    with pytest.raises(error, match=re.escape(text)):
        (OF_ROWS | OF_MODEL)[name](models[1], rows())


@pytest.mark.parametrize("case", WRONG_D)
@pytest.mark.parametrize("name", OF_MODEL)
def test_rows_of_another_fit(models, name, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, error, text = WRONG_D[case]

    with pytest.raises(error, match=re.escape(text)):
        OF_MODEL[name](models[1], rows())


def existing(m, call):
    with open("there", "w") as file:
        file.write("x")
    return call()


def stretched(m):
    twin = copy.deepcopy(m)
    twin.cluster_centers_[0] *= 2.0
    return twin


CALLS = {
    # weights
    "fit: negative weight": (lambda m: KMeans(3, **NEW).fit(X, sample_weight=weights(-1.0)), InputError),
    "fit: missing weight": (lambda m: KMeans(3, **NEW).fit(X, sample_weight=[None, *[1.0] * 39]), InputError),
    "fit: sparse weights": (lambda m: KMeans(3, **NEW).fit(T, sample_weight=T[:, 0].to_sparse()), InputTypeError),
    "fit: weights of text": (lambda m: KMeans(3, **NEW).fit(X, sample_weight=pd.Series(["2"] * 40)), InputTypeError),
    "fit: booleans as weights": (lambda m: KMeans(3, **NEW).fit(X, sample_weight=X[:, 0] > 0), InputTypeError),
    "fit_predict: too few weights": (lambda m: KMeans(3, **NEW).fit_predict(X, sample_weight=[1.0]), InputError),
    "score: NaN as weight": (lambda m: m.score(X, sample_weight=weights(np.nan)), InputError),
    "score: masked weight": (
        lambda m: m.score(X, sample_weight=np.ma.masked_array(np.ones(40), np.arange(40) == 3)),
        InputError,
    ),
    # options
    "fit: more clusters than rows": (lambda m: KMeans(50, **NEW).fit(X), InputError),
    "fit: option of another kind": (lambda m: KMeans(3, tol="a", **NEW).fit(X), OptionError),
    "fit: init of another shape": (lambda m: KMeans(3, init=X[:2], **NEW).fit(X), InputError),
    "fit: init with a missing entry": (lambda m: KMeans(3, init=[[None] * 6] * 3, **NEW).fit(X), InputError),
    "fit: init unknown": (lambda m: KMeans(3, init="best", **NEW).fit(X), OptionError),
    "fit: random_state unknown": (lambda m: KMeans(3, random_state="a", verbose=0).fit(X), OptionError),
    "fit: device unknown": (lambda m: KMeans(3, device="gpu", **NEW).fit(X), OptionError),
    "predict: option of another kind": (lambda m: m.set_params(batch_size=0).predict(X), OptionError),
    "choose_k: a number": (lambda m: choose_k(X, 3), OptionError),
    "choose_k: text": (lambda m: choose_k(X, "3"), OptionError),
    "choose_k: a fraction of a cluster": (lambda m: choose_k(X, [2, 2.5]), OptionError),
    "choose_k: one cluster": (lambda m: choose_k(X, [1, 2]), OptionError),
    "choose_k: no K": (lambda m: choose_k(X, []), OptionError),
    "choose_k: more clusters than rows": (lambda m: choose_k(X, [41]), InputError),
    "choose_k: no seeds": (lambda m: choose_k(X, [2], n_seeds=0), OptionError),
    "choose_k: epochs": (lambda m: choose_k(X, [2], epochs=0), OptionError),
    "choose_k: init": (lambda m: choose_k(X, [2], init="best"), OptionError),
    "choose_k: random_state": (lambda m: choose_k(X, [2], random_state="a"), OptionError),
    "choose_k: sample_size": (lambda m: choose_k(X, [2], sample_size=0), OptionError),
    "choose_k: folder": (lambda m: existing(m, lambda: choose_k(X, [2], folder="there")), CosmeansError),
    "evaluate: sample_size": (lambda m: evaluate(m, X, sample_size=1), OptionError),
    "evaluate: sample_size of another kind": (lambda m: evaluate(m, X, sample_size="a"), OptionError),
    "evaluate: random_state": (lambda m: evaluate(m, X, random_state=-1), OptionError),
    "evaluate: too few classes": (lambda m: evaluate(m, X, [1, 2]), InputError),
    "evaluate: a missing class": (lambda m: evaluate(m, X, [None, "a"] * 20), InputError),
    "evaluate: a NaN among text": (lambda m: evaluate(m, X, ["a", np.nan] * 20), InputError),
    "evaluate: classes that are lists": (lambda m: evaluate(m, X, [[1]] * 40), CosmeansError),
    "evaluate: one class": (lambda m: evaluate(m, X, 3), CosmeansError),
    "top: more clusters than there are": (lambda m: top(m, X, 4), OptionError),
    "top: no clusters": (lambda m: top(m, X, 0), OptionError),
    "exemplars: no rows": (lambda m: exemplars(m, X, 0), OptionError),
    "outliers: share": (lambda m: outliers(m, X, quantile=2.0), OptionError),
    "outliers: threshold of text": (lambda m: outliers(m, X, threshold="a"), OptionError),
    "deduplicate: threshold": (lambda m: deduplicate(m, X, 2.0), OptionError),
    "deduplicate: keep": (lambda m: deduplicate(m, X, keep="first"), OptionError),
    "deduplicate: max_cluster_size": (lambda m: deduplicate(m, X, max_cluster_size=1), OptionError),
    "deduplicate: random_state": (lambda m: deduplicate(m, X, random_state=None), OptionError),
    "reorder: order": (lambda m: reorder(m, [0, 0, 1], X), OptionError),
    "reorder: name of an order": (lambda m: reorder(m, "name", X), OptionError),
    "moved: a match of other models": (lambda m: moved(m, m, X, matched=3), InputTypeError),
    # outputs and what is missing
    "report: too few texts": (lambda m: m.report(X, "page.html", texts=["a"]), InputError),
    "report: texts that are none": (lambda m: m.report(X, "page.html", texts=[1] * 40), InputError),
    "report: too few pictures": (lambda m: m.report(X, "page.html", images=["a.png"]), InputError),
    "report: exists": (lambda m: existing(m, lambda: m.report(X, "there")), CosmeansError),
    "report: n_examples": (lambda m: m.report(X, "page.html", n_examples=0), OptionError),
    "report: projection": (lambda m: m.report(X, "page.html", projection="mds"), OptionError),
    "report: title": (lambda m: m.report(X, "page.html", title=3), OptionError),
    "save: exists": (lambda m: existing(m, lambda: m.save("there")), CosmeansError),
    "save: a path of another kind": (lambda m: m.save(3), InputTypeError),
    "save: a path of bytes": (lambda m: m.save(b"model"), InputTypeError),
    "save: a null character": (lambda m: m.save("a\0b"), FileError),
    "save: force of another kind": (lambda m: m.save("model", force="no"), OptionError),
    "save: force of an array": (lambda m: m.save("model", force=X), OptionError),
    "load: a path of another kind": (lambda m: KMeans.load(None), InputTypeError),
    "load: a name too long": (lambda m: KMeans.load("x" * 300), FileError),
    "fit: a name too long": (lambda m: KMeans(3, **NEW).fit("x" * 300 + ".npy"), FileError),
    "fit: half of a character": (lambda m: KMeans(3, **NEW).fit("\ud800.npy"), FileError),
    "plot: a path of another kind": (lambda m: m.plot(path=True), InputTypeError),
    "report: a path of another kind": (lambda m: m.report(X, None), InputTypeError),
    "report: half of a character": (lambda m: m.report(X, "\ud800.html"), FileError),
    "report: force of another kind": (lambda m: m.report(X, "page.html", force="no"), OptionError),
    "report: one text": (lambda m: m.report(X, "page.html", texts="texts.txt"), InputTypeError),
    "report: a number of texts": (lambda m: m.report(X, "page.html", texts=3), InputTypeError),
    "report: projection of another kind": (lambda m: m.report(X, "page.html", projection=X), OptionError),
    "choose_k: folder of another kind": (lambda m: choose_k(X, [2], folder=3), InputTypeError),
    "choose_k: a name too long": (lambda m: choose_k(X, [2], folder="x" * 300, n_seeds=1), FileError),
    "choose_k: an array without entries": (lambda m: choose_k(X, np.array(2)), OptionError),
    "choose_k: a K that is an array": (lambda m: choose_k(X, [T[0]]), OptionError),
    "evaluate: no classes at all": (lambda m: evaluate(m, X, pd.NA), InputTypeError),
    "evaluate: sparse classes": (lambda m: evaluate(m, X, T[:, 0].to_sparse()), InputTypeError),
    "evaluate: classes without values": (lambda m: evaluate(m, X, T[:, 0].to("meta")), CosmeansError),
    "evaluate: classes that are vectors": (lambda m: evaluate(m, X, list(T)), InputTypeError),
    "evaluate: a decimal NaN": (lambda m: evaluate(m, X, [Decimal("nan")] * 40), InputError),
    "outliers: a share beyond floats": (lambda m: outliers(m, X, quantile=10**400), OptionError),
    "outliers: a threshold beyond floats": (lambda m: outliers(m, X, threshold=10**400), OptionError),
    "deduplicate: keep of another kind": (lambda m: deduplicate(m, X, keep=X), OptionError),
    "reorder: nothing in an order": (lambda m: reorder(m, [None, 1, 2], X), OptionError),
    "reorder: centers changed in place": (lambda m: reorder(stretched(m)), InputError),
    "relabel: below -1": (lambda m: SAME.relabel([0, -2]), InputError),
    "relabel: ragged": (lambda m: SAME.relabel([[0], [1, 2]]), InputError),
    "relabel: with a graph": (lambda m: SAME.relabel(T[0].clone().requires_grad_()), InputError),
    "fit: a switch as random_state": (lambda m: KMeans(3, random_state=True, verbose=0).fit(X), OptionError),
    "save: an option that can't be saved": (lambda m: m.set_params(tol="a").save("model"), OptionError),
}


@pytest.mark.parametrize("case", CALLS)
def test_arguments_beside_the_rows(models, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, error = CALLS[case]

    with pytest.raises(error) as caught:
        call(models[0])

    assert isinstance(caught.value, CosmeansError)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("name", OF_MODEL)
def test_a_model_that_is_none(name):
    if name in ("predict", "transform", "score", "report"):
        return
    with pytest.raises(InputTypeError, match=r"must be a fitted KMeans, got a dict\. Load a saved one"):
        OF_MODEL[name]({}, X)


def test_models_that_can_not_be_matched(models):
    array, _ = models
    other = KMeans(3, **NEW)
    other.centers = normal(3, 5)

    with pytest.raises(InputError, match="6 and 5 features"):
        match(array, other)
    with pytest.raises(InputError, match="6 and 5 features"):
        moved(array, other, X)
    with pytest.raises(InputTypeError, match="new must be a fitted KMeans, got a NoneType"):
        match(array, None)


def test_extras_that_are_missing(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="Plots need matplotlib"):
        models[0].plot()


def test_numbers_of_other_kinds_are_plain_before_they_are_used(tmp_path):
    """A fraction fits, and what fits can be saved."""
    kmeans = KMeans(np.int64(3), tol=Fraction(1, 100), epochs=np.uint8(5), **NEW).fit(X)

    kmeans.save(tmp_path / "model")

    assert KMeans.load(tmp_path / "model").tol == 0.01


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7), np.random.RandomState(7), np.random, None])
def test_a_fit_with_any_random_state_can_be_saved(tmp_path, seed):
    kmeans = KMeans(3, random_state=seed, verbose=0).fit(X)

    kmeans.save(tmp_path / "model")

    repeated = KMeans(3, random_state=KMeans.load(tmp_path / "model").random_state, verbose=0).fit(X)
    assert repeated.labels_.tolist() == kmeans.labels_.tolist()

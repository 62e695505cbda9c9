"""The state of a fit is one: whatever interrupts it and whatever reads it, there is the fit before or the fit after."""

import copy
import os
import pickle
import random
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import cosmeans
from cosmeans import KMeans, calls, reorder
from cosmeans.cli import run
from cosmeans.cli.inspect import model_facts
from cosmeans.errors import CosmeansError, InputError, NoFitError, OptionError, OutputExistsError, ReadOnlyError
from generators import normal, unit_rows

ROWS, OTHER = normal(90, 6), normal(80, 6, 1)
OURS = str(Path(cosmeans.__file__).parent)
PARTS = ("cluster_centers_", "labels_", "similarity_", "counts_", "history_", "inertia_", "random_state_", "n_iter_")


def new(**params):
    return KMeans(**{"n_clusters": 5, "epochs": 3, "random_state": 0, "verbose": 0, "backend": "reference", **params})


def seen(kmeans):
    """All that a model shows, as one value."""
    parts = {name: getattr(kmeans, name) for name in PARTS}
    return joblib.hash({n: np.asarray(p) if isinstance(p, torch.Tensor) else p for n, p in parts.items()})


# ---------------------------------------------------------------- interrupts


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line that runs in this package, as a signal may; counts without n."""

    def __init__(self, at=0, error=KeyboardInterrupt):
        self.at, self.lines, self.error = at, 0, error

    def __enter__(self):
        self.before = sys.gettrace()  # what measures the coverage of the tests
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                sys.settrace(None)
                raise self.error
        return self._line


def set_centers(kmeans):
    kmeans.centers = unit_rows(5, 6, 2)


WORK = {
    "a first fit": (new, lambda k: k.fit(ROWS)),
    "a fit that goes on": (lambda: new().fit(ROWS), lambda k: k.fit(ROWS)),
    "a fit from scratch": (lambda: new(warm_start=False, epochs=1).fit(OTHER), lambda k: k.fit(ROWS)),
    "centers": (lambda: new().fit(ROWS), set_centers),
    "reset": (lambda: new().fit(ROWS), lambda k: k.reset()),
}


def state_of(kmeans):
    if kmeans.centers is None:
        return None
    return seen(kmeans) if hasattr(kmeans, "labels_") else joblib.hash(kmeans.centers)


@pytest.fixture(autouse=True)
def gradients():
    """An interrupt inside of `torch.no_grad` may leave them off for the tests that follow."""
    yield
    torch.set_grad_enabled(True)


# an interrupt may also meet what another test left to be closed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", WORK)
def test_an_interrupt_leaves_the_state_before_or_the_state_after(what):
    make, work = WORK[what]
    work(make())  # what only a first call does is done
    before, model = state_of(make()), make()
    with Interrupt() as whole:
        work(model)
    after = state_of(model)
    assert before != after
    start = make()
    draw = random.Random(0)
    first = range(max(1, whole.lines - 60), whole.lines + 1)  # where the state is made and set
    moments = sorted({*first, *(draw.randint(1, whole.lines) for _ in range(140 if "fit" in what else 0))})
    found = set()
    for moment in moments:
        kmeans = copy.copy(start)
        with suppress(KeyboardInterrupt), Interrupt(moment):
            work(kmeans)
        found.add(state_of(kmeans))
        assert found <= {before, after}, moment
        with torch.inference_mode():
            assert not calls.public(torch.is_inference_mode_enabled)(), "the next call begins like any other"
        if state_of(kmeans) == before and moment in first:
            work(kmeans)
            assert state_of(kmeans) == after, "what was interrupted can be done again"
    assert before in found


@pytest.mark.parametrize("what", ["a first fit", "a fit that goes on"])
def test_an_error_while_the_state_is_made_changes_nothing(what):
    make, work = WORK[what]
    work(make())
    model = make()
    with Interrupt() as whole:
        work(model)
    before, after, changed = state_of(make()), state_of(model), 0
    for moment in range(whole.lines - 60, whole.lines, 7):
        kmeans, untouched = make(), make()
        with pytest.raises(MemoryError), Interrupt(moment, MemoryError):
            work(kmeans)

        assert state_of(kmeans) in (before, after)
        if state_of(kmeans) == before:
            assert set(vars(kmeans)) == set(vars(untouched))
            work(kmeans)
            assert state_of(kmeans) == after
            changed += 1
    assert changed > 2


# ---------------------------------------------------------------- threads


def test_threads_see_one_fit_or_the_other(tmp_path):
    """predict, save, copies and pickles during fits of two sets of rows, of other widths too."""
    kmeans = new(warm_start=False, epochs=1)
    sets = [(ROWS, "narrow"), (np.concatenate([OTHER, OTHER], axis=1), "wide")]
    whole = {}
    for rows, name in sets:
        kmeans.fit(rows)
        whole[name] = seen(kmeans), kmeans.predict(rows).tobytes(), KMeans.__getstate__(kmeans)["_fit_state"]
    seeds = {joblib.hash(packed) for *_, packed in whole.values()}
    done, wrong = threading.Event(), []

    def look(number):
        while not done.is_set():
            twin = copy.copy(kmeans)
            if joblib.hash(KMeans.__getstate__(twin)["_fit_state"]) not in seeds:
                wrong.append("a copy")
            twin.save(tmp_path / f"model{number}", force=True)
            loaded = KMeans.load(tmp_path / f"model{number}")
            kmeans.save(tmp_path / f"model{number}", force=True)
            at_once = KMeans.load(tmp_path / f"model{number}")
            for model in (loaded, at_once):
                expected = whole["narrow" if model.n_features_in_ == 6 else "wide"][2]
                if model.similarities != [e["similarity"] for e in expected["history_"]] or not np.array_equal(
                    model.cluster_centers_, expected["cluster_centers_"]
                ):
                    wrong.append("a saved model")
            try:
                labels = kmeans.predict(ROWS)
            except InputError as error:  # the fit to wide rows had just ended
                if "expecting 12" not in str(error):
                    wrong.append(error)
            else:
                if labels.tobytes() != whole["narrow"][1]:
                    wrong.append("labels")

    watchers = [threading.Thread(target=look, args=(number,)) for number in range(2)]
    for watcher in watchers:
        watcher.start()
    for turn in range(30):
        kmeans.fit(sets[turn % 2][0])
    done.set()
    for watcher in watchers:
        watcher.join()

    assert wrong == []


# ---------------------------------------------------------------- what users may set

READ_ONLY = {
    *("labels_", "similarity_", "inertia_", "counts_", "n_distinct_", "n_iter_", "history_", "stop_reason_"),
    *("random_state_", "costs_", "n_features_in_", "feature_names_in_"),
}
CHECKED = {"centers", "cluster_centers_"}
NO_SETTER = {"similarities"}
ABSENT_AFTER = {  # attributes that there are none of after ...
    "a fit": {"feature_names_in_"},
    "centers": READ_ONLY - {"random_state_", "n_features_in_", "history_"},
    "load": {"labels_", "similarity_", "inertia_", "costs_", "feature_names_in_"},
}


def documented():
    text = KMeans.__doc__.split("Attributes\n    ----------")[1]
    return {word.strip("`,.") for word in text.replace("(", " ").split() if word.strip("`,.").endswith("_")}


def test_every_documented_attribute_says_whether_it_can_be_set():
    assert documented() == (READ_ONLY | CHECKED) - {"centers"}
    frame = pytest.importorskip("pandas").DataFrame(ROWS, columns=list("abcdef"))
    kmeans = new().fit(frame)
    assert {name for name in vars(kmeans) if name.endswith("_")} == (READ_ONLY | CHECKED) - {"centers"}


@pytest.mark.parametrize("name", sorted(READ_ONLY | NO_SETTER))
def test_outcomes_of_a_fit_cannot_be_set_or_deleted(name):
    kmeans = new().fit(ROWS)
    before = seen(kmeans)
    for change in (lambda: setattr(kmeans, name, 3), lambda: delattr(kmeans, name)):
        with pytest.raises(AttributeError) as caught:
            change()
        assert name in NO_SETTER or (isinstance(caught.value, ReadOnlyError) and name in str(caught.value))
    assert seen(kmeans) == before


@pytest.mark.parametrize("name", sorted(READ_ONLY | {"cluster_centers_"}))
def test_an_attribute_that_is_not_there_says_why(name, tmp_path):
    with pytest.raises(NotFittedError, match=f"not fitted yet: it has no {name}. Call fit"):
        getattr(new(), name)
    fit = new().fit(ROWS)
    fit.save(tmp_path / "model")
    given = new().fit(ROWS)
    given.centers = unit_rows(5, 6)
    for how, kmeans in {"a fit": fit, "centers": given, "load": KMeans.load(tmp_path / "model")}.items():
        assert hasattr(kmeans, name) is (name not in ABSENT_AFTER[how]), how


CENTERS = fit_centers = new().fit(ROWS).cluster_centers_
GOOD = {
    "as they are": CENTERS,
    "scaled": CENTERS * np.linspace(1, 3, 5, dtype=np.float32)[:, None],
    "float64": CENTERS.astype(np.float64) * 2,
    "big-endian": CENTERS.astype(">f4"),
    "Fortran order": np.asfortranarray(CENTERS),
    "reversed twice": CENTERS[::-1].copy()[::-1],
    "every second": np.repeat(CENTERS, 2, axis=0)[::2],
    "list": CENTERS.tolist(),
    "tensor": torch.from_numpy(CENTERS.copy()),
    "tensor with a graph": torch.from_numpy(CENTERS.copy()).requires_grad_() * 1.0,
    "integers": np.rint(CENTERS * 1e6).astype(np.int64),
}
BAD = {
    "too few": (CENTERS[:3], r"has shape \(3, 6\); n_clusters"),
    "a vector": (CENTERS[0], r"has shape \(6,\)"),
    "NaN": (np.where(np.arange(5)[:, None] == 2, np.nan, CENTERS), "centroid 2 contains NaN"),
    "infinity": (np.where(np.arange(5)[:, None] == 1, np.inf, CENTERS), "centroid 1 contains NaN or infinity"),
    "zero": (CENTERS * (np.arange(5)[:, None] != 4), "centroid 4 is zero"),
    "text": ([["a"] * 6] * 5, "must be"),
    "None": (None, r"has shape \(\)|must be"),
    "complex": (CENTERS * 1j, "real numbers"),
}


@pytest.mark.parametrize("attribute", sorted(CHECKED))
@pytest.mark.parametrize("kind", GOOD)
def test_centroids_that_are_set_are_checked_and_scaled(attribute, kind):
    kmeans = new().fit(ROWS)
    labels = kmeans.labels_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        setattr(kmeans, attribute, GOOD[kind])
        found = np.asarray(kmeans.predict(ROWS))
        assert np.array_equal(found, labels)
        assert np.asarray(kmeans.transform(ROWS)).max() <= 1 + 1e-6
    assert isinstance(kmeans.cluster_centers_, torch.Tensor) is kind.startswith("tensor")
    assert not hasattr(kmeans, "labels_"), "they belonged to other centroids"


@pytest.mark.parametrize("attribute", sorted(CHECKED))
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("make", [new, lambda: new().fit(ROWS)], ids=["unfitted", "fitted"])
def test_bad_centroids_are_refused_and_change_nothing(attribute, kind, make):
    kmeans = make()
    before = state_of(kmeans)
    values, reason = BAD[kind]
    with pytest.raises(CosmeansError, match=reason) as caught:
        setattr(kmeans, attribute, values)
    assert attribute in str(caught.value) or kind == "complex"
    assert state_of(kmeans) == before


@pytest.mark.parametrize("attribute", sorted(CHECKED))
def test_centroids_set_on_an_unfitted_model_predict_save_and_start_the_fit(attribute, tmp_path):
    kmeans = new()
    setattr(kmeans, attribute, CENTERS * 4)
    labels = kmeans.predict(ROWS)
    kmeans.save(tmp_path / "model")
    loaded = KMeans.load(tmp_path / "model")

    assert np.array_equal(loaded.predict(ROWS), labels)
    for model in (loaded, copy.deepcopy(kmeans)):
        fit = model.fit(ROWS)
        assert seen(fit) == seen(new(init=CENTERS, random_state=fit.random_state_).fit(ROWS))
    with pytest.raises(InputError, match="X has 4 features"):
        kmeans.predict(ROWS[:, :4])


@pytest.mark.parametrize("kind", ["NaN", "zero", "length", "shape"])
@pytest.mark.parametrize("tensor", [False, True])
def test_centroids_changed_in_place_are_noticed_when_used(kind, tensor, tmp_path):
    kmeans = new().fit(torch.from_numpy(ROWS) if tensor else ROWS)
    centers = kmeans.cluster_centers_
    if kind == "shape":
        if tensor:
            centers.resize_(6, 5)
        else:
            centers.resize((6, 5), refcheck=False) if centers.base is None else pytest.skip("it is a view")
    else:
        centers[2] = (
            {"NaN": np.nan, "zero": 0.0, "length": 2.0 * np.eye(6)[0]}[kind]
            if not tensor
            else torch.tensor({"NaN": [np.nan] * 6, "zero": [0.0] * 6, "length": [2.0] + [0.0] * 5}[kind])
        )
    uses = {
        "predict": lambda: kmeans.predict(ROWS),
        "transform": lambda: kmeans.transform(ROWS),
        "score": lambda: kmeans.score(ROWS),
        "fit": lambda: kmeans.fit(torch.from_numpy(ROWS) if tensor else ROWS),
        "save": lambda: kmeans.save(tmp_path / "model"),
        "top": lambda: cosmeans.top(kmeans, ROWS),
        "exemplars": lambda: cosmeans.exemplars(kmeans, ROWS),
        "evaluate": lambda: cosmeans.evaluate(kmeans, ROWS),
    }
    for use in uses.values():
        with pytest.raises(InputError, match="cluster_centers_ was changed in place"):
            use()
    kmeans.centers = CENTERS
    kmeans.predict(ROWS)


OPTIONS = {
    "n_clusters": (0, "5", 2.5, None),
    "batch_size": (0, "many", -3),
    "epochs": (0, 1.5, None, 10**400),
    "n_init": (0, "auto"),
    "tol": (-1, "small", float("nan"), float("inf"), None),
    "max_iter": (0, "x"),
    "verbose": (-1, None),
    "warm_start": (2, None, "yes"),
    "zero_rows": ("drop", None, ["warn"]),
    "nonfinite": ("warn", 3),
    "empty_clusters": ("raise", None),
    "backend": ("tpu", None, np.array(["cpu"])),
    "strategy": ("fast", 0),
    "memory_limit": (-1, "1 XB"),
    "device_memory_limit": (-1, "1 XB"),
    "cache": (3, b"folder", ["folder"]),
    "checkpoint": (3, b"folder", ["folder"]),
    "resume": ("yes", 1, None),
    "checkpoint_seconds": (-1.0, "30", float("nan")),
    "device": ("gpu9", 0, None),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_set_by_hand_are_checked_when_used(name, tmp_path):
    new().fit(ROWS).save(tmp_path / "model")
    for value in OPTIONS[name]:
        for make in (lambda: new().fit(ROWS), lambda: KMeans.load(tmp_path / "model")):
            by_attribute, by_params = make(), make()
            setattr(by_attribute, name, value)
            by_params.set_params(**{name: value})
            for kmeans in (by_attribute, by_params):
                for use in (kmeans.fit, kmeans.predict, kmeans.transform, kmeans.score):
                    with pytest.raises(CosmeansError, match=name if name != "device" else "device"):
                        use(ROWS)
                if name != "device" or not isinstance(value, str):
                    with pytest.raises(OptionError, match=name):
                        kmeans.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_every_option_has_a_row_in_the_table():
    assert {*OPTIONS, "init", "random_state"} == set(new().get_params())


def test_centers_that_were_set_have_no_fit_to_show(tmp_path):
    kmeans = new()
    kmeans.centers = CENTERS
    kmeans.save(tmp_path / "model")
    model_facts(tmp_path / "model")
    for model in (kmeans, KMeans.load(tmp_path / "model")):
        for use in (model.plot, lambda m=model: reorder(m), lambda m=model: m.report(ROWS, tmp_path / "page.html")):
            with pytest.raises(NoFitError, match=r"has no counts_: .* Call fit"):
                use()
    for line in (["plot", str(tmp_path / "model")], ["report", str(tmp_path / "model"), "x.npy"]):
        assert run(line) in (1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_is_not_saved_says_so_and_where_it_is_found_instead(tmp_path):
    kmeans = new().fit(ROWS)
    kmeans.save(tmp_path / "model")
    loaded = KMeans.load(tmp_path / "model")

    for model in (loaded, reorder(kmeans)):
        for name, advice in {"labels_": "predict", "similarity_": "cosmeans.top", "inertia_": "score"}.items():
            assert not hasattr(model, name)
            with pytest.raises(NoFitError, match=rf"has no {name}: it is not saved with a model.* Call {advice} with"):
                getattr(model, name)
    with pytest.raises(NoFitError, match=r"has no costs_: it is not saved .* Call fit"):
        _ = loaded.costs_
    with pytest.raises(NoFitError, match="the columns of the rows that it was fitted to had no names"):
        _ = kmeans.feature_names_in_
    assert np.array_equal(loaded.predict(ROWS), kmeans.labels_)
    assert np.array_equal(cosmeans.top(loaded, ROWS, 1).cosines[:, 0], kmeans.similarity_)


def test_an_object_replaces_the_folder_that_it_saved(tmp_path, monkeypatch):
    """By any name of the folder, after another fit, and from a copy; nothing else does."""
    kmeans = new(epochs=1).fit(ROWS)
    kmeans.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    kmeans.save("model")
    kmeans.fit(ROWS).save("model")
    assert KMeans.load("model").similarities == kmeans.similarities
    copy.copy(kmeans).save("model")

    others = [
        new(epochs=1).fit(ROWS),
        clone(kmeans).fit(ROWS),
        KMeans.load("model"),
        pickle.loads(pickle.dumps(kmeans)),
    ]
    for other in others:
        with pytest.raises(OutputExistsError, match="already exists"):
            other.save("model")
    assert sorted(os.listdir()) == ["model"]


CHANGES = {
    "another model": lambda path: new(epochs=1, random_state=5).fit(OTHER).save(path, force=True),
    "a field": lambda path: (path / "model.json").write_bytes((path / "model.json").read_bytes() + b"\n"),
    "a tensor": lambda path: (path / "model.safetensors").write_bytes(b"x"),
    "a file is gone": lambda path: (path / "model.safetensors").unlink(),
    "another file": lambda path: (path / "mine.txt").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changed_since_is_not_replaced(change, tmp_path):
    kmeans = new(epochs=1).fit(ROWS)
    path = tmp_path / "model"
    kmeans.save(path)
    CHANGES[change](path)
    before = {entry.name: entry.read_bytes() for entry in path.iterdir()}

    with pytest.raises(OutputExistsError):
        kmeans.save(path)

    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before


def test_first_centroids_with_a_graph_are_copied_and_cloned():
    init = (torch.from_numpy(CENTERS.copy()).requires_grad_() * 1.0).requires_grad_()
    kmeans = new(init=init).fit(torch.from_numpy(ROWS))
    for twin in (clone(kmeans), copy.deepcopy(kmeans), copy.copy(kmeans)):
        assert torch.equal(twin.init, init)
        assert seen(twin.fit(torch.from_numpy(ROWS)).reset().fit(torch.from_numpy(ROWS))) == seen(kmeans)
    assert kmeans.init is init


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strategy", ["float32", "split", "int8", "auto"])
def test_interrupts_of_compiled_strategies_leave_the_state_before_or_after(strategy, seed):
    rows = normal(400, 20)
    make = lambda: new(backend="cpu", strategy=strategy, n_clusters=5).fit(rows)  # noqa: E731
    before, model = state_of(make()), make()
    with Interrupt() as whole:
        model.fit(rows)
    after, draw = state_of(model), random.Random(seed)
    for _ in range(200):
        kmeans = make()
        with suppress(KeyboardInterrupt), Interrupt(draw.randint(1, whole.lines)):
            kmeans.fit(rows)  # which may run fewer lines than the first one, that compiled and measured
        assert state_of(kmeans) in (before, after)
    assert state_of(make().fit(rows)) == after


def test_reordered_clusters_keep_the_model_as_it_is():
    kmeans = new().fit(ROWS)
    before = seen(kmeans)
    ordered = reorder(kmeans, "size", ROWS)
    assert (np.diff(ordered.counts_) <= 0).all()
    assert seen(kmeans) == before
    assert clone(ordered).centers is None

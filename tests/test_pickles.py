"""Every kind of pickle holds the estimator, and equal fits have equal pickles."""

import copy
import io
import pickle
import re
import warnings
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import torch

import cosmeans
from cosmeans import KMeans
from generators import normal

ROWS = normal(70, 5)


def named(rows):
    return pytest.importorskip("pandas").DataFrame(rows, columns=list("abcde"))


def given(rows):
    kmeans = new()
    kmeans.centers = rows[:4]
    return kmeans


def new(**params):
    return KMeans(4, **{"epochs": 3, "random_state": 0, "verbose": 0, "backend": "reference", **params})


MODELS = {
    "unfitted": new,
    "arrays": lambda: new().fit(ROWS),
    "tensors": lambda: new().fit(torch.from_numpy(ROWS)),
    "a frame": lambda: new().fit(named(ROWS)),
    "centers": lambda: given(ROWS),
    "centers that are tensors": lambda: given(torch.from_numpy(ROWS)),
    "went on": lambda: new(epochs=1, max_iter=1).fit(ROWS).fit(ROWS),
    "first centroids": lambda: new(init=ROWS[:4]).fit(ROWS),
    "set_output": lambda: new().set_output(transform="default").fit(ROWS),
    "reset": lambda: new().fit(ROWS).reset(),
}


def by_torch(kmeans):
    file = io.BytesIO()
    torch.save(kmeans, file)
    file.seek(0)
    with torch.serialization.safe_globals(cosmeans.safe_globals()):
        return torch.load(file, weights_only=True)


def by_skops(kmeans):
    skops = pytest.importorskip("skops.io")
    return skops.loads(skops.dumps(kmeans), trusted=["cosmeans.estimator.KMeans"])


def by_joblib(kmeans, mode=None):
    file = Path(joblib.__file__).name  # any name: the file is in the folder of the test
    joblib.dump(kmeans, file)
    return joblib.load(file, mmap_mode=mode)


WAYS = {f"protocol {p}": lambda k, p=p: pickle.loads(pickle.dumps(k, protocol=p)) for p in range(6)} | {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda k: cloudpickle.loads(cloudpickle.dumps(k)),
    "joblib": by_joblib,
    "joblib, mapped": lambda k: by_joblib(k, "r"),
    "joblib, mapped for writing": lambda k: by_joblib(k, "c"),
    "torch": by_torch,
    "skops": by_skops,
}


def assert_same(found, kmeans):
    """Every attribute, its type and its dtype; the costs are those of a run and stay behind."""
    assert type(found) is type(kmeans)
    names = {name for name in vars(kmeans) if name.endswith("_")} - {"costs_"}
    assert {name for name in vars(found) if name.endswith("_")} - {"costs_"} == names
    for name in names:
        one, other = getattr(found, name), getattr(kmeans, name)
        if isinstance(other, torch.Tensor | np.ndarray):
            kind = torch.Tensor if isinstance(other, torch.Tensor) else np.ndarray
            assert isinstance(one, kind), name
            assert one.dtype == other.dtype, name
            assert np.array_equal(one, other), name
        else:
            assert (type(one), one) == (type(other), other), name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def test_every_pickle_holds_every_model(way, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kmeans = MODELS[model]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = WAYS[way](kmeans)
        assert_same(found, kmeans)
        if kmeans.centers is not None:
            rows = named(ROWS) if model == "a frame" else ROWS
            for use in ("predict", "transform", "score"):
                one, other = getattr(found, use)(rows), getattr(kmeans, use)(rows)
                assert np.array_equal(np.asarray(one), np.asarray(other)), use
            found.save("model")
        found.fit(ROWS)
        kmeans.fit(ROWS)
    assert found.similarities == kmeans.similarities, "and it goes on where that one does"


@pytest.mark.parametrize("model", [name for name in MODELS if name != "unfitted"])
@pytest.mark.parametrize("protocol", range(6))
def test_equal_fits_have_equal_pickles_hashes_and_files(model, protocol, tmp_path):
    one, other = MODELS[model](), MODELS[model]()
    assert pickle.dumps(one, protocol=protocol) == pickle.dumps(other, protocol=protocol)
    assert joblib.hash(one) == joblib.hash(other)
    if one.centers is not None:
        one.save(tmp_path / "one")
        other.save(tmp_path / "other")
        for file in ("model.json", "model.safetensors"):
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_model_whose_type_was_spelled_out_is_pickled_like_any_other():
    typed = KMeans[torch.Tensor](2, random_state=0, verbose=0).fit(ROWS)

    assert pickle.dumps(typed) == pickle.dumps(KMeans(2, random_state=0, verbose=0).fit(ROWS))


def test_copies_keep_the_costs_and_pickles_do_not():
    kmeans = new().fit(ROWS)
    assert len(kmeans.costs_) == kmeans.n_iter_
    assert all(cost.seconds > 0 for cost in kmeans.costs_)
    for duplicate in (copy.copy, copy.deepcopy):
        assert duplicate(kmeans).costs_ == kmeans.costs_
    assert not hasattr(pickle.loads(pickle.dumps(kmeans)), "costs_")


def test_a_copy_shares_nothing_that_changes():
    kmeans = new().fit(ROWS)
    twin, deep = copy.copy(kmeans), copy.deepcopy(kmeans)
    deep.cluster_centers_[:] = 0.0
    twin.centers = ROWS[:4]
    assert np.array_equal(kmeans.predict(ROWS), kmeans.labels_)


@pytest.mark.soak  # two processes start
def test_workers_get_models_mapped_from_files_without_a_warning():
    kmeans = KMeans(64, None, 1, random_state=0, verbose=0, backend="reference").fit(normal(256, 64))
    rows = normal(9, 64, 1)
    with joblib.parallel_config("loky", n_jobs=2, max_nbytes=100):
        found = joblib.Parallel()(joblib.delayed(strict_predict)(kmeans, rows) for _ in range(2))
    assert all(np.array_equal(labels, kmeans.predict(rows)) for labels in found)


def strict_predict(kmeans, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return kmeans.predict(rows)


def test_the_page_on_pickles_runs(tmp_path, monkeypatch):
    pytest.importorskip("skops")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## Pickles.*?```python\n(.*?)```", page, re.DOTALL)
    names = {"kmeans": new().fit(torch.from_numpy(ROWS))}
    labels = names["kmeans"].labels_
    exec(compile(code, "format.md", "exec"), names)
    assert torch.equal(names["kmeans"].labels_, labels)

"""Every new tensor is given its dtype and its device: users set defaults for both, and call inside `with device:`."""

import ast
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from torch.utils import _device  # what torch adds the default device to, which it tells nowhere else

import cosmeans
from cosmeans import KMeans, choose_k, deduplicate, evaluate, exemplars, match, moved, outliers, reorder, top
from cosmeans.cli import run

PACKAGE = Path(cosmeans.__file__).parent
# what the default device is added to, and others that make tensors of something else
MAKERS = {function.__name__ for function in vars(_device)["_device_constructors"]()}
MAKERS |= {"as_tensor", "asarray", "frombuffer", "Generator", "FloatTensor", "LongTensor"}
NEEDED = {name: {"dtype", "device"} for name in MAKERS} | {
    "Generator": {"device"},  # of random numbers, not of a tensor
}


def lacking(tree):
    """Calls that make a tensor without saying of what or where, with what is missing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch.") and node.func.attr in MAKERS:
            given = {keyword.arg for keyword in node.keywords}
            given |= {"device"} if node.func.attr == "Generator" and node.args else set()
            if missing := NEEDED[node.func.attr] - given:
                yield f"{ast.unparse(node)}: {', '.join(sorted(missing))}"
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            yield from (f"from torch import {name.name}" for name in node.names if name.name in MAKERS)


@pytest.mark.parametrize("folder", ["", "cli", "report", "rows", "backends"])
def test_every_new_tensor_is_given_its_dtype_and_device(folder):
    files = (PACKAGE / folder).rglob("*.py") if folder else PACKAGE.glob("*.py")
    found = {file.name: list(lacking(ast.parse(file.read_text()))) for file in files}

    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("torch.empty(3)", 1),
        ("torch.empty(3, dtype=torch.int32)", 1),
        ("torch.empty(3, device=d, dtype=torch.int32)", 0),
        ("torch.tensor([1], device='cpu')", 1),
        ("torch.as_tensor(x)", 1),
        ("torch.Generator()", 1),
        ("torch.Generator('cpu')", 0),
        ("torch.FloatTensor([1])", 1),
        ("from torch import empty, Tensor", 1),
        ("torch.empty_like(x); x.new_zeros(()); torch.from_numpy(a)", 0),
        ("np.empty(3)", 0),
    ],
)
def test_the_rule_finds_what_it_is_for(code, found):
    assert len(list(lacking(ast.parse(code)))) == found


# ---------------------------------------------------------- the whole public face

ROWS = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)


def kinds_of_rows(folder):
    """The same rows in every form that is taken, by name."""
    np.save(folder / "rows.npy", ROWS)
    torch.save(torch.from_numpy(ROWS), folder / "rows.pt")
    save_file({"rows": ROWS}, folder / "rows.safetensors")
    tensors = {str(kind): torch.from_numpy(ROWS).to(kind) for kind in (torch.float32, torch.float64, torch.bfloat16)}
    files = {name: folder / name for name in ("rows.npy", "rows.pt", "rows.safetensors")}
    return tensors | files | {
        "array": ROWS,
        "float64": ROWS.astype(np.float64),
        "float16": ROWS.astype(np.float16),
        "integers": (ROWS * 100).astype(np.int64),
        "big-endian": ROWS.astype(">f4"),
        "Fortran order": np.asfortranarray(ROWS),
        "list": ROWS.tolist(),
        "frame": pd.DataFrame(ROWS, columns=list("abcdefghijkl")),
        "list of tensors": list(torch.from_numpy(ROWS)),
    }  # fmt: skip


def said(model, rows, others):
    """What the library says of these rows, under a model of its own and with other models. Small things."""
    twin = reorder(model, "size")
    yield from (model.predict(rows), model.transform(rows), model.score(rows), model.labels_, model.centers)
    yield from (model.similarity_, model.counts_, model.inertia_, model.n_distinct_, twin.centers)
    for result in (top(model, rows, 2), outliers(model, rows, quantile=0.1), exemplars(model, rows, 2)):
        yield asdict(result)
    yield asdict(evaluate(model, rows, np.arange(len(ROWS)) % 3))
    yield asdict(deduplicate(model, rows, 0.9))
    yield match(model, others).cosines
    yield asdict(moved(model, others, rows))


def face(folder, some=None):
    """Every public function on some kinds of rows (None: all), with options of every kind: arrays and numbers."""
    others = KMeans(6, epochs=2, random_state=1, verbose=0).fit(ROWS)
    found = []
    for name, rows in kinds_of_rows(folder).items():
        if some is not None and name not in some:
            continue
        found += said(KMeans(5, epochs=3, random_state=0, verbose=0).fit(rows), rows, others)
    weights = np.linspace(0, 2, len(ROWS))
    ways = [{"init": init} for init in ("random", "k-means++", "nested", ROWS[:5], torch.from_numpy(ROWS[:5]))]
    ways += [{"strategy": strategy} for strategy in ("float32", "split", "pca", "int8")]
    ways += [{"backend": "reference"}, {"n_init": 2}, {"tol": 0.01}, {"nonfinite": "skip"}]
    spoiled = ROWS.copy()
    spoiled[0], spoiled[1] = 0.0, np.nan
    for way in ways:
        rows = spoiled if "nonfinite" in way else ROWS
        model = KMeans(5, epochs=3, random_state=0, verbose=0, zero_rows="skip", **way).fit(rows, sample_weight=weights)
        found += [model.labels_, model.centers, model.similarities, model.fit(rows).labels_]
    model.save(folder / "model", force=True)
    loaded = KMeans.load(folder / "model")
    loaded.centers = others.centers[:5]
    found += [KMeans.load(folder / "model").predict(ROWS), loaded.fit(ROWS).labels_]
    found += [choose_k(ROWS, [2, 3], n_seeds=2, verbose=0).n_clusters]
    model.report(ROWS, folder / "report.html", force=True)
    fit = ["fit", str(folder / "rows.npy"), "-k", "4", "--seed", "0", "--out", str(folder / "fitted"), "--force", "-q"]
    assert run(fit) == run(["info", str(folder / "rows.pt")]) == run(["demo", "--help"]) == 0
    return [*found, KMeans.load(folder / "fitted" / "model").centers]


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return type(one) is type(other) and one == other


SOME = ("torch.float32", "array", "list of tensors", "rows.pt")


@pytest.mark.parametrize("some", [SOME, pytest.param(None, marks=pytest.mark.soak)], ids=["some", "all"])
def test_defaults_of_the_caller_change_nothing_anywhere(some, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = face(tmp_path, some)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                within = face(tmp_path, some)
            torch.set_default_device("meta")
            by_default = within if some else face(tmp_path)
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)

    assert same(within, expected)
    assert same(by_default, expected)

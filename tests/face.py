"""Every public function x every kind of input, as one table that `test_face.py` runs here and a script on a device.

    for name in kinds("cuda"):
        check(name, folder, "cuda")

The values are small whole numbers, which every type of number holds, so that every answer is that of float32 rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, TensorDataset

from cosmeans import (
    KMeans,
    choose_k,
    deduplicate,
    evaluate,
    exemplars,
    label_digest,
    match,
    members,
    moved,
    outliers,
    reorder,
    top,
    topics,
)

N, D, K = 60, 8, 3
ROWS = np.random.default_rng(0).integers(0, 9, (N, D)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).integers(1, 5, N).astype(np.float32)
NAMES = list("abcdefgh")
TEXTS = [f"text of row {row}" for row in range(N)]
Make = Callable[[np.ndarray, Path], Any]


class ByDLPack:
    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


def kinds(device: str = "cpu") -> dict[str, tuple[Make, bool]]:
    """By name: how rows of this kind are made of a float32 array, and whether answers are tensors."""
    found = {f"tensor {name}": (make, True) for name, make in _tensors(device).items()}
    if device == "cpu":
        found |= {f"array {name}": (make, False) for name, make in _arrays().items()}
        found |= {f"frame {name}": (make, False) for name, make in _frames().items()}
        found |= {f"file {name}": (make, name in ("pt", "pt int8", "safetensors")) for name, make in _files().items()}
    return found


def rows(device: str = "cpu") -> dict[str, tuple[Make, bool]]:
    """`kinds`, and what only rows can be: batches that can be read again."""
    return kinds(device) | ({} if device != "cpu" else _batches())


def weights(device: str = "cpu") -> dict[str, Make]:
    """Kinds that one-dimensional weights may be of."""
    whole = ("list", "DLPack", "objects", "read-only", "reversed", "masked")
    types = {
        name: make
        for name, (make, _) in kinds(device).items()
        if name.startswith(("array ", "tensor "))
        and (name.rpartition(" ")[2] in whole or any(part in name for part in ("int", "float", ">")))
        and "records" not in name
    }
    return types if device != "cpu" else types | {f"column {name}": make for name, make in _columns().items()}


def _tensors(device: str) -> dict[str, Make]:
    types = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "float8_e4m3fn"]
    types += ["uint16", "uint32", "uint64"]

    def typed(name: str) -> Make:
        return lambda x, path: torch.from_numpy(x.copy()).to(device).to(getattr(torch, name))

    def plain(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x.copy()).to(device)

    return {name: typed(name) for name in types} | {
        "with a graph": lambda x, path: plain(x).requires_grad_() * 1,
        "by columns": lambda x, path: plain(x.T).T,
        "every other entry": lambda x, path: plain(np.repeat(x, 2, axis=-1))[..., ::2],
        "list": lambda x, path: list(plain(x)),
        "tuple of int64": lambda x, path: tuple(plain(x).long()),
        "of a data set": lambda x, path: TensorDataset(plain(x)),
        "DLPack": lambda x, path: ByDLPack(plain(x)),
    }


def _arrays() -> dict[str, Make]:
    types = ["float16", "float32", "float64", "longdouble", "int8", "int16", "int32", "int64"]
    types += ["uint8", "uint16", "uint32", "uint64", ">f2", ">f4", ">f8", ">i2", ">i8", ">u4"]

    def typed(name: str) -> Make:
        return lambda x, path: x.astype(name)

    made: dict[str, Make] = {name: typed(name) for name in types}
    if importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes

        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            made[name] = typed(getattr(ml_dtypes, name))
    return made | {
        "read-only": _read_only,
        "reversed": lambda x, path: np.ascontiguousarray(x[::-1])[::-1],
        "Fortran": lambda x, path: np.asfortranarray(x),
        "every other column": lambda x, path: np.repeat(x, 2, axis=-1)[..., ::2],
        "in records": _in_records,
        "objects": lambda x, path: x.astype(object),
        "masked": lambda x, path: np.ma.masked_array(x, mask=False),
        "list": lambda x, path: x.tolist(),
        "list of arrays": lambda x, path: list(x),
        "objects of arrays": lambda x, path: _objects(list(x)),
        "array protocol": lambda x, path: pd.array(x.ravel(), dtype="Float32").reshape(x.shape),
        "memory map": _mapped,
        "memory map by columns": lambda x, path: _mapped(np.asfortranarray(x), path),
        "memory map big-endian": lambda x, path: _mapped(x.astype(">f4"), path),
        "memory map int8": lambda x, path: _mapped(x.astype(np.int8), path),
    }


def _frames() -> dict[str, Make]:
    def pandas(x: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(x, columns=NAMES)

    made: dict[str, Make] = {
        "pandas": lambda x, path: pandas(x),
        "pandas without names": lambda x, path: pd.DataFrame(x),
        "pandas int64": lambda x, path: pandas(x).astype("int64"),
        "pandas nullable": lambda x, path: pandas(x).astype("Int16"),
        "pandas mixed": lambda x, path: pandas(x).astype({"a": "int8", "b": "float64", "c": "Float32", "d": "uint16"}),
        "pandas column of arrays": lambda x, path: pd.DataFrame({"id": range(len(x)), "t": "x", "e": list(x)}),
        "Series of arrays": lambda x, path: pd.Series(list(x)),
        "Series of lists": lambda x, path: pd.Series(x.tolist()),
    }
    if importlib.util.find_spec("pyarrow"):
        made |= _arrow_frames()
    if importlib.util.find_spec("polars"):
        made |= _polars_frames()
    return made


def _arrow_frames() -> dict[str, Make]:
    import pyarrow as pa

    def lists(x: np.ndarray, kind: Any) -> Any:
        return pa.array(x.tolist(), kind)

    def chunked(x: np.ndarray) -> Any:
        values = lists(x, pa.list_(pa.float32()))
        return pa.chunked_array([values.slice(0, 7), values.slice(7)])

    kinds = {
        "list": pa.list_(pa.float32()),
        "large list": pa.large_list(pa.int16()),
        "fixed": pa.list_(pa.float64(), D),
    }
    return {
        "Arrow table": lambda x, path: pa.table(dict(zip(NAMES, x.T.copy(), strict=True))),
        "Arrow batch": lambda x, path: pa.record_batch(dict(zip(NAMES, x.T.astype(np.int32), strict=True))),
        "Arrow chunked lists": lambda x, path: chunked(x),
        "Arrow table of lists": lambda x, path: pa.table({"id": range(len(x)), "e": lists(x, kinds["fixed"])}),
        "pandas of Arrow": lambda x, path: pd.DataFrame(x, columns=NAMES).astype("float[pyarrow]"),
    } | {f"Arrow {name}": (lambda x, path, kind=kind: lists(x, kind)) for name, kind in kinds.items()}


def _polars_frames() -> dict[str, Make]:
    import polars as pl

    return {
        "polars": lambda x, path: pl.DataFrame(dict(zip(NAMES, x.T.copy(), strict=True))),
        "polars mixed": lambda x, path: pl.DataFrame(
            {
                name: column.astype(np.int16 if name < "d" else np.float32)
                for name, column in zip(NAMES, x.T, strict=True)
            }
        ),
        "polars lists": lambda x, path: pl.DataFrame({"t": ["x"] * len(x), "e": x.tolist()}),
        "polars arrays": lambda x, path: pl.Series("e", x.tolist(), dtype=pl.Array(pl.Float32, D)),
    }


def _columns() -> dict[str, Make]:
    made: dict[str, Make] = {
        "pandas": lambda w, path: pd.Series(w, index=range(7, 7 + len(w))),
        "pandas nullable": lambda w, path: pd.Series(w).astype("Int64"),
        "pandas array": lambda w, path: pd.array(w.astype(int), dtype="UInt8"),
    }
    if importlib.util.find_spec("pyarrow"):
        import pyarrow as pa

        made["Arrow"] = lambda w, path: pa.array(w)
        made["Arrow chunked"] = lambda w, path: pa.chunked_array([pa.array(w[:9]), pa.array(w[9:])])
    if importlib.util.find_spec("polars"):
        import polars as pl

        made["polars"] = lambda w, path: pl.Series("w", w.astype(np.int16))
    return made


def _files() -> dict[str, Make]:
    def written(name: str, write: Callable[[str, np.ndarray], Any]) -> Make:
        def make(x: np.ndarray, path: Path) -> str:
            write(str(path / name), x)
            return str(path / name)

        return make

    def zipped(name: str, x: np.ndarray) -> None:
        np.savez(name, x=x)

    return {
        "npy": written("x.npy", np.save),
        "npy int8": written("i.npy", lambda name, x: np.save(name, x.astype(np.int8))),
        "npy uint16": written("u.npy", lambda name, x: np.save(name, x.astype(np.uint16))),
        "npz": written("x.npz", zipped),
        "pt": written("x.pt", lambda name, x: torch.save(torch.from_numpy(x.copy()), name)),
        "pt int8": written("i.pt", lambda name, x: torch.save(torch.from_numpy(x.astype(np.int8)), name)),
        "safetensors": written(
            "x.safetensors", lambda name, x: save_file({"x": torch.from_numpy(x.astype(np.int16))}, name)
        ),
    }


def _batches() -> dict[str, tuple[Make, bool]]:
    def parts(x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, [7, 7, 40])

    def loader(x: np.ndarray, path: Path) -> Any:
        return DataLoader(TensorDataset(torch.from_numpy(x.copy()), torch.arange(len(x))), batch_size=9)

    return {
        "batches of a DataLoader": (loader, True),
        "batches of arrays": (lambda x, path: lambda: iter(parts(x)), False),
        "batches of frames": (lambda x, path: lambda: (pd.DataFrame(part, columns=NAMES) for part in parts(x)), False),
    }


def _read_only(x: np.ndarray, path: Path) -> np.ndarray:
    rows = x.copy()
    rows.flags.writeable = False
    return rows


def _in_records(x: np.ndarray, path: Path) -> np.ndarray:
    records = np.zeros(len(x), dtype=[("flag", "u1"), ("x", "<f4", x.shape[1:])])
    records["x"] = x
    return records["x"]


def _objects(values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def _mapped(x: np.ndarray, path: Path) -> np.ndarray:
    np.save(path / "mapped.npy", x)
    return np.load(path / "mapped.npy", mmap_mode="r")


# ---------------------------------------------------------------- functions


def _model(**options: Any) -> KMeans:
    return KMeans(K, **{"random_state": 0, "verbose": 0, "init": "k-means++", **options})


def _fields(found: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(found, name) for name in names}


# by name: what is asked of a model fitted to the rows, and of the rows; every array must be of the kind that came in
FOLLOWING: dict[str, Callable[[KMeans, Any, Path], dict[str, Any]]] = {
    "fit": lambda m, x, path: _fields(m, "labels_", "cluster_centers_", "similarity_", "counts_"),
    "centers": lambda m, x, path: {"centers": m.centers},
    "fit_predict": lambda m, x, path: {"labels": _model().fit_predict(x)},
    "fit_transform": lambda m, x, path: {"cosines": _model().fit_transform(x)},
    "predict": lambda m, x, path: {"labels": m.predict(x)},
    "transform": lambda m, x, path: {"cosines": m.transform(x)},
    "top": lambda m, x, path: _fields(top(m, x, 2), "labels", "cosines"),
    "outliers": lambda m, x, path: _fields(outliers(m, x, quantile=0.2), "rows", "cosines", "labels"),
    "exemplars": lambda m, x, path: _fields(exemplars(m, x, 4), "rows", "cosines"),
    "members": lambda m, x, path: _fields(members(m, x, 1), "rows", "cosines"),
    "deduplicate": lambda m, x, path: _fields(deduplicate(m, x, 0.9), "kept", "removed", "original", "cosines"),
    "reorder": lambda m, x, path: _fields(reorder(m, rows=x), "labels_", "cluster_centers_", "counts_", "similarity_"),
}
# the same for answers that are NumPy's or Python's, whatever came in
PLAIN: dict[str, Callable[[KMeans, Any, Path], dict[str, Any]]] = {
    "attributes": lambda m, x, path: _fields(m, "inertia_", "n_iter_", "n_distinct_", "random_state_", "similarities"),
    "score": lambda m, x, path: {"score": m.score(x)},
    "digest": lambda m, x, path: {"digest": int(m.digest()[:12], 16)},
    "label_digest": lambda m, x, path: {"digest": int(label_digest(m.labels_)[:12], 16)},
    "evaluate": lambda m, x, path: evaluate(m, x, m.labels_, sample_size=40).to_json(),
    "topics": lambda m, x, path: _fields(topics(m, x, TEXTS), "sizes", "similarity", "words", "exemplars"),
    "match": lambda m, x, path: _fields(match(m, m), "new_of_old", "old_of_new", "cosines"),
    "moved": lambda m, x, path: moved(m, m, x).to_json(),
    "relabel": lambda m, x, path: {"labels": _host(match(m, m).relabel(m.labels_))},
    "continue": lambda m, x, path: {"labels": _host(_model(init="random", epochs=2).fit(x).fit(x).labels_)},
    "save": lambda m, x, path: {"centers": _saved(m, path).cluster_centers_},
    "set_output": lambda m, x, path: {"cosines": _model().set_output(transform="pandas").fit_transform(x).to_numpy()},
    "choose_k": lambda m, x, path: {"k": choose_k(x, [2, 3], n_seeds=2, verbose=0).n_clusters},
    "report": lambda m, x, path: {"page": len(m.report(x, path / "page.html", force=True).read_bytes()) > 9000},
    "plot": lambda m, x, path: {"axes": len(m.plot(path / "fit.png").axes)},
}


FUNCTIONS = FOLLOWING | PLAIN


def _saved(model: KMeans, path: Path) -> KMeans:
    model.save(path / "model", force=True)
    return KMeans.load(path / "model")


def _host(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values


@cache
def _expected(name: str) -> dict[str, Any]:
    """The answer for the float32 array on the CPU."""
    with TemporaryDirectory() as folder:
        return FUNCTIONS[name](_model().fit(ROWS), ROWS, Path(folder))


def check(kind: str, path: Path, device: str = "cpu", only: Collection[str] = FUNCTIONS) -> None:
    """Raise AssertionError unless every function answers for rows of a kind what it answers for float32 rows."""
    make, tensors = rows(device)[kind]
    given = make(ROWS, path)
    model = _model().fit(given)
    for name in only:
        found, expected = FUNCTIONS[name](model, given, path), _expected(name)
        for field, value in found.items():
            where = f"{name} of {kind}: {field}"
            if name in FOLLOWING:
                assert isinstance(value, torch.Tensor if tensors else np.ndarray), where
                assert not tensors or value.device.type == device, where
            got, wanted = np.asarray(_host(value)), np.asarray(expected[field])
            assert got.dtype == wanted.dtype, where
            assert np.array_equal(got, wanted), where


def check_weights(kind: str, path: Path, device: str = "cpu") -> None:
    """The same for weights of a kind, to fit and to score."""
    rows: Any = ROWS if device == "cpu" or not kind.startswith("tensor") else torch.from_numpy(ROWS).to(device)
    plain = _model().fit(ROWS, sample_weight=WEIGHTS)

    model = _model().fit(rows, sample_weight=weights(device)[kind](WEIGHTS, path))

    assert np.array_equal(_host(model.cluster_centers_), plain.cluster_centers_), kind
    assert model.score(rows, sample_weight=weights(device)[kind](WEIGHTS, path)) == plain.score(
        ROWS, sample_weight=WEIGHTS
    ), kind


def check_centroids(kind: str, path: Path, device: str = "cpu") -> None:
    """The same for first centroids and for centers that are set."""
    make, tensors = kinds(device)[kind]
    if kind.startswith("file"):
        return
    rows: Any = torch.from_numpy(ROWS).to(device) if tensors else ROWS
    plain = KMeans(K, init=ROWS[:K], verbose=0).fit(ROWS)

    by_init = KMeans(K, init=make(ROWS[:K], path), verbose=0).fit(rows)
    by_setting = KMeans(K, verbose=0)
    by_setting.centers = make(ROWS[:K], path)

    assert np.array_equal(_host(by_init.cluster_centers_), plain.cluster_centers_), kind
    assert np.array_equal(_host(by_setting.fit(rows).cluster_centers_), plain.cluster_centers_), kind

"""The golden answers: fits whose labels, centroids and similarities may never change by a bit.

`tests/golden/answers.json` holds the hashes that the reference backend gave. A change of one is a change of results: it
needs an entry under **Numerics** in the changelog, and then `python tests/golden_cases.py` writes the file again.

Rows are made from raw Philox words by exact arithmetic, so that they are the same for every version of NumPy on every
machine; the hash of the rows is kept as well and tells whether the input or the answer differs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import truth
from generators import text_rows

ANSWERS = Path(__file__).parent / "golden" / "answers.json"
Rows = np.ndarray | torch.Tensor


def bell(n: int, d: int, seed: int = 0) -> np.ndarray:
    """(N, D) float32, bell-shaped with variance 1/3: the sum of four 16-bit integers, exactly."""
    words = np.random.Philox(key=(seed, 0x601D)).random_raw(n * d)
    limbs = sum(((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64) for shift in (0, 16, 32, 48))
    return ((limbs - 2 * 0xFFFF) / 65536.0).astype(np.float32).reshape(n, d)


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    return truth.unit(bell(n, d, seed))[0]


@dataclass(frozen=True)
class Case:
    """One answer.

    rows     (N, D), as the user hands them in; weights (N,) or None
    options  of KMeans, among them `init`
    parts    the epochs of each fit; more than one: the later ones go on from the earlier
    new      rows that are labelled after the fit; their labels are part of the answer
    """

    rows: Rows
    options: dict[str, Any]
    parts: tuple[int, ...] = (5,)
    weights: np.ndarray | None = None
    new: Rows | None = None


def with_rows(rows: np.ndarray, at: list[int], value: float) -> np.ndarray:
    rows = rows.copy()
    rows[at] = value
    return rows


def near(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows around one direction, and 64 centroids within `spread` of it."""
    middle = unit(1, 40, 20)
    return truth.unit(3.0 * middle + unit(500, 40, 21))[0], truth.unit(middle + np.float32(spread) * unit(64, 40, 22))[
        0
    ]


def one_ulp() -> tuple[np.ndarray, np.ndarray]:
    """Five centroids, of which one is a copy and three differ from the first in the last bit of one entry."""
    rows = unit(400, 24, 23)
    centroids = np.repeat(rows[:1], 5, axis=0)
    for row, column, towards in ((1, 0, 2.0), (2, 0, -2.0), (3, 23, 2.0)):
        centroids[row, column] = np.nextafter(centroids[0, column], np.float32(towards))
    return rows, centroids


def antipodal() -> tuple[np.ndarray, np.ndarray]:
    """Rows with their opposites, some at right angles to all centroids; axes with their opposites."""
    half = unit(100, 8, 24)
    rows = np.concatenate([half, -half])
    rows[:7, :2] = 0.0
    axes = np.zeros((4, 8), np.float32)
    axes[0, 0] = axes[1, 1] = 1.0
    axes[2:] = -axes[:2]
    return rows, axes


def runs_of(*starts: np.ndarray) -> Callable[..., np.ndarray]:
    """An `init` that hands out these centroids, one array a run, again and again."""
    order = itertools.cycle(starts)
    return lambda X, n_clusters, random_state: next(order)


def from_given(rows: Rows, centroids: np.ndarray, **more: Any) -> Case:
    fields = {name: more.pop(name) for name in ("parts", "weights", "new") if name in more}
    return Case(rows, {"n_clusters": len(centroids), "init": centroids, **more}, **fields)


def _plain() -> dict[str, Case]:
    x, start = bell(700, 33), unit(17, 33, 1)
    real = text_rows(1000)
    grid = np.rint(8.0 * bell(300, 40, 3)).astype(np.float32)  # every format holds these
    as_tensor = torch.from_numpy(grid)
    lengths = np.arange(300) * 7 % 181 - 90
    formats: dict[str, Rows] = {
        "int8 rows": grid.astype(np.int8),
        "float16 rows": grid.astype(np.float16),
        "bfloat16 rows": as_tensor.to(torch.bfloat16),
        "float32 rows": grid,
        "float64 rows": grid.astype(np.float64),
        "Fortran order": np.asfortranarray(grid),
    }
    widths = {
        f"D = {d}": from_given(bell(n, d, 40 + d), unit(k, d, 41 + d))
        for d, n, k in (
            *((1, 50, 3), (2, 120, 7), (3, 200, 9), (7, 200, 5), (64, 300, 20), (129, 150, 31), (256, 200, 12)),
            *((384, 150, 20), (768, 120, 9), (1000, 90, 8), (1536, 80, 6), (4096, 40, 5)),
        )
    }
    return {
        "random": from_given(x, start),
        "random, to the fixed point": from_given(x, start, parts=(100,)),
        "real": from_given(real, real[::50].copy()),
        "real, float16": from_given(real.astype(np.float16), real[::50].copy()),
        "unit rows": from_given(unit(500, 48, 4), unit(25, 48, 5)),
        "lengths over 54 orders": from_given(np.ldexp(bell(300, 21, 6), lengths[:, None]), unit(6, 21, 7)),
        **{name: from_given(rows, unit(16, 40, 8)) for name, rows in formats.items()},
        **widths,
        "K = 1": from_given(unit(100, 20, 10), unit(1, 20, 11)),
        "K = 2": from_given(unit(100, 20, 12), unit(2, 20, 13)),
        "K = N": from_given(unit(30, 19, 14), unit(30, 19, 14)[::-1].copy()),
        "K above contents": from_given(np.tile(unit(4, 10, 15), (10, 1)), unit(4, 10, 15)[[0, 1, 2, 3, 0, 1, 0]]),
        "many clusters": from_given(unit(400, 16, 16), unit(333, 16, 17)),
    }


def _hard() -> dict[str, Case]:
    x, start = bell(700, 33), unit(17, 33, 1)
    distinct = unit(40, 12, 30)
    copies = distinct[np.arange(600) * 7 % 40]
    far = np.concatenate([np.ones((1, 6)), -np.abs(bell(5, 6, 31))]).astype(np.float32)
    whole = (np.arange(700) * 5 % 7).astype(np.float64)
    parts = (1 + np.arange(700) % 13) / 7.0
    real = text_rows(1500)
    absent = {"nonfinite": "skip", "zero_rows": "skip"}
    holes = with_rows(with_rows(x, [0, 350, 699], np.nan), [1, 400], np.inf)
    return {
        "near ties, 1e-4": from_given(*near(1e-4)),
        "near ties, 1e-7": from_given(*near(1e-7)),
        "one ulp apart": from_given(*one_ulp()),
        "antipodal": from_given(*antipodal()),
        "duplicates": from_given(copies, distinct[:13]),
        "many without rows": from_given(np.abs(bell(80, 6, 32)), far),
        "many without rows, kept": from_given(np.abs(bell(80, 6, 32)), far, empty_clusters="keep"),
        "integer weights, some 0": from_given(x, start, weights=whole),
        "fractional weights": from_given(x, start, weights=parts),
        "weights below 1": from_given(x, start, weights=parts / 64.0),
        "large weights": from_given(x, start, weights=parts * 2.0**30),
        "tol 0.05": from_given(x, start, tol=0.05, parts=(50,)),
        "tol 0.5": from_given(x, start, tol=0.5, parts=(50,)),
        "n_init with given centroids": from_given(x, start, n_init=3),
        "n_init with a callable": Case(
            x, {"n_clusters": 9, "init": runs_of(unit(9, 33, 33), unit(9, 33, 34), unit(9, 33, 35)), "n_init": 3}
        ),
        "zero rows": from_given(with_rows(x, [0, 5, 350, 699], 0.0), start, zero_rows="skip"),
        "skipped rows": from_given(holes, start, **absent),
        "skipped and zero rows, weights": from_given(
            with_rows(holes, [2, 3, 500], 0.0), start, weights=parts, **absent
        ),
        "continued": from_given(x, start, parts=(2, 3)),
        "continued, weights": from_given(x, start, parts=(1, 1, 3), weights=parts),
        "predict": from_given(x, start, parts=(3,), new=bell(200, 33, 36)),
        "predict, real": from_given(real[:1000], real[:1000:40].copy(), new=real[1000:]),
        "predict, zero and skipped rows": from_given(
            x, start, parts=(2,), new=with_rows(holes[:90], [7], 0.0), **absent
        ),
    }


def given() -> dict[str, Case]:
    """Fits from given first centroids."""
    return _plain() | _hard()


def drawn() -> dict[str, Case]:
    """Fits whose first centroids are drawn: they change when a rule of drawing does."""
    x, real = bell(700, 33), text_rows(3000)
    weights = (np.arange(700) * 5 % 7).astype(np.float64)
    copies = unit(40, 12, 30)[np.arange(600) * 7 % 40]
    cases = {}
    for init in ("random", "k-means++", "nested"):
        cases |= {
            init: Case(x, {"n_clusters": 12, "init": init, "random_state": 0}),
            f"{init}, real": Case(real, {"n_clusters": 40, "init": init, "random_state": 1}),
            f"{init}, weights": Case(x, {"n_clusters": 12, "init": init, "random_state": 2}, weights=weights),
            f"{init}, duplicates": Case(copies, {"n_clusters": 50, "init": init, "random_state": 3}),
            f"{init}, n_init": Case(x, {"n_clusters": 12, "init": init, "random_state": 4, "n_init": 3}, (3,)),
        }
    large = bell(6000, 5, 37)  # k-means++ draws from a sample: more than 256 rows a cluster
    cases["k-means++, sampled"] = Case(large, {"n_clusters": 9, "init": "k-means++", "random_state": 5})
    return cases


@dataclass(frozen=True)
class Answer:
    """Hashes of what came in and what came out."""

    rows: str
    labels: str
    centroids: str
    similarities: str

    def to_json(self) -> dict[str, str]:
        return dict(vars(self))


def hashed(*arrays: Any) -> str:
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:20]


def hash_of_rows(case: Case) -> str:
    """Of the values, in whatever format: as float64."""
    return hashed(np.asarray(torch.as_tensor(case.rows).to(torch.float64)))


def answer(case: Case, to: Callable[[Any], Any] = lambda rows: rows, **options: Any) -> Answer:
    """What KMeans makes of a case. `to` puts rows elsewhere, `options` say how it computes."""
    from cosmeans import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kmeans = KMeans(**{"verbose": 0, "random_state": 0, **case.options, **options})
        for epochs in case.parts:
            kmeans.set_params(epochs=epochs).fit(to(case.rows), sample_weight=case.weights)
        labels = [host(kmeans.labels_)]
        if case.new is not None:
            labels.append(host(kmeans.predict(to(case.new))))
    return Answer(
        hash_of_rows(case),
        hashed(*(part.astype(np.int64) for part in labels)),
        hashed(host(kmeans.cluster_centers_).astype(np.float32)),
        hashed(np.array(kmeans.similarities, np.float64)),
    )


def host(values: Any) -> np.ndarray:
    return np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)


def expected() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """The file: "given" and "drawn", each a table of answers by name."""
    content: dict[str, dict[str, dict[str, str]]] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    return content


def main() -> None:
    lists = {"given": given(), "drawn": drawn()}
    found = {
        kind: {name: answer(case, backend="reference").to_json() for name, case in cases.items()}
        for kind, cases in lists.items()
    }
    before = expected() if ANSWERS.exists() else {"given": {}, "drawn": {}}
    for kind, answers in found.items():
        changed = [name for name, new in answers.items() if before[kind].get(name, new) != new]
        sys.stdout.write(f"{kind}: {len(answers)} answers, changed: {', '.join(changed) or 'none'}\n")
    ANSWERS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

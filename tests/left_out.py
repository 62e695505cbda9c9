"""Fits with rows left out, each against three truths; run as a program, so that a crash ends it and not the tests.

A cell says how a fit is done and which rows are left out how. Its labels, centroids and similarities are those of the
reference; its labels are those of brute force; and from given first centroids nothing changes when the rows left out
are deleted.

    python left_out.py      reads cells as JSON, one a line; writes for each its name when it begins, then what is wrong
"""

from __future__ import annotations

import json
import sys
import warnings
from itertools import combinations, product

import numpy as np

FACTORS = {
    "strategy": ["auto", "float32", "split", "pca", "int8", "reference"],
    "position": ["first", "last", "middle", "1 %", "all but one"],
    "kind": ["NaN", "infinity", "zero", "weight 0"],
    "init": ["random", "k-means++", "nested", "given"],
    "dtype": ["float16", "bfloat16", "float32", "float64"],
    "threads": [1, 2],
}
TOGETHER = 3  # of the factors: all combinations of these, and all pairs of the others
# more rows than one block takes; fewer entries than torch shares out to its threads, whose waiting would take most time
N, D, K, EPOCHS = 1100, 28, 16, 2
OPTIONS = {"epochs": EPOCHS, "random_state": 1, "verbose": 0, "zero_rows": "skip", "nonfinite": "skip"}


def every_cell():
    return [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]


def covering_cells():
    """A cell for each combination of strategy, position and kind; together they hold every pair of all factors."""
    names = list(FACTORS)
    rest = [dict(zip(names[TOGETHER:], values, strict=True)) for values in product(*list(FACTORS.values())[TOGETHER:])]
    seen: dict[tuple, int] = {}
    cells = []
    for values in product(*list(FACTORS.values())[:TOGETHER]):
        base = dict(zip(names[:TOGETHER], values, strict=True))
        # the pairs that were seen least, first
        best = min((base | more for more in rest), key=lambda cell: sorted(seen.get(pair, 0) for pair in pairs(cell)))
        for pair in pairs(best):
            seen[pair] = seen.get(pair, 0) + 1
        cells.append(best)
    return cells


def pairs(cell):
    return list(combinations(cell.items(), 2))


def make(cell):
    """Rows (N, D) of the dtype, their weights or None, and which rows are left out."""
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)) + 0.4  # rows that lean: their middle is far from 0
    if cell["dtype"] in ("float32", "float64"):  # taken as they are; the others are divided by their lengths
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    out = np.zeros(N, bool)
    some = {"first": 0, "last": -1, "middle": N // 2, "1 %": rng.choice(N, N // 100, replace=False)}
    out[some.get(cell["position"], slice(None))] = True
    if cell["position"] == "all but one":
        out[N // 3] = False
    weights = np.where(out, 0.0, rng.integers(1, 4, N)) if cell["kind"] == "weight 0" else None
    index = np.flatnonzero(out)
    if cell["kind"] == "zero":
        x[index] = 0.0
    elif cell["kind"] == "NaN":
        x[index[::2]], x[index[1::2], D // 2] = np.nan, -np.nan
    elif cell["kind"] == "infinity":
        x[index[::2]], x[index[1::2], -1] = -np.inf, np.inf
    tensor = torch.from_numpy(x).to(getattr(torch, cell["dtype"]))
    return tensor if cell["dtype"] == "bfloat16" else tensor.numpy(), weights, out


def first_centroids():
    """The first one has no rows, and is moved to the row that fits worst."""
    first = np.random.default_rng(1).standard_normal((K, D)).astype(np.float32) + np.float32(0.4)
    first[0] = -1.0
    return first


def wrong(cell):
    """What is wrong with this cell, in words; empty if nothing is."""
    import torch

    import truth
    from cosmeans import KMeans

    x, weights, out = make(cell)
    first = first_centroids()

    def fit(rows, weights, init, how):
        torch.set_num_threads(1 if how is reference else cell["threads"])
        return KMeans(K, init=init, batch_size=1050, **OPTIONS, **how).fit(rows, sample_weight=weights)

    reference = {"backend": "reference"}
    how = reference if cell["strategy"] == "reference" else {"backend": "cpu", "strategy": cell["strategy"]}
    init = first if cell["init"] == "given" else cell["init"]
    ours = fit(x, weights, init, how)
    meant = ours if how is reference else fit(x, weights, init, reference)
    given = ours if cell["init"] == "given" else fit(x, weights, first, how)
    less = fit(*deleted(x, weights, out), first, how)
    units, directed = truth.unit(x.float().numpy() if cell["dtype"] == "bfloat16" else x)
    found, expected = np.asarray(ours.labels_), np.full(N, -1)
    expected[directed] = truth.labels(units[directed], np.asarray(ours.cluster_centers_))
    own = truth.scores(units[directed], np.asarray(ours.cluster_centers_))[np.arange(directed.sum()), found[directed]]
    checks = {
        "labels are not those of brute force": np.array_equal(found, expected),
        "similarity_ is not": np.allclose(np.asarray(ours.similarity_)[directed], own, atol=1e-6),
        "predict says something else": np.array_equal(found, np.asarray(ours.predict(x))),
        "labels are not the reference's": np.array_equal(found, np.asarray(meant.labels_)),
        "centroids are not": same(ours.cluster_centers_, meant.cluster_centers_),
        "similarities are not": ours.similarities == meant.similarities,
        "counts are not": np.array_equal(np.asarray(ours.counts_), np.asarray(meant.counts_)),
        "centroids change when rows left out are deleted": same(given.cluster_centers_, less.cluster_centers_),
        "labels do": bool((np.asarray(given.labels_)[~out] == np.asarray(less.labels_)).all()),
        "similarities do": given.similarities == less.similarities,
    }
    return [text for text, holds in checks.items() if not holds]


def deleted(x, weights, out):
    """The rows that are left and their weights. One alone stands there K times: a power of two changes no bit."""
    index = np.repeat(np.flatnonzero(~out), K if out.sum() == N - 1 else 1)
    return x[index], None if weights is None else weights[index]


def same(one, other):
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    from cosmeans.inspection import rows

    rows.LEAST_BATCH_BYTES.clear()  # batches as small as asked for
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        say(line.strip())
        try:
            found = wrong(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
            found = [repr(error)]
        say(json.dumps(found))


if __name__ == "__main__":
    main()

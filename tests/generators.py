"""Cases that have caught k-means programs out: rows (N, D) and first centroids (K, D)."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

import truth


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def unit_rows(n, d, seed=0):
    return truth.unit(normal(n, d, seed))[0]


def text_rows(n):
    """Real sentence embeddings: the glosses of the demo, float32 values that float16 holds."""
    path = files("cosmeans") / "demo_data" / "rows.npy"
    return np.load(str(path), mmap_mode="r")[:n].astype(np.float32)


def heavy_tailed(n, d, seed=0):
    """Rows whose lengths span 60 orders of magnitude, with entries that span a few more."""
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** rng.uniform(-28, 32, (n, 1))
    return (rng.standard_cauchy((n, d)).clip(-1e4, 1e4) * lengths).astype(np.float32)


def rows_left_out():
    """60 rows of which some have no direction and some no weight; which take part; their weights."""
    x, weights = normal(60, 5), np.ones(60)
    x[0], x[7, 2], x[59], x[20:29] = np.nan, np.inf, 0.0, -np.inf
    weights[[1, 33, 58]] = 0.0
    part = np.ones(60, bool)
    part[[0, 7, 59, *range(20, 29), 1, 33, 58]] = False
    return x, part, weights


def hard_divisions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Entries (n,) float32 and norms (n,) float64 whose quotients, rounded to float32, show a last bit that is wrong.

    They are next to the middle between two float32 numbers; entries times reciprocals fall on the other side of it.
    """
    rng = np.random.default_rng(seed)
    quotients = rng.uniform(0.1, 1.0, 20 * n).astype(np.float32)
    middles = quotients.astype(np.float64) + np.spacing(quotients).astype(np.float64) / 2
    entries = rng.uniform(1.0, 9.0, 20 * n).astype(np.float32)
    norms = entries / middles
    hard = (entries / norms).astype(np.float32) != (entries * (1.0 / norms)).astype(np.float32)
    return entries[hard][:n], norms[hard][:n]


def near_ties(n, d, k, spread, seed=0):
    """K centroids within `spread` of one another, and rows near them: large scores, so large rounding errors."""
    middle = normal(1, d, seed)
    middle = middle / np.linalg.norm(middle)
    around = normal(k, d, seed + 1)
    around = around / np.linalg.norm(around, axis=1, keepdims=True)
    return truth.unit(3.0 * middle + unit_rows(n, d, seed + 2))[0], truth.unit(middle + spread * around)[0]


def converging(n=2000, d=24, k=40):
    """Rows around centres, and first centroids near them: most stand still after a few epochs."""
    centres = unit_rows(k, d, 1)
    rows = truth.unit(centres[np.arange(n) % k] + 0.25 * normal(n, d, 2))[0]
    return rows, rows[:k].copy()


def trajectory(rows, first, passes):
    """Centroids (K, D) of each pass of Lloyd's algorithm from the first ones, computed in float64."""
    out = [first]
    while len(out) < passes:
        labels = truth.labels(rows, out[-1])
        sums = np.stack([rows[labels == k].sum(axis=0, dtype=np.float64) for k in range(len(first))])
        kept = np.where(np.abs(sums).sum(axis=1, keepdims=True) > 0, sums, out[-1])
        out.append(truth.unit(kept.astype(np.float32))[0])
    return out


def one_ulp_apart(n, d):
    """Centroids that differ in the last bit of one entry, with a copy of the first at the end."""
    rows = unit_rows(n, d, 5)
    centroids = np.repeat(rows[:1], 5, axis=0)
    centroids[1, 0] = np.nextafter(centroids[0, 0], np.float32(2))
    centroids[2, 0] = np.nextafter(centroids[0, 0], np.float32(-2))
    centroids[3, d - 1] = np.nextafter(centroids[0, d - 1], np.float32(2))
    return rows, centroids


def antipodal(n, d):
    """Rows with their opposites, rows at right angles to all centroids, centroids with their opposites."""
    half = unit_rows(n // 2, d, 6)
    rows = np.concatenate([half, -half])
    rows[:7, :2] = 0.0
    axes = np.zeros((4, d), np.float32)
    axes[0, 0] = axes[1, 1] = 1.0
    axes[2:] = -axes[:2]
    return truth.unit(rows)[0], axes


def _random():
    return unit_rows(700, 33), unit_rows(17, 33, 1)


def _text():
    rows = text_rows(1000)
    return rows, rows[::50].copy()


def _duplicates():
    distinct = unit_rows(40, 12, 2)
    return distinct[np.random.default_rng(3).integers(0, 40, 600)], distinct[:13]


def _lengths():
    return heavy_tailed(300, 21), unit_rows(6, 21, 4)


def _zeros():
    rows = normal(90, 9, 7)
    rows[[0, 5, 50, 89]] = 0.0
    rows[7] = -0.0
    rows[8] = 1e-40
    return rows, unit_rows(4, 9, 8)


def _one_dimension():
    return normal(50, 1, 9), np.array([[1.0], [-1.0], [1.0]], np.float32)


def _one_cluster():
    return unit_rows(100, 20, 10), unit_rows(1, 20, 11)


def _as_many_clusters_as_rows():
    rows = unit_rows(30, 19, 12)
    return rows, rows[::-1].copy()


def _more_clusters_than_contents():
    distinct = unit_rows(4, 10, 13)
    return np.tile(distinct, (10, 1)), distinct[[0, 1, 2, 3, 0, 1, 0]]


def _many_lost():
    """All first centroids but one are far from every row."""
    rows = np.abs(normal(80, 6, 14))
    return rows, np.concatenate([np.ones((1, 6)), -np.abs(normal(5, 6, 15))]).astype(np.float32)


CASES = {
    "random": _random,
    "text": _text,
    "duplicates": _duplicates,
    "any lengths": _lengths,
    "zero rows": _zeros,
    "D = 1": _one_dimension,
    "D = 7": lambda: (unit_rows(200, 7, 16), unit_rows(5, 7, 17)),
    "D = 129": lambda: (unit_rows(150, 129, 18), unit_rows(31, 129, 19)),
    "K = 1": _one_cluster,
    "K = N": _as_many_clusters_as_rows,
    "K above contents": _more_clusters_than_contents,
    "one ulp apart": lambda: one_ulp_apart(400, 24),
    "64 within 1e-4": lambda: near_ties(500, 40, 64, 1e-4),
    "64 within 1e-7": lambda: near_ties(500, 40, 64, 1e-7),
    "antipodal": lambda: antipodal(200, 8),
    "many lost": _many_lost,
}

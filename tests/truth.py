"""The answer by its definition, in NumPy, Python integers and fractions: slow, short, no line of the package.

Rows are (N, D) arrays of any floating type, centroids (K, D) float32 of unit length.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

WORD = 1 << 64


def tree(terms):
    """Sum over the last axis: pad with +0.0 to a power of two, add the upper half to the lower, again."""
    size = terms.shape[-1]
    width = 1 << (size - 1).bit_length()
    total = np.zeros((*terms.shape[:-1], width))
    total[..., :size] = terms
    while width > 1:
        width //= 2
        total = total[..., :width] + total[..., width:]
    return total[..., 0]


def root(value):
    """Correctly rounded float64 square root, by integers alone."""
    numerator, denominator = float(value).as_integer_ratio()
    bits = denominator.bit_length() - 1
    if bits % 2:
        numerator, bits = 2 * numerator, bits + 1
    shifted = numerator << 256
    floor = math.isqrt(shifted)
    sticky = int(floor * floor != shifted)
    return (2 * floor + sticky) / (1 << (bits // 2 + 129))


def clean(x):
    """float32, with entries below 2^-126 and -0.0 as +0.0."""
    x = np.asarray(x).astype(np.float32)
    return np.where(np.abs(x) < 2.0**-126, np.float32(0.0), x)


def lengths(x):
    """Squared lengths (N,) and what rows are divided by (N,)."""
    wide = clean(x).astype(np.float64)
    squared = tree(wide * wide)
    plain = ~(np.isfinite(squared) & (squared > 0)) | (np.abs(squared - 1.0) <= 2.0**-20)
    return squared, np.array([1.0 if p else root(v) for p, v in zip(plain, squared, strict=True)])


def unit(x):
    """Rule 1: unit rows, and which rows have a direction."""
    squared, by = lengths(x)
    rows = clean((clean(x).astype(np.float64) / by[:, None]).astype(np.float32))
    return rows, np.isfinite(squared) & (squared > 0)


def scores(rows, centroids):
    """Canonical scores (N, K), float64."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    step = max(1, (1 << 22) // centroids.size)
    parts = [tree(rows[i : i + step, None] * centroids) for i in range(0, len(rows), step)]
    return np.concatenate(parts) + 0.0


def labels(rows, centroids, keep=None):
    """First index of the largest score. A float64 product only drops centroids that can't win by 1e-9."""
    rough = rows.astype(np.float64) @ centroids.astype(np.float64).T
    close = rough >= rough.max(axis=1, keepdims=True) - 1e-9
    found = np.argmax(rough, axis=1)
    for i in np.flatnonzero(close.sum(axis=1) > 1):
        columns = np.flatnonzero(close[i])
        found[i] = columns[np.argmax(scores(rows[i : i + 1], centroids[columns])[0])]
    return found if keep is None else np.where(keep, found, -1)


def chords(rows, centroids, labels):
    """Squared chord of each row with its own centroid (N,), from differences rounded to float32; 0 for label -1."""
    difference = (rows - centroids[labels]).astype(np.float64)
    return np.where(np.asarray(labels) < 0, 0.0, tree(difference * difference))


def inertia(x, centroids, labels, weights=None):
    """Rule 11: every term cut into integers at 2^-30, 2^-60, 2^-90 by fractions; their sums are joined in float64."""
    weights = [1.0] * len(x) if weights is None else [float(w) for w in weights]
    scaled = scaled_weights(weights)
    limbs = [0, 0, 0, 0]
    for w, chord in zip(scaled, chords(unit(x)[0], centroids, labels).tolist(), strict=True):
        units = Fraction(w * chord)
        for i in range(4):
            limb = math.floor(units) if i < 3 else round(units)
            limbs[i] += limb
            units = (units - limb) * 2**30
    total = 0.0
    for i in (3, 2, 1, 0):
        total += float(limbs[i]) * 2.0 ** (-30 * i)
    largest = max(range(len(weights)), key=lambda i: weights[i])
    return math.ldexp(total, math.frexp(weights[largest])[1] - math.frexp(scaled[largest])[1])


def scaled_weights(weights):
    """Weights times the power of two that brings a maximum below 1 into [1, 2)."""
    weights = [float(w) for w in weights]
    while max(weights) < 1.0:
        weights = [2.0 * w for w in weights]
    return weights


def scale_of(weights):
    """s of rule 4."""
    return min(40, 62 - sum(math.ceil(w) for w in weights).bit_length())


def term(w, q):
    whole = math.floor(w)
    return whole * q + round((w - whole) * float(q))


def terms(rows, weights, scale):
    """term(w, rint(x 2^s)) of every entry, Python integers in an object array."""
    out = np.empty(rows.shape, dtype=object)
    for i, (row, w) in enumerate(zip(rows.tolist(), weights, strict=True)):
        out[i] = [term(w, round(math.ldexp(x, scale))) for x in row]
    return out


def sums(units, labels, n_clusters):
    """Integer sums (K, D), Python integers."""
    out = np.zeros((n_clusters, units.shape[1]), dtype=object)
    for row, label in zip(units, labels, strict=True):
        if label >= 0:
            out[label] += row
    return out


def rounded(direction):
    """Python integers to float64 to float32."""
    return np.array([[float(v) for v in row] for row in direction]).astype(np.float32)


def lost(direction):
    return np.array([all(v == 0 for v in row) for row in direction])


def update(direction, previous):
    return np.where(lost(direction)[:, None], previous, unit(rounded(direction))[0])


def similarity(direction, centroids, total):
    return float(tree(tree(rounded(direction).astype(np.float64) * centroids.astype(np.float64))) / float(total))


def worst(rows, own, eligible, wanted):
    """Rule 8: rows of different content, by (own score, entries as a tuple)."""
    listed = sorted((own[i], tuple(rows[i].tolist())) for i in np.flatnonzero(eligible & (own < 1.0 - 2.0**-20)))
    contents = list(dict.fromkeys(content for _, content in listed))[:wanted]
    return np.array(contents, dtype=np.float32).reshape(-1, rows.shape[1])


@dataclass
class Fit:
    centroids: np.ndarray
    labels: np.ndarray | None = None
    similarities: list[float] = field(default_factory=list)
    moved: int = 0
    fixed: bool = False


def fit(x, first, epochs, weights=None):
    """The whole of spherical k-means, from given first centroids."""
    rows, keep = unit(x)
    weights = [1.0] * len(rows) if weights is None else scaled_weights(weights)
    scale = scale_of(weights)
    added = terms(np.where(keep[:, None], rows, 0), weights, scale)
    total = sum(term(w, 1 << scale) for w, k in zip(weights, keep, strict=True) if k)
    eligible = keep & (np.array(weights) > 0)
    answer = Fit(unit(first)[0])
    for _ in range(epochs):
        old = answer.centroids
        found = labels(rows, old, keep)
        direction = sums(added, found, len(old))
        answer.similarities.append(similarity(direction, old, total))
        new = update(direction, old)
        if lost(direction).any():
            own = np.array([scores(row[None], old[[k]])[0, 0] for row, k in zip(rows, found, strict=True)])
            targets = worst(rows, own, eligible, int(lost(direction).sum()))
            new[np.flatnonzero(lost(direction))[: len(targets)]] = targets
            answer.moved += len(targets)
        answer.centroids = new
        answer.fixed = bool((new == old).all())
        if answer.fixed:
            break
    answer.labels = labels(rows, answer.centroids, keep)
    return answer


def draw(bound, seed, purpose, counter, run=0):
    """A Philox word, multiplied into [0, bound)."""
    words = np.random.Philox(key=(seed, purpose), counter=(counter, run, 0, 0))
    return int(words.random_raw()) * bound // WORD


def pick(masses, r):
    """First index whose inclusive prefix sum exceeds r."""
    for index, mass in enumerate(masses):
        r -= mass
        if r < 0:
            return index
    raise ValueError("r is not below the sum of the masses")


def random_start(x, n_clusters, seed, weights=None, run=0):
    """K rows of different content, by draws; then by row order; then from the start again."""
    rows, keep = unit(x)
    weights = [1.0] * len(rows) if weights is None else scaled_weights(weights)
    scale = scale_of(weights)
    ends = list(itertools.accumulate(term(w, 1 << scale) for w in weights))
    draws = (draw(ends[-1], seed, 1, t, run) for t in range(32 * n_clusters + 1000))
    drawn = (bisect.bisect_right(ends, r) for r in draws)
    taken: dict[bytes, int] = {}
    for stream in (drawn, range(len(rows))):
        for i in stream:
            if len(taken) < n_clusters and keep[i] and weights[i] > 0:
                taken.setdefault(rows[i].tobytes(), i)
            if len(taken) == n_clusters:
                break
    indices = list(taken.values())
    return rows[[indices[j % len(indices)] for j in range(n_clusters)]]


def plus_plus_start(x, n_clusters, seed, weights=None, run=0):
    """k-means++ over all rows, or a sample of 256 K of them, by integer masses."""
    rows, keep = unit(x)
    weights = [1.0] * len(rows) if weights is None else scaled_weights(weights)
    scale = scale_of(weights)
    chosen = [random_start(x, 1, seed, weights, run)[0]]
    if len(rows) > 256 * n_clusters:
        masses = [term(w, 1 << scale) for w in weights]
        drawn = [pick(masses, draw(sum(masses), seed, 3, t, run)) for t in range(256 * n_clusters)]
        drawn = [i for i in drawn if keep[i] and weights[i] > 0]
        rows, keep, weights = rows[drawn], keep[drawn], [1.0] * len(drawn)
    while len(chosen) < n_clusters:
        distance = np.maximum(0.0, 1.0 - scores(rows, np.array(chosen)).max(axis=1))
        masses = [
            term(w, round(d * 2.0 ** (scale - 1))) if k and d >= 2.0**-20 else 0
            for w, d, k in zip(weights, distance, keep, strict=True)
        ]
        if sum(masses) == 0:
            return random_start(x, n_clusters, seed, weights, run)
        chosen.append(rows[pick(masses, draw(sum(masses), seed, 2, len(chosen), run))])
    return np.array(chosen)


def screened(screen, codes, columns):
    """The products of a screen, float64; those of 16 bits have none to be called from here, and are exact."""
    if screen.name == "pca":
        return codes.codes.astype(np.float64) @ columns.codes.astype(np.float64).T
    values = np.empty((len(codes.codes), len(columns.codes)), screen.dtype)
    screen.product.multiply(codes.codes, columns.codes, values)
    return values.astype(np.float64)

"""`inertia_` with all its digits, and cosines that have an angle wherever people read them."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, deduplicate, evaluate, exemplars, match, outliers, reorder, top
from cosmeans.analysis.stream import predict_json_lines
from generators import heavy_tailed, normal, text_rows, unit_rows


def tight(spread, n=240, d=48):
    """Rows of one direction but for some noise: 2 - 2 cos has no digit left."""
    return (np.ones((n, d)) + spread * np.random.default_rng(0).standard_normal((n, d))).astype(np.float32)


def groups(spread, n_groups=10):
    middles = unit_rows(n_groups, 24)
    return (np.repeat(middles, 25, axis=0) + spread * normal(25 * n_groups, 24, 1)).astype(np.float32)


ROWS = {
    "random": normal(300, 33),
    "text": text_rows(200),
    "any lengths": heavy_tailed(200, 21),
    "zero rows": normal(120, 9) * (np.arange(120) % 7 > 0)[:, None],
    "one direction": np.outer(np.arange(1, 200), np.ones(3)).astype(np.float32),
    "antipodal": np.concatenate([unit_rows(40, 5), -unit_rows(40, 5)]),
    **{f"within {spread}": tight(spread) for spread in (1e-3, 1e-5, 1e-6, 1e-8)},
    **{f"groups within {spread}": groups(spread) for spread in (1e-2, 1e-6)},
}
WEIGHTS = {
    "none": lambda n: None,
    "integers": lambda n: np.random.default_rng(0).integers(0, 4, n),
    "reals": lambda n: np.random.default_rng(1).exponential(1.0, n),
    "small": lambda n: np.random.default_rng(2).random(n) * 1e-200,
    "large": lambda n: np.random.default_rng(3).random(n) * 1e9,
}


def fitted(x, weights=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KMeans(**{"n_clusters": 5, "epochs": 3, "random_state": 0, "verbose": 0, **options}).fit(
            x, sample_weight=weights
        )


PAIRS = [(name, kind) for i, name in enumerate(ROWS) for j, kind in enumerate(WEIGHTS) if (i + j) % 2 == 0]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_inertia_is_the_sum_of_squared_chords(name, kind):
    x = ROWS[name]
    weights = WEIGHTS[kind](len(x))
    answers = [
        fitted(x, weights, batch_size=size, backend=backend) for size, backend in ((None, "auto"), (37, "reference"))
    ]

    expected = truth.inertia(x, answers[0].cluster_centers_, answers[0].labels_, weights)
    assert [kmeans.inertia_ for kmeans in answers] == [expected, expected]
    chords = ((truth.unit(x)[0].astype(np.longdouble) - answers[0].cluster_centers_[answers[0].labels_]) ** 2).sum(
        axis=1
    )
    chords[answers[0].labels_ < 0] = 0
    total = float((chords * (1.0 if weights is None else weights)).sum())
    assert expected == pytest.approx(total, rel=1e-6, abs=0.0)


def test_inertia_does_not_depend_on_the_order_of_rows():
    x, order = normal(500, 20), np.random.default_rng(5).permutation(500)
    one, other = (fitted(rows, init=unit_rows(5, 20)) for rows in (x, x[order]))
    assert one.inertia_ == other.inertia_


@pytest.mark.parametrize("factor", [2.0**-600, 2.0**-30, 0.5, 2.0])
def test_inertia_grows_as_the_weights_do(factor):
    x, weights = normal(200, 9), np.random.default_rng(0).random(200)  # below 1, and so is half of twice as much
    one, other = (fitted(x, w, init=unit_rows(5, 9)) for w in (weights / 2, weights / 2 * factor))
    assert other.inertia_ == one.inertia_ * factor


@pytest.fixture(scope="module")
def copies():
    """A model whose rows equal its centroids, with canonical scores above 1."""
    rows = np.repeat(unit_rows(40, 33, 9), 4, axis=0)
    own = truth.scores(rows, rows[::4]).max(axis=1)
    assert (own > 1.0).any()
    return fitted(rows, n_clusters=40, epochs=1, init=rows[::4]), rows


def streamed(model, rows):
    sink = io.BytesIO()
    predict_json_lines(model, io.BytesIO(b"\n".join(json.dumps(row.tolist()).encode() for row in rows)), sink)
    return [json.loads(line)["similarity"] for line in sink.getvalue().splitlines()]


GIVEN_OUT = {
    "similarity_": lambda m, x: m.similarity_,
    "transform": lambda m, x: m.transform(x),
    "transform of tensors": lambda m, x: m.transform(torch.from_numpy(x)),
    "score": lambda m, x: [m.score(x[i : i + 1]) for i in range(0, len(x), 4)],
    "top": lambda m, x: top(m, x, 3).cosines,
    "exemplars": lambda m, x: exemplars(m, x, 3).cosines,
    "outliers": lambda m, x: outliers(m, x, quantile=1.0).cosines,
    "threshold of outliers": lambda m, x: [outliers(m, x, quantile=q).threshold for q in (0.0, 0.5, 0.9)],
    "evaluate": lambda m, x: [evaluate(m, x[i : i + 1], sample_size=2).similarity for i in range(0, 40, 4)],
    "deduplicate": lambda m, x: deduplicate(m, x).cosines,
    "match": lambda m, x: match(m, m).cosines,
    "reorder": lambda m, x: reorder(m, rows=x).similarity_,
    "stream": streamed,
}


@pytest.mark.parametrize("name", sorted(GIVEN_OUT))
def test_cosines_have_an_angle_wherever_they_are_given_out(name, copies):
    found = np.asarray(GIVEN_OUT[name](*copies), np.float64)
    assert len(found)
    assert np.isfinite(np.arccos(found)).all()
    assert found.max() <= 1.0
    assert (found > 0.999).any()


def test_what_compares_cosines_sees_them_as_they_are(copies):
    """Two rows above 1 are told apart by their scores, not by their place."""
    _, rows = copies
    centroid = rows[:1]
    near = np.stack([centroid[0], np.float32(1 + 2.0**-22) * centroid[0]])[[0, 1]]  # both count as of unit length
    one = fitted(near, n_clusters=1, epochs=1, init=centroid)
    scores = truth.scores(near, centroid)[:, 0]
    assert scores.min() < scores.max() > 1.0
    assert exemplars(one, near, 2).rows[0].tolist() == np.argsort(-scores).tolist()

"""Canonical scores in registers have the bits of the definition; rows that nearly tie get its label."""

import numpy as np
import pytest
import torch
from numba import njit

import truth
from cosmeans.backends.cpu import CpuBackend, canonical, decide
from cosmeans.backends.cpu.targets import Targets
from generators import near_ties, normal, one_ulp_apart, unit_rows

SOME = canonical.TOGETHER


@njit
def scores_with(rows, centroids, together, out):
    """Scores of rows, `together` of them at once, with ordered centroids."""
    q, size = canonical.stride_of(rows.shape[1]), centroids.shape[1]
    wide, room = canonical.room_for(together, size), canonical.room_for(together, q)
    score = np.empty(together)
    for i in range(0, rows.shape[0], together):
        for r in range(together):
            canonical.widen(rows[i + r], q, wide, r, together)
        for j in range(centroids.shape[0]):
            if together == 1:
                canonical.score_one(wide, centroids[j], q, size // q, room, score)
            else:
                canonical.score_some(wide, centroids[j], q, size // q, room, score)
            out[i : i + together, j] = score


@pytest.mark.parametrize("together", [1, SOME])
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 24, 96, 97, 100, 128, 129, 384, 385, 500, 768, 1000, 1536, 4097])
def test_scores_have_the_bits_of_the_definition(d, together):
    """Every number of leaves and levels; entries of any size, so that another order of adding shows."""
    rng = np.random.default_rng(d)
    x = truth.unit((normal(8, d, d) * 10.0 ** rng.uniform(-6, 6, (8, d))).astype(np.float32))[0]
    x[1] = -x[0]
    x[2, ::2], x[3, 0] = 1e-40, -0.0  # as rows lie in memory: entries below float32's range count as zero
    centroids = truth.unit(normal(5, d, d + 1))[0]
    out = np.empty((8, 5))
    scores_with(x, canonical.ordered(centroids), together, out)
    assert out.tobytes() == truth.scores(truth.clean(x), centroids).tobytes()


def permuted():
    """Rows whose entries are alike, and the entries of one centroid in many orders: equal products in other sums."""
    middle = unit_rows(1, 40, 2)
    orders = [np.random.default_rng(n).permutation(40) for n in range(300)]
    rows = 1.0 + 1e-7 * normal(200, 40, 1)
    return truth.unit(rows.astype(np.float32))[0], np.concatenate([middle[:, order] for order in orders])


def mirrored():
    """Centroids and their mirror images across the rows, which score alike: the first of each pair wins."""
    rows, centroids = unit_rows(300, 48, 3), unit_rows(150, 48, 4)
    rows[:, 24:] = 0.0
    mirror = centroids * np.repeat([1.0, -1.0], 24).astype(np.float32)
    return truth.unit(rows)[0], np.concatenate([mirror, centroids])[::-1].copy()


def duplicated():
    """Rows that are copies of a few, centroids that are copies of a few and lie closely together."""
    rows, centroids = near_ties(6, 60, 90, 1e-8)
    return np.tile(rows, (60, 1)), np.concatenate([centroids, centroids[::-1]])


def orthogonal():
    """All scores are zero, of either sign while they are added."""
    rows, centroids = unit_rows(200, 64, 5), unit_rows(130, 64, 6)
    rows[:, 32:], centroids[:, :32] = 0.0, 0.0
    return truth.unit(rows)[0], truth.unit(centroids)[0]


def noise(size):
    def rows():
        x = (size * normal(700, 64, 7)).astype(np.float32)
        x[:, 0] += 1.0
        return truth.unit(x)[0], truth.unit(x)[0][:200]

    return rows


def few_directions():
    """Tight groups: every row nearly ties with the centroids of its group, and with no other."""
    x = np.tile(normal(6, 64, 8), (120, 1)) + 1e-6 * normal(720, 64, 9)
    rows = truth.unit(x.astype(np.float32))[0]
    return rows, rows[:180]


TIES = {
    "64 within 1e-4": lambda: near_ties(600, 64, 64, 1e-4),
    "200 within 1e-9": lambda: near_ties(300, 64, 200, 1e-9),
    "one ulp apart": lambda: one_ulp_apart(300, 24),
    "permuted": permuted,
    "mirrored": mirrored,
    "duplicated": duplicated,
    "orthogonal": orthogonal,
    "noise of 1e-8": noise(1e-8),
    "noise of 1e-5": noise(1e-5),
    "few directions": few_directions,
}


BEYOND_FLOAT32 = ("200 within 1e-9", "mirrored", "permuted", "orthogonal", "noise of 1e-8")


@pytest.mark.parametrize("case", TIES)
@pytest.mark.parametrize("strategy", ["float32", "split", "pca", "int8"])
def test_rows_that_nearly_tie_get_the_label_of_the_definition(strategy, case, open_rows):
    """In the first pass, and in a second one with the bounds that the first has left, and some centroids moved."""
    x, centroids = TIES[case]()
    backend = CpuBackend(strategy, 1 << 30)
    rows = open_rows(x, backend, batch_size=230)
    backend.begin(rows)
    labels = torch.full((len(x),), -1, dtype=torch.int32)
    for turn in range(2):
        prepared = backend.prepare(torch.from_numpy(centroids))
        settled = 0
        for batch in rows.batches():
            found = backend.assign(batch, prepared, labels[batch.span])
            labels[batch.span] = found.labels
            settled += found.settled
        scores = truth.scores(x, centroids)
        np.testing.assert_array_equal(labels.numpy(), scores.argmax(axis=1))
        assert settled > 0 or turn == 1 or case not in BEYOND_FLOAT32
        centroids = centroids.copy()
        centroids[::7] = centroids[::7][::-1]


def decided(x, centroids, slack=None, **errors):
    """Labels by the decision alone, after a screen that is float64 rounded to float32; slack: of that.

    errors: other values for the errors of `Targets`
    """
    size, columns = len(x), len(centroids)
    ids = np.arange(columns, dtype=np.int32)
    targets = Targets.of(centroids, ids, np.zeros(centroids.shape[1], np.float32))._replace(**errors)
    values = (x.astype(np.float64) @ centroids.T.astype(np.float64)).astype(np.float32)
    ones, nothing = np.ones(size, np.float32), np.full(size, -np.inf, np.float32)
    slacks = np.full(size, targets.error if slack is None else slack, np.float32)
    screen = (None, None, None, ones, np.zeros(size, np.float32), slacks)
    labels, bound = np.empty(size, np.int32), np.empty(size, np.float32)
    counts = decide.decide(
        values, columns, np.float32(-np.inf), np.arange(size, dtype=np.int32), x, np.full(size, -1, np.int32),
        np.full(size, -np.inf), nothing, screen, targets, labels, bound, 0, size,
    )  # fmt: skip
    return labels, counts


def among_their_centroids(columns):
    """Rows nearer to centroids than these are to one another."""
    centroids = near_ties(1, 64, columns, 2e-4)[1]
    return truth.unit(centroids[np.arange(1500) % columns] + 1e-5 * normal(1500, 64, 9))[0], centroids


@pytest.mark.parametrize("columns", [3, 6, 40, 300])
@pytest.mark.parametrize("without", ["slack", "chord_error"])
def test_a_decision_without_its_error_lets_wrong_labels_through(columns, without):
    """Of few candidates and of many, which meet a screen alone before they are settled."""
    x, centroids = among_their_centroids(columns) if without == "slack" else near_ties(1500, 64, columns, 1e-7)
    expected = truth.scores(x, centroids).argmax(axis=1)
    labels, (settled, _) = decided(x, centroids)
    np.testing.assert_array_equal(labels, expected)
    assert (settled > 1000) == (without == "chord_error")
    assert (decided(x, centroids, **{without: 0.0})[0] != expected).any()


def test_rows_near_their_centroids_are_told_apart_without_canonical_scores():
    """The errors of products are 4e-6 here, and gaps of scores about 1e-8: chords in float32 see them."""
    x, centroids = among_their_centroids(300)
    labels, (settled, dots) = decided(x, centroids)
    np.testing.assert_array_equal(labels, truth.scores(x, centroids).argmax(axis=1))
    assert settled < 10
    assert dots > 100 * len(x)


def test_what_few_rows_meet_together_is_counted():
    """Rows with many candidates are scored with all of them, and with none that is nobody's."""
    x, centroids = few_directions()
    settled, dots = decided(x, centroids, chord_error=1e6)[1]
    assert settled == len(x)
    assert len(x) * 30 <= dots <= len(x) * 90  # 30 centroids a group, in float32 or not, then canonical

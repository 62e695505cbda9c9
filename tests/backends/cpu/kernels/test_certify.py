"""Labels are proved by bounds, chords or canonical scores; no number that is too small, or none, proves one."""

import numpy as np
import pytest

import truth
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.cpu.kernels.types import Screened
from generators import near_ties, normal, one_ulp_apart, unit_rows
from screening import assigned_by, certified, columns_of, plain


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
    """Rows that are copies of a few, centroids that are copies of a few and close together."""
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
def test_rows_that_nearly_tie_get_the_label_of_the_definition(strategy, case, open_session):
    """In the first pass, and in a second one with the bounds that the first has left, and some centroids moved."""
    x, centroids = TIES[case]()
    moved = centroids.copy()
    moved[::7] = moved[::7][::-1]
    backend = CpuBackend(strategy, 1 << 30)
    passes = assigned_by(backend, open_session(x, backend, batch_size=230).rows, [centroids, moved])
    for (labels, _, found), those in zip(passes, [centroids, moved], strict=True):
        np.testing.assert_array_equal(labels, truth.scores(x, those).argmax(axis=1))
        refined = sum(assignment.settled for assignment in found)
        assert refined > 0 or those is moved or case not in BEYOND_FLOAT32


def decided(x, centroids, slack=None, **errors):
    """Labels and counts of `certify` after a screen that is float64 rounded to float32; slack: of that.

    errors: other values for the errors of `Targets`
    """
    targets = columns_of(centroids)._replace(**errors)
    values = (x.astype(np.float64) @ centroids.T.astype(np.float64)).astype(np.float32)
    labels, _, counts = certified(values, x, plain(len(x), targets.error if slack is None else slack), targets)
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


@pytest.mark.parametrize("columns", [3, 12, 40])
def test_products_after_a_coarse_screen_need_their_error(columns):
    """A screen that leaves everything open: few columns are tried by products, more by chords."""
    x, centroids = near_ties(1500, 64, columns, 1e-7)
    expected = truth.scores(x, centroids).argmax(axis=1)
    np.testing.assert_array_equal(decided(x, centroids, slack=0.5)[0], expected)
    assert (decided(x, centroids, slack=0.5, error=0.0)[0] != expected).any() == (columns <= 16)


def test_products_after_a_coarse_screen_are_enough_where_they_tell_columns_apart():
    x, centroids = unit_rows(500, 64, 1), unit_rows(10, 64, 2)
    labels, (settled, dots) = decided(x, centroids, slack=3.0)
    np.testing.assert_array_equal(labels, truth.scores(x, centroids).argmax(axis=1))
    assert (settled, dots) == (0, 10 * len(x))  # and no chord


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


D = 64


@pytest.mark.parametrize("columns", [2, 7, 64, 65, 300])
@pytest.mark.parametrize("own", ["none", "right", "any"])
@pytest.mark.parametrize("excess", [0.0, 0.05, 1.0])
def test_labels_and_bounds_hold_however_loose_a_screen_is(excess, own, columns):
    """Whatever is above the truth will do as a screen: it costs time, no label, and no bound."""
    x, centroids = unit_rows(200, D, 1), unit_rows(columns, D, 2)
    rng = np.random.default_rng(3)
    t = x.astype(np.float64) @ centroids.T.astype(np.float64)
    best = t.argmax(axis=1)
    column = {"none": np.full(200, -1), "right": best, "any": rng.integers(0, columns, 200)}[own].astype(np.int32)
    values = (t + excess * rng.exponential(1.0, t.shape)).astype(np.float32)
    targets = columns_of(centroids)
    assigned = np.where(column >= 0, np.einsum("ij,ij->i", x, centroids[column]), -np.inf).astype(np.float64)
    labels, bound, _ = certified(values, x, plain(200, 2 * targets.error), targets, column, assigned)
    np.testing.assert_array_equal(labels, best)
    t[np.arange(200), best] = -np.inf
    assert (bound >= t.max(axis=1)).all()


@pytest.mark.parametrize("spoiled", ["scale", "tail", "slack", "assigned"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_a_bound_that_is_not_a_number_means_the_full_row(spoiled, bad):
    rng = np.random.default_rng(0)
    rows, centroids = unit_rows(30, 16), unit_rows(12, 16, 1)
    numbers = {name: np.full(30, value, np.float32) for name, value in (("scale", 1), ("tail", 0), ("slack", 1e-5))}
    column = rng.integers(0, 12, 30).astype(np.int32)
    assigned = (rows * centroids[column]).sum(axis=1).astype(np.float64)
    spoil = assigned if spoiled == "assigned" else numbers[spoiled]
    spoil[:] = bad
    nothing = np.zeros(12, np.float32)
    screened = Screened(np.ones(12, np.float32), nothing, nothing, **numbers)
    values = np.ascontiguousarray(rows @ centroids.T)
    labels, bound, _ = certified(values, rows, screened, columns_of(centroids), column, assigned)
    np.testing.assert_array_equal(labels, truth.labels(rows, centroids))
    assert (bound == np.inf).all()

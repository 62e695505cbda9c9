"""The mathematics, against Python integers and fractions; and the traps that would move its bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import truth
from cosmeans import sphere
from generators import hard_divisions, heavy_tailed, near_ties, normal, unit_rows

DIMENSIONS = [1, 2, 3, 100, 384, 768, 1000, 4097]
FLOATS = st.floats(-(2.0**127), 2.0**127, width=32)
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def tensor(values, dtype=None):
    return torch.as_tensor(np.array(values), dtype=dtype)


def same_bits(found, expected):
    found = found.numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


# ------------------------------------------------------------------- sums


@pytest.mark.parametrize("d", DIMENSIONS)
def test_tree_sum_has_the_bits_of_the_padded_tree(d):
    terms = normal(50, d).astype(np.float64) ** 3
    assert same_bits(sphere.tree_sum(tensor(terms)), truth.tree(terms))


@pytest.mark.parametrize("d", DIMENSIONS[3:])
@pytest.mark.parametrize(
    "total", [lambda t: t.sum(-1), lambda t: torch.einsum("nd->n", t), lambda t: t.cumsum(-1)[:, -1]]
)
def test_a_library_sum_would_be_noticed(d, total):
    terms = normal(50, d).astype(np.float64) ** 3
    assert not same_bits(total(tensor(terms)), truth.tree(terms))


@pytest.mark.parametrize("d", DIMENSIONS)
def test_scores_and_squared_norms_have_the_bits_of_the_definition(d):
    rows, centroids = normal(40, d), unit_rows(40, d, 1)
    expected = truth.tree(rows.astype(np.float64) * centroids.astype(np.float64)) + 0.0
    assert same_bits(sphere.scores(tensor(rows), tensor(centroids)), expected)
    assert same_bits(sphere.squared_norms(tensor(rows)), truth.lengths(rows)[0])


def test_a_score_of_zero_is_plus_zero():
    score = sphere.scores(tensor([[-1.0, 0.0]], torch.float32), tensor([[0.0, -1.0]], torch.float32))
    assert math.copysign(1.0, float(score)) == 1.0


def test_fused_multiply_add_changes_no_score():
    rows, centroids = unit_rows(20, 16), unit_rows(20, 16, 1)
    for row, centroid in zip(rows, centroids, strict=True):
        products = [Fraction(float(a)) * Fraction(float(b)) for a, b in zip(row, centroid, strict=True)]
        level = [float(products[i] + Fraction(float(products[i + 8]))) for i in range(8)]
        assert float(sphere.scores(tensor(row), tensor(centroid))) == truth.tree(np.array(level))


# ----------------------------------------------------------------- rule 1


def test_square_roots_are_correctly_rounded():
    values = np.random.default_rng(0).uniform(1e-3, 1e3, 20_000)
    expected = np.array([truth.root(v) for v in values])
    assert same_bits(sphere.sqrt(tensor(values)), expected)


def test_a_square_root_off_by_one_bit_would_be_noticed():
    values = np.random.default_rng(0).uniform(1e-3, 1e3, 1000)
    expected = np.array([truth.root(v) for v in values])
    assert not same_bits(np.exp(0.5 * np.log(values)), expected)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_divisors_have_the_bits_of_the_definition(d):
    rows = heavy_tailed(60, d)
    squared, expected = truth.lengths(rows)
    assert same_bits(sphere.divisors(tensor(squared)), expected)


def test_multiplying_by_a_reciprocal_would_be_noticed():
    rows = normal(5000, 24).astype(np.float64)
    by = truth.lengths(rows)[1][:, None]
    assert not same_bits(rows * (1.0 / by), rows / by)
    found = sphere.unit_rows(tensor(rows, torch.float32), tensor(by[:, 0]))
    assert same_bits(found, truth.unit(rows)[0])


def test_quotients_beside_the_middle_of_two_floats_are_correctly_rounded():
    entries, norms = hard_divisions(1000)
    found = sphere.unit_rows(tensor(entries[:, None]), tensor(norms))
    assert len(entries) == 1000
    assert same_bits(found[:, 0], (entries / norms).astype(np.float32))


@pytest.mark.parametrize("d", [*range(1, 17), 768])
def test_rule_1_twice_is_rule_1_once(d):
    once = sphere.normalise(tensor(heavy_tailed(2000, d, seed=d)))
    assert torch.equal(once, sphere.normalise(once))
    squared = sphere.squared_norms(once)
    assert float((squared - 1.0).abs()[squared > 0].max()) <= 2.0**-23


def test_without_the_tolerance_a_second_pass_would_change_bits():
    once = sphere.normalise(tensor(heavy_tailed(2000, 4)))
    assert not torch.equal(once, sphere.unit_rows(once, sphere.divisors(sphere.squared_norms(once), tolerance=0.0)))


@quick
@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=FLOATS))
def test_rule_1_on_any_finite_rows(rows):
    assert same_bits(sphere.normalise(tensor(rows)), truth.unit(rows)[0])


@pytest.mark.parametrize("d", [1, 3, 384, 4096])
def test_rows_normalised_by_torch_are_divided_by_nothing(d):
    rows = torch.nn.functional.normalize(tensor(normal(500, d)))
    assert bool((sphere.divisors(sphere.squared_norms(rows)) == 1.0).all())


def test_subnormal_entries_count_as_plus_zero():
    rows = tensor([[1e-39, -1e-39, 0.6, -0.0], [2.0**-126, 1e-45, 0.0, 0.0]], torch.float32)
    cleaned = sphere.as_float32(rows)
    assert cleaned.numpy().tobytes() == np.array([[0, 0, 0.6, 0], [2.0**-126, 0, 0, 0]], np.float32).tobytes()


def test_bad_rows_show_in_their_squared_norm():
    rows = tensor([[np.nan, 1.0], [np.inf, 1.0], [3e38, 3e38], [1e-40, 0.0]], torch.float32)
    assert torch.isfinite(sphere.squared_norms(rows)).tolist() == [False, False, True, True]
    assert float(sphere.squared_norms(rows)[3]) == 0.0


# ------------------------------------------------------------ fixed point


@pytest.mark.parametrize(("weight", "scale"), [(1, 40), (2**22 - 1, 40), (2**22, 39), (2**31, 30), (2**41, 20)])
def test_the_scale_leaves_room_for_every_sum(weight, scale):
    assert sphere.fixed_point_scale(weight) == scale
    assert weight * math.ceil(2**scale * (1 + 2.0**-20)) < 2**63


@quick
@given(st.floats(-1.0, 1.0, width=32), st.integers(20, 40))
def test_fixed_point_rounds_half_to_even(x, scale):
    assert int(sphere.fixed_point(tensor(x, torch.float32), scale)) == round(Fraction(x) * 2**scale)


def test_fixed_point_of_ties():
    halves = tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], torch.float32) * 2.0**-20
    assert sphere.fixed_point(halves, 20).tolist() == [0, 2, 2, 0, -2, -2]


@quick
@given(st.floats(0.0, 2.0**20), st.integers(-(2**40), 2**40))
def test_a_weighted_term_has_the_bits_of_the_definition(w, q):
    assert int(sphere.term(tensor(w, torch.float64), tensor(q, torch.int64))) == truth.term(w, q)


@quick
@given(st.integers(0, 2**20), st.integers(-(2**40), 2**40))
def test_an_integer_weight_is_a_repetition(w, q):
    assert int(sphere.term(tensor(float(w), torch.float64), tensor(q, torch.int64))) == w * q


def test_rounding_after_the_weight_would_be_noticed():
    x, scale, w = unit_rows(200, 50), 24, 3.0
    repeated = 3 * sphere.fixed_point(tensor(x), scale)
    assert torch.equal(sphere.term(tensor(w), sphere.fixed_point(tensor(x), scale)), repeated)
    assert not torch.equal(torch.round(tensor(x).double() * w * 2.0**scale).to(torch.int64), repeated)


# -------------------------------------------------------------- centroids


def directions(bits, k=60, d=23, seed=0):
    """Integer sums with up to so many bits, two clusters of them without direction."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**bits), 2**bits, (k, d))
    sums[[3, k - 1]] = 0
    return sums


@pytest.mark.parametrize("bits", [3, 24, 40, 53, 54, 61])
def test_centroids_and_similarity_from_integer_sums(bits):
    sums, previous = directions(bits), unit_rows(60, 23, 1)
    update = sphere.update_centroids(tensor(sums), tensor(previous))
    assert same_bits(update.centroids, truth.update(sums.tolist(), previous))
    assert update.degenerate.nonzero()[:, 0].tolist() == [3, 59]
    found = float(sphere.similarity(tensor(sums), tensor(previous), 12345 << 40))
    assert found == truth.similarity(sums.tolist(), previous, 12345 << 40)


def test_sums_not_rounded_to_float32_would_be_noticed():
    sums, previous = directions(40), unit_rows(60, 23, 1)
    wide = sums.astype(np.float64)
    squared = truth.tree(wide * wide)[:, None]
    squared[squared == 0] = 1
    assert not same_bits((wide / np.sqrt(squared)).astype(np.float32), truth.update(sums.tolist(), previous))
    unrounded = truth.tree(truth.tree(wide * previous.astype(np.float64))) / 2.0**40
    assert unrounded != truth.similarity(sums.tolist(), previous, 1 << 40)


def test_sums_round_twice_to_float64_then_float32():
    above = 2**60 + 2**36 + 1
    assert float(sphere.rounded_sums(tensor([[above]]))) == 2.0**60
    assert float(np.float32(above)) in (2.0**60, 2.0**60 + 2.0**37)


def test_one_unit_is_a_direction_and_zero_is_none():
    previous = unit_rows(2, 4)
    update = sphere.update_centroids(tensor([[0, 0, -1, 0], [0, 0, 0, 0]]), tensor(previous))
    assert update.centroids[0].tolist() == [0.0, 0.0, -1.0, 0.0]
    assert same_bits(update.centroids[1], previous[1])
    assert update.degenerate.tolist() == [False, True]


def test_the_shift_is_the_largest_squared_chord():
    new, old = unit_rows(30, 11), unit_rows(30, 11, 1)
    difference = (new - old).astype(np.float64)
    assert float(sphere.squared_shift(tensor(new), tensor(old))) == truth.tree(difference * difference).max()


# ------------------------------------------------------------ certificate


def adversaries(d):
    spiky = np.full((300, d), 2.0**-13, np.float32)
    spiky[:, 0] = 1.0
    built = np.concatenate([[1.0], np.full(d - 1, math.sqrt(1.99) * 2.0**-12.5)])
    return {
        "random": unit_rows(300, d),
        "positive": np.abs(unit_rows(300, d)),
        "one large, many tiny": truth.unit(spiky * np.abs(normal(300, d)))[0],
        "heavy tails": truth.unit(heavy_tailed(300, d))[0],
        "built": np.tile(built.astype(np.float32), (3, 1)),
    }


@pytest.mark.parametrize(
    "product", [np.dot, lambda a, b: torch.mm(tensor(a), tensor(b)).numpy()], ids=["numpy", "torch"]
)
@pytest.mark.parametrize("d", [1, 100, 768, 4097])
def test_float32_products_err_less_than_the_bound(d, product):
    for rows in adversaries(d).values():
        length = max(1.0, float(truth.lengths(rows)[0].max()))
        error = np.abs(product(rows, rows[:20].T) - truth.scores(rows, rows[:20])).max()
        assert error <= sphere.screen_error(d) * length


def wrongly_certified(rows, centroids, share):
    """Rows that a float32 screen with `share` of the error bound would certify with a label that is wrong."""
    screen = rows @ centroids.T
    first, second = -np.partition(-screen, 1, axis=1)[:, :2].T
    certain = first.astype(np.float64) - second > 2.0 * share * sphere.screen_error(rows.shape[1])
    exact = rows.astype(np.float64) @ centroids.astype(np.float64).T
    chosen = exact[np.arange(len(rows)), screen.argmax(axis=1)]
    return int((certain & (exact.max(axis=1) - chosen > 1e-13)).sum())


def test_the_bound_certifies_no_wrong_label_and_a_few_hundredths_of_it_would():
    rows, centroids = near_ties(20_000, 64, 64, 1e-4)
    assert wrongly_certified(rows, centroids, 1.0) == 0
    assert 0 < wrongly_certified(rows, centroids, 0.03) < wrongly_certified(rows, centroids, 0.01)


@pytest.mark.parametrize("value", [1.0 + 2.0**-20, 1.0 - 2.0**-20, 1.0 + 2.0**-19, 0.0, np.nan, np.inf, 4.0])
def test_lengths_say_what_divisors_say(value):
    squared = tensor(np.array([1.0, value, 1.0]))
    found, by = sphere.lengths(squared), sphere.divisors(squared)

    assert found.usable is bool(np.isfinite(value) and value > 0)
    assert sphere.all_unit(squared) is bool(abs(value - 1.0) <= 2.0**-20)
    assert (found.divisors is None) is bool((by == 1.0).all())
    if found.divisors is not None:
        assert same_bits(found.divisors, by.numpy())

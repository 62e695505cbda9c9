"""First centroids, bit by bit: counter-based words, integer masses, prefix sums in row order."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import truth
from cosmeans import seeding
from cosmeans.errors import InputError
from generators import CASES, normal, unit_rows

SEEDS = [0, 1, 2**62 + 3]


def random_start(x, k, seed, open_session, backend, weights=None, run=0):
    return seeding.random_rows(open_session(x, backend, weights).rows, k, seed, run).numpy()


def plus_plus_start(x, k, seed, open_session, backend, weights=None, run=0):
    return seeding.plus_plus(open_session(x, backend, weights, batch_size=50), k, seed, run).numpy()


STARTS = {"random": (random_start, truth.random_start), "k-means++": (plus_plus_start, truth.plus_plus_start)}


@pytest.fixture(params=STARTS)
def starts(request):
    """(function of the package, function of the truth)"""
    return STARTS[request.param]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 2**63), st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_draws_lie_below_the_bound_and_repeat(bound, seed, counter):
    drawn = seeding.draw_below(bound, seed, seeding.Purpose.RANDOM, counter, 0)
    assert 0 <= drawn < bound
    assert drawn == truth.draw(bound, seed, 1, counter)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 2**40), st.integers(1, 2**22), st.integers(0, 2**63 - 1))
def test_a_draw_falls_on_the_same_share_of_a_multiple(bound, factor, seed):
    one, many = (seeding.draw_below(size, seed, seeding.Purpose.RANDOM, 3, 0) for size in (bound, bound * factor))
    assert many // factor == one


@pytest.mark.parametrize("bound", [1, 10, 1000 << 40, 3 << 61, (1 << 64) - 59])
def test_many_draws_are_those_drawn_one_by_one(bound):
    one_by_one = [seeding.draw_below(bound, 11, seeding.Purpose.RANDOM, t, 2) for t in range(5, 300)]

    assert seeding.draw_many(bound, 11, seeding.Purpose.RANDOM, range(5, 300), 2).tolist() == one_by_one


def test_every_run_and_purpose_draws_its_own_words():
    keys = [(purpose, run) for purpose in seeding.Purpose for run in range(3)]
    assert len({seeding.draw_below(2**60, 5, purpose, 0, run) for purpose, run in keys}) == len(keys)


@pytest.mark.parametrize("case", ["random", "zero rows", "duplicates", "D = 1", "K above contents", "any lengths"])
@pytest.mark.parametrize("seed", SEEDS)
def test_first_centroids_are_the_rows_of_the_definition(case, seed, starts, backend, open_session):
    x = CASES[case]()[0][:300]
    ours, exact = starts
    for k, run in ((1, 0), (9, 0), (9, 2)):
        found = ours(x, k, seed, open_session, backend, run=run)
        assert found.tobytes() == exact(x, k, seed, run=run).tobytes()


@pytest.mark.parametrize("kind", ["reals", "below one"])
def test_weighted_starts_are_the_rows_of_the_definition(kind, starts, backend, open_session):
    x, rng = unit_rows(120, 13), np.random.default_rng(1)
    weights = rng.exponential(2.0, 120) if kind == "reals" else rng.random(120) / 1000
    weights[::3] = 0.0
    ours, exact = starts
    for seed in SEEDS:
        found = ours(x, 8, seed, open_session, backend, weights)
        assert found.tobytes() == exact(x, 8, seed, weights).tobytes()


def test_integer_weights_draw_as_repeated_rows_do(starts, backend, open_session):
    x, weights = unit_rows(60, 9), np.random.default_rng(2).integers(0, 4, 60)
    ours, _ = starts
    for seed in SEEDS:
        weighted = ours(x, 10, seed, open_session, backend, weights)
        repeated = ours(np.repeat(x, weights, axis=0), 10, seed, open_session, backend)
        assert weighted.tobytes() == repeated.tobytes()


@pytest.mark.parametrize("n", [511, 512, 513, 700])
def test_the_number_of_rows_alone_decides_whether_plus_plus_takes_a_sample(n, backend, open_session):
    x, weights = unit_rows(n, 5), np.random.default_rng(3).integers(0, 4, n).astype(float)
    for seed, factor in itertools.product(SEEDS, (1.0, 1e-3, 1000.0)):
        found = plus_plus_start(x, 2, seed, open_session, backend, weights * factor)
        assert found.tobytes() == truth.plus_plus_start(x, 2, seed, weights * factor).tobytes()


@pytest.mark.parametrize("factor", [3, 100, 2**10, 12_345])
def test_a_multiple_of_the_weights_starts_alike(factor, starts, backend, open_session):
    x, weights = unit_rows(90, 7), np.random.default_rng(4).integers(0, 5, 90)
    ours, _ = starts
    for seed in range(20):
        one, other = (ours(x, 9, seed, open_session, backend, w) for w in (weights, weights * factor))
        assert one.tobytes() == other.tobytes()


def test_heavy_rows_are_drawn_more_often(backend, open_session):
    x, weights = np.eye(3, dtype=np.float32), [1.0, 0.0, 9.0]
    drawn = [int(random_start(x, 1, s, open_session, backend, weights)[0].argmax()) for s in range(400)]
    assert np.bincount(drawn, minlength=3)[1] == 0
    assert 330 <= np.bincount(drawn, minlength=3)[2] <= 385  # 360 expected, 6 the deviation


def test_plus_plus_finds_each_of_well_separated_groups(backend, open_session):
    middles = np.eye(12, dtype=np.float32)
    x = np.repeat(middles, 30, axis=0) + 0.01 * normal(360, 12)
    found = plus_plus_start(x, 12, 0, open_session, backend)
    assert sorted(found.argmax(axis=1)) == list(range(12))


def test_no_content_is_taken_twice(starts, backend, open_session):
    x = np.tile(unit_rows(12, 4), (30, 1))
    ours, _ = starts
    assert len(np.unique(ours(x, 12, 4, open_session, backend), axis=0)) == 12


@pytest.mark.filterwarnings("ignore::cosmeans.errors.WeightRangeWarning")
def test_a_rare_row_is_found_when_draws_run_out(backend, open_session):
    x = np.tile(unit_rows(1, 4), (3, 1))
    x[1] = unit_rows(1, 4, 1)
    weights = [1.0, 1e-9, 1e9]
    assert len(np.unique(random_start(x, 2, 0, open_session, backend, weights), axis=0)) == 2


def test_starts_do_not_depend_on_batches_or_threads(starts, backend, open_session, threads):
    x = CASES["text"]()[0][:300]
    expected = starts[1](x, 6, 1).tobytes()
    for count in (1, 2):
        threads(count)
        assert starts[0](x, 6, 1, open_session, backend).tobytes() == expected


def test_rows_left_out_are_never_first_centroids(starts, backend, open_session):
    x = np.zeros((200, 3), np.float32)
    x[[11, 150]] = [[1, 0, 0], [0, 2, 0]]
    assert sorted(starts[0](x, 2, 0, open_session, backend).argmax(axis=1)) == [0, 1]


def test_a_sample_without_one_usable_row_still_starts(backend, open_session):
    x = np.zeros((200_000, 2), np.float32)
    x[[11, 150]] = [[1, 0], [0, 2]]
    centroids = seeding.plus_plus(open_session(x, backend), 2, 0)
    assert sorted(centroids.argmax(dim=1).tolist()) == [0, 1]


def test_no_usable_row_is_an_error(starts, backend, open_session):
    with pytest.raises(InputError, match="No row can be used as an initial centroid"):
        starts[0](np.zeros((40, 3), np.float32), 2, 0, open_session, backend)


def test_torch_random_state_is_neither_read_nor_moved(starts, backend, open_session):
    x = unit_rows(100, 5)
    torch.manual_seed(1)
    one, state = starts[0](x, 5, 3, open_session, backend), torch.get_rng_state()
    torch.manual_seed(2)
    np.random.seed(2)
    assert starts[0](x, 5, 3, open_session, backend).tobytes() == one.tobytes()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)

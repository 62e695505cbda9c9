"""What pays: which fits are captured, where, and when; whether 8 bits come first."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from backends.gpu.standins import Graphs
from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.replay import policy
from cosmeans.backends.gpu.replay.policy import SLOTS, PrecisionPolicy
from cosmeans.backends.gpu.tuning import Tuning

CPU = torch.device("cpu")


def state(**tuning: object) -> DeviceState:
    return DeviceState(CPU, Tuning(**{"graph": Graphs(), **tuning}))


def test_every_number_of_the_table_has_a_record() -> None:
    numbers = [each for each in fields(Tuning) if "record" in each.metadata]

    assert len(numbers) == 15
    assert all(each.metadata["record"] for each in numbers)
    assert all(each.name in Tuning.__doc__ for each in numbers)


@pytest.mark.parametrize(
    ("n", "d", "k", "pays"), [(1 << 20, 128, 256, True), (1 << 20, 768, 1000, False), (9000, 1024, 9000, False)]
)
def test_small_fits_have_a_pooled_workspace(n: int, d: int, k: int, pays: bool) -> None:
    assert not policy.pools(n, k, d, 4, state(graph=None))  # nothing is captured without a GPU
    assert not policy.pools(n, k, d, 4, state())  # too large to be kept
    assert policy.pools(n, k, d, 4, state(most_pooled=1 << 40)) is pays
    assert policy.captures_at_once(n, k, d, state()) is pays
    assert policy.captures(n, k, d, state()) is (k < 9000)  # there is no room for outcomes of so many entries


def test_a_workspace_may_take_what_is_planned_for_it_and_no_more() -> None:
    most = policy.pooled_bytes(1000, 7, 12, 4)

    assert policy.pools(1000, 7, 12, 4, state(most_pooled=most))
    assert not policy.pools(1000, 7, 12, 4, state(most_pooled=most - 1))


def test_outcomes_of_all_slots_have_their_room() -> None:
    k, d = 1000, (128 << 20) // (4 * SLOTS * 1000)

    assert policy.captures(10, k, d, state())
    assert not policy.captures(10, k, d + 1, state())


@pytest.mark.parametrize(
    ("short", "middle", "long", "captured", "plain"),
    [(1, 2, 3, True, 0), (0, 2, 3, True, 1), (0, 0, 3, True, 2), (0, 0, 0, False, 2)],
)
def test_longer_passes_are_captured_later_or_not_at_all(
    short: int, middle: int, long: int, captured: bool, plain: int
) -> None:
    tuned = state(short=short, middle=middle, long=long)

    assert policy.captures(50, 5, 8, tuned) is captured
    assert policy.plain_epochs(50, 5, 8, tuned) == plain
    assert policy.captures_at_once(50, 5, 8, tuned) is bool(short)


# ------------------------------------------------------------------------ 8 bits

FEW = torch.tensor([100, 100, 0, 0], dtype=torch.int32)  # rows that 8 bits leave open, of 100,000
MANY = torch.tensor([90_000, 10_000, 0, 0], dtype=torch.int32)
CLOSE = torch.tensor([0, 0, 6000, 6000], dtype=torch.int32)  # of 6,250 sampled in a float16 pass
APART = torch.tensor([0, 0, 10, 5], dtype=torch.int32)


def choices(*counts: torch.Tensor, passes: int = 6) -> list[bool]:
    """Whether each pass begins in 8 bits, if those that are asked about find these counts, one after another."""
    chosen, found, made = PrecisionPolicy(100_000, 768, 4096), iter(counts), []
    for _ in range(passes):
        made.append(chosen.next())
        if chosen.asks:
            chosen.note(next(found, counts[-1]), made[-1])
    return made


def test_float16_comes_first_and_8_bits_once_two_passes_ago_showed_that_they_pay() -> None:
    assert choices(APART, APART, FEW) == [False, False, True, True, True, True]


def test_where_scores_are_close_float16_stays() -> None:
    assert choices(CLOSE) == [False] * 6


def test_8_bits_that_did_not_pay_are_not_tried_again() -> None:
    made = choices(APART, APART, MANY, APART, passes=40)

    assert made[2]
    last = len(made) - made[::-1].index(True)
    assert last < 10
    assert not any(made[last:])


def test_passes_are_asked_about_less_and_less_often() -> None:
    chosen, asked = PrecisionPolicy(1000, 768, 100), []
    for number in range(1, 40):
        chosen.next()
        if chosen.asks:
            asked.append(number)
            chosen.note(APART, False)

    assert asked == [1, 2, 4, 8, 16, 32]

"""Whether 8 bits come first: decided by what passes have counted."""

from __future__ import annotations

import torch

from cosmeans.backends.gpu.choice import Choice


def passes(choice: Choice, *counted: list[int]) -> list[bool]:
    """What is chosen for passes of which the first, second, fourth, ... are counted like this."""
    chosen = []
    for number in range(1, 2 ** len(counted)):
        chosen.append(choice.next())
        assert choice.asks == (number in (1, 2, 4, 8, 16))
        if choice.asks:
            choice.note(torch.tensor(counted[number.bit_length() - 1]), chosen[-1])
    return chosen


N = 1 << 20
RANDOM = [0, 0, N // 16, N // 17]  # all of the sampled rows are close
REAL = [0, 0, N // 16 // 4, N // 16 // 12]


def test_8_bits_are_chosen_where_few_sampled_scores_are_close() -> None:
    assert passes(Choice(N, 768, 1000), REAL, [0] * 4, [0] * 4) == [False, False, *5 * [True]]
    assert passes(Choice(N, 768, 1000), RANDOM, RANDOM, RANDOM) == 7 * [False]
    assert passes(Choice(N, 768, 1000), RANDOM, RANDOM, REAL, [0] * 4) == [*5 * [False], *10 * [True]]


def test_what_does_not_prove_enough_is_not_tried_again() -> None:
    bad = [N // 2, N // 4, 0, 0]

    assert passes(Choice(N, 768, 1000), REAL, REAL, bad, REAL, REAL) == [False, False, *3 * [True], *26 * [False]]


def test_what_proves_enough_stays() -> None:
    good = [N // 12, N // 6, 0, 0]

    assert passes(Choice(N, 768, 1000), REAL, REAL, good, good) == [False, False, *13 * [True]]


def test_short_rows_and_few_clusters_gain_nothing() -> None:
    assert passes(Choice(N, 384, 1000), [0, 0, N // 16 // 4, N // 16 // 8], REAL) == 3 * [False]
    assert passes(Choice(N, 768, 256), REAL, REAL) == 3 * [False]

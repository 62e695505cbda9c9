"""float32 rows in halves: every bit comes back, and what a head lost is never said to be less."""

from fractions import Fraction

import numpy as np
import pytest

from cosmeans.rows.narrow import joined, split
from generators import heavy_tailed, normal, text_rows, unit_rows

BEYOND = [65504, 65519.996, 65520, 65536, 1e30, 3.4e38, np.inf, np.nan]
BELOW = [2.0**-14, 2.0**-14 * (1 - 2.0**-24), 2.0**-17, 2.0**-24, 2.0**-25, 3 * 2.0**-26, 1e-8, 2.0**-126, 1e-45, 0.0]
BETWEEN = [1 - 2.0**-24, 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-23]
SPECIAL = np.array(BEYOND + BELOW + BETWEEN, np.float32)
ROWS = {
    "random": lambda: unit_rows(500, 96),
    "text": lambda: text_rows(200) / np.linalg.norm(text_rows(200), axis=1, keepdims=True),
    "any lengths": lambda: heavy_tailed(300, 33),
    "tiny": lambda: np.float32(1e-8) * normal(50, 40),
    "subnormal": lambda: np.float32(1e-40) * normal(50, 40),
    "one-hot": lambda: np.eye(30, 48, dtype=np.float32),
    "special": lambda: np.concatenate([SPECIAL[None], -SPECIAL[None]]),
    "any bits": lambda: (
        np.random.default_rng(0).integers(-(2**31), 2**31, (200, 500)).astype(np.int32).view(np.float32)
    ),
    "columns apart": lambda: np.asfortranarray(unit_rows(64, 20)),
    "no rows": lambda: np.empty((0, 7), np.float32),
    "one column": lambda: normal(300_000, 1),
}


def restored(halves):
    rows = joined(halves.heads, halves.tails)
    at = np.repeat(np.arange(len(rows)), halves.listed)
    rows.view(np.int32)[at, halves.column] = halves.bits
    return rows


@pytest.mark.parametrize("kind", ROWS)
def test_every_bit_comes_back(kind):
    x = ROWS[kind]()
    halves = split(x)
    assert (halves.heads.dtype, halves.tails.dtype) == (np.float16, np.int16)
    assert np.isfinite(halves.heads).all()
    assert restored(halves).tobytes() == np.ascontiguousarray(x).tobytes()


def test_few_entries_of_embeddings_are_listed():
    assert len(split(unit_rows(500, 384)).bits) < 3e-4 * 500 * 384


@pytest.mark.parametrize("kind", ["random", "any lengths", "tiny", "subnormal", "one-hot", "special"])
def test_what_was_lost_is_never_said_to_be_less(kind):
    """In fractions; and hardly more. A head that is the row has lost nothing."""
    x = ROWS[kind]()[:60]
    halves = split(x)
    for row, head, lost in zip(x, halves.heads, halves.lost, strict=True):
        if not np.isfinite(row).all():
            assert lost == np.inf
            continue
        squared = sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(row, head, strict=True))
        assert Fraction(float(lost)) ** 2 >= squared
        assert (lost == 0) == (squared == 0)
        assert (
            Fraction(float(np.nextafter(lost, np.float32(0)))) ** 2 <= squared * (1 + Fraction(1, 2**20))
            or lost < 1e-37
        )


def test_what_was_lost_is_rounded_up_wherever_it_falls():
    """Heads of one entry lose a number that float32 holds; of two, mostly none."""
    x = (1.0 + 2.0**-12 * np.random.default_rng(0).random((4000, 2))).astype(np.float32)
    halves = split(x)
    exact = [
        sum((Fraction(float(v)) - Fraction(float(h))) ** 2 for v, h in zip(*p, strict=True))
        for p in zip(x, halves.heads, strict=True)
    ]
    assert all(Fraction(float(lost)) ** 2 >= squared for lost, squared in zip(halves.lost, exact, strict=True))

"""What may be kept of rows, in bytes."""

from types import SimpleNamespace

import pytest

from cosmeans.backends.cpu.budget import Budget, needed_bytes
from cosmeans.backends.cpu.host import Host
from cosmeans.errors import OptionError

MIB = 1 << 20


def budget(strategy="auto", limit=None, n_rows=1000, n_bytes=0, free=1 << 40):
    rows = SimpleNamespace(n_rows=n_rows, n_features=64, n_bytes=n_bytes)
    return Budget.of(strategy, limit, rows, Host(available=lambda: free))


@pytest.mark.parametrize(
    ("limit", "n_bytes", "free", "allowed"),
    [
        (None, 0, 1 << 40, 128 * MIB),
        (None, 2900 * MIB, 1 << 40, 128 * MIB),
        (None, 4000 * MIB, 1 << 40, 400 * MIB),
        (None, 4000 * MIB, 100 * MIB, 50 * MIB),
        (12345, 4000 * MIB, 100, 12345),
    ],
)
def test_a_limit_holds_and_without_one_a_quarter_of_the_rows_or_half_of_what_is_free(limit, n_bytes, free, allowed):
    assert budget(limit=limit, n_bytes=n_bytes, free=free).allowed == allowed


def test_bounds_come_first_and_the_rest_is_left():
    whole = budget(limit=8 * 1000 + 5)
    assert whole.bounded
    assert (whole.left(bounded=True), whole.left(bounded=False)) == (5, 8005)
    assert not budget(limit=8 * 1000 - 1).bounded
    assert not budget("float32", limit=1 << 30).bounded


@pytest.mark.parametrize(("strategy", "each"), [("float32", 0), ("auto", 8), ("split", 8), ("pca", 52), ("int8", 8)])
def test_what_a_strategy_keeps_if_it_can(strategy, each):
    assert needed_bytes(strategy, 1000, 64) == 1000 * each


@pytest.mark.parametrize(("strategy", "each"), [("split", 8), ("pca", 8 + 2 * 16 + 12)])
def test_a_strategy_that_was_asked_for_gets_what_it_needs_or_is_refused(strategy, each):
    assert budget(strategy, each * 1000).needs_rows
    assert f"keeps {each} bytes a row, {each * 1000:,} in all" in str(budget(strategy, each * 1000).refused())
    with pytest.raises(OptionError, match=f"memory_limit allows {each * 1000 - 1:,}"):
        budget(strategy, each * 1000 - 1)

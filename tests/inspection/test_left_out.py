"""Rows left out: counted over batches, the first one named, told once."""

import warnings

import pytest
import torch

from cosmeans.data import Batch, Task
from cosmeans.errors import InputError, SkippedRowsWarning, ZeroRowsWarning
from cosmeans.inspection.left_out import LeftOut

ROWS = torch.tensor([[1.0, 0.0], [0.0, 0.0], [float("nan"), 0.0], [0.0, 0.0]])
SQUARED = torch.tensor([1.0, 0.0, float("nan"), 0.0], dtype=torch.float64)


def noted(**options):
    left = LeftOut(Task(2, **options), 108, lambda row: f"row {row} of a file")
    left.note(Batch(0, ROWS[:1]), SQUARED[:1])
    left.note(Batch(100, ROWS), SQUARED)
    left.note(Batch(104, ROWS), SQUARED)
    return left


def test_what_is_not_a_number_is_an_error_at_once():
    with pytest.raises(InputError, match="Row 102 of a file contains NaN or infinity"):
        noted()


def test_all_are_counted_and_the_first_is_named():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        noted(nonfinite="skip").report()

    zero, bad = told
    assert issubclass(zero.category, ZeroRowsWarning)
    assert "4 of 108 rows are zero (the first is row 101 of a file)" in str(zero.message)
    assert issubclass(bad.category, SkippedRowsWarning)
    assert "2 of 108 rows contain NaN or infinity (the first is row 102 of a file)" in str(bad.message)


def test_zero_rows_can_be_an_error_or_nothing():
    with pytest.raises(InputError, match="4 of 108 rows are zero"):
        noted(nonfinite="skip", zero_rows="error").report()
    with pytest.warns(SkippedRowsWarning) as told:
        noted(nonfinite="skip", zero_rows="skip").report()
    assert len(told) == 1


def test_numbers_too_small_for_float32_are_told_apart():
    left = LeftOut(Task(2), 2, str)
    left.note(Batch(0, torch.tensor([[0.0, 0.0], [1e-300, 0.0]], dtype=torch.float64)), torch.zeros(2).double())

    with pytest.warns(ZeroRowsWarning, match=r"2 of 2 rows are zero .*1 of them with numbers below float32"):
        left.report()

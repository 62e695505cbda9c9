"""Squared norms, what they mean, and the pass that inspects and quantises rows at once: the bits of `sphere`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import truth
from cosmeans import sphere
from cosmeans.backends.gpu.kernels.norms import inspect_rows, lengths, squared_norms
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, quantize_rows
from cosmeans.data import Batch

# several rows make a program where D is small: rows left over, and one program a row
WIDTHS = [(13, 1), (35, 37), (11, 128), (9, 200), (5, 300), (3, 1100)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "d"), WIDTHS)
def test_squared_norms_are_the_sums_of_the_tree(n: int, d: int, dtype: torch.dtype, directions: Any) -> None:
    rows = (directions(n, d) * torch.logspace(-20, 3, n)[:, None]).to(dtype)

    assert squared_norms(rows).tolist() == truth.lengths(rows.to(torch.float64).numpy())[0].tolist()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize(("n", "d"), WIDTHS)
def test_one_pass_finds_the_norms_and_makes_the_copy(
    n: int, d: int, tile: int, integers: bool, directions: Any
) -> None:
    """Unit rows, rows of other lengths, and rows that are not to be kept."""
    rows = sphere.normalise(directions(n, d))
    rows[n // 2 :] *= 7.3
    rows[0], rows[1, 0], rows[-1, d // 2] = 0.0, torch.nan, torch.inf
    squared, start = torch.empty(n, dtype=torch.float64), 70
    one, two = (QuantizedRows.empty(n + start, d, tile, rows.device, integers=integers) for _ in range(2))

    inspect_rows(rows, squared, one, start)

    expected = sphere.squared_norms(rows)
    assert torch.equal(squared.nan_to_num(-5.0), expected.nan_to_num(-5.0))
    keep = torch.isfinite(expected) & (expected != 0)
    quantize_rows(Batch(0, rows, sphere.divisors(expected), keep), two, start)
    assert (one.residuals[start:][~keep] == -1).all()
    assert (one.residuals[start:][keep] >= 0).all()
    memory = ((copy.values, copy.residuals, copy.scales) for copy in (one, two))
    for found, expected in zip(*memory, strict=True):
        assert torch.equal(found.nan_to_num(5.0), expected.nan_to_num(5.0))


def test_rows_of_unit_length_lose_nothing_to_a_division() -> None:
    rows = torch.eye(5)
    rows[4] *= 3.0  # in the same program as the others
    squared, copy = torch.empty(5, dtype=torch.float64), QuantizedRows.empty(5, 5, 0, rows.device)

    inspect_rows(rows, squared, copy, 0)

    assert (copy.residuals[:4] == 0).all()
    assert (copy.scales[:4] == 1).all()
    assert 0 < copy.residuals[4] < 1e-6


@pytest.mark.parametrize("case", ["unit", "scaled", "zero", "NaN", "infinite", "all of them"])
def test_lengths_are_those_of_the_sphere(case: str) -> None:
    squared = torch.ones(1500, dtype=torch.float64)  # two programs
    squared[7] = 1.0 + 2.0**-20
    odd = {"scaled": 3.7, "zero": 0.0, "NaN": float("nan"), "infinite": float("inf")}
    for row, (name, value) in enumerate(odd.items(), start=1200):
        if case in (name, "all of them"):
            squared[row] = value

    found, expected = lengths(squared), sphere.lengths(squared)

    assert found.usable is expected.usable is (case in ("unit", "scaled"))
    assert (found.divisors is None) is (expected.divisors is None) is (case not in ("scaled", "all of them"))
    if expected.divisors is not None:
        assert torch.equal(found.divisors, expected.divisors)

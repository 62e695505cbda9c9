"""Quantised rows: what they lose is bounded, and they have all the memory that kernels read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, dense, dense_batch, quantize_rows, width_of
from cosmeans.data import Batch


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_what_a_copy_loses_is_bounded_by_its_residuals(dtype: torch.dtype, integers: bool, directions: Any) -> None:
    """Rows of any length, some of them close to a power of two; the truth is float64."""
    lengths = torch.tensor([1e-3, 0.75, 0.999, 1.0, 1.4999, 1.5, 1.5001, 300.0])[:, None]
    rows = (sphere.normalise(directions(8, 70)) * lengths).to(dtype)
    norms = sphere.divisors(sphere.squared_norms(rows))
    copy = QuantizedRows.empty(8, 70, 0, torch.device("cpu"), integers=integers)

    quantize_rows(Batch(0, rows, norms), copy, 0)

    screened = copy.values.view(8, -1)[:, :70].double() * copy.scales.double()[:, None]
    lost = (sphere.unit_rows(rows, norms).double() - screened).norm(dim=1)
    assert (lost <= copy.residuals).all()
    assert (copy.residuals <= 1.01 * lost + 2e-6).all()  # and no more than that
    assert (copy.values.view(8, -1)[:, 70:] == 0).all()


@pytest.mark.parametrize("n", [1, 128, 192, 193, 384, 385])
def test_a_copy_in_tiles_has_all_rows_that_a_kernel_reads(n: int) -> None:
    copy = QuantizedRows.empty(n, 70, 64, torch.device("cpu"))

    assert copy.width == 128
    for groups in (2, 3):
        assert len(copy.values) >= -(-n // (64 * groups)) * 64 * groups * 128


@pytest.mark.parametrize(
    ("n_features", "halves", "codes"), [(1, 64, 128), (64, 64, 128), (65, 128, 128), (129, 192, 256)]
)
def test_a_copy_is_as_wide_as_a_step_of_products(n_features: int, halves: int, codes: int) -> None:
    assert (width_of(n_features), width_of(n_features, integers=True)) == (halves, codes)


@pytest.mark.parametrize("size", [1, 4, 9, 10, 11])
def test_chunks_are_the_batch_in_order(size: int, directions: Any) -> None:
    norms, keep, weights = torch.arange(10).double(), torch.arange(10) != 3, 2.0 + torch.arange(10).double()
    batch = Batch(100, directions(10, 3), norms, keep, weights)

    pieces = list(batch.chunks(size))

    assert [piece.start for piece in pieces] == list(range(100, 110, size))
    assert max(len(piece) for piece in pieces) <= size
    for name in ("rows", "norms", "keep", "weights"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(batch, name))


def test_rows_that_are_not_dense_are_copied_and_others_are_not(directions: Any) -> None:
    rows = directions(6, 8)
    strided = rows[:, ::2]

    assert dense(rows) is rows
    assert dense(strided).stride() == (4, 1)
    assert torch.equal(dense_batch(Batch(5, strided)).rows, strided)
    assert dense_batch(Batch(5, strided)).start == 5

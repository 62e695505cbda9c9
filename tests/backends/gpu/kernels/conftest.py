"""Rows, and a pass of assignment as the kernels of the room make it together, without a backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.cascade import CascadeWorkspace, IntegerWorkspace, compare, gather
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, quantize_rows
from cosmeans.backends.gpu.kernels.refine import RefineWorkspace, refine
from cosmeans.backends.gpu.kernels.screen import Errors, accumulation_error, screen
from cosmeans.backends.gpu.kernels.screen_hopper import rounding
from cosmeans.backends.gpu.tuning import TILES
from cosmeans.data import Batch

CPU = torch.device("cpu")


@pytest.fixture
def directions() -> Callable[..., Tensor]:
    """directions(n, d, seed): rows of no special length."""
    return lambda n, d, seed=0: torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def a_batch(directions: Callable[..., Tensor]) -> Callable[..., Batch]:
    """a_batch(n, d, dtype, weighted=False): rows with their divisors."""

    def made(n: int, d: int, dtype: torch.dtype = torch.float32, *, weighted: bool = False) -> Batch:
        rows = (3.0 * directions(n, d)).to(dtype)
        weights = 1.0 + directions(n, 1, 7)[:, 0].abs().double() if weighted else None
        return Batch(0, rows, sphere.divisors(sphere.squared_norms(rows)), None, weights)

    return made


def quantized(batch: Batch, tile: int = 0, *, integers: bool = False) -> QuantizedRows:
    copy = QuantizedRows.empty(*batch.rows.shape, tile, CPU, integers=integers)
    quantize_rows(batch, copy, 0)
    return copy


@pytest.fixture
def quantize() -> Callable[..., QuantizedRows]:
    """quantize(batch, tile=0, integers=False)."""
    return quantized


@pytest.fixture
def assign() -> Callable[..., Tensor]:
    """assign(batch, centroids, integers=False, n_gathered=None, told=1.0): labels (B,) int32.

    told: the share of all errors that the certificate hears of; below 1 it proves what is not true.
    """

    def labelled(
        batch: Batch, centroids: Tensor, *, integers: bool = False, n_gathered: int | None = None, told: float = 1.0
    ) -> Tensor:
        (n, d), k, tile = batch.rows.shape, len(centroids), TILES["interpreter"]
        columns, copy = CentroidWorkspace(k, d, 0, CPU).quantize(centroids), quantized(batch)
        columns.bounds[0] *= told
        copy.residuals.mul_(told)
        labels, space = torch.full((n,), -7, dtype=torch.int32), RefineWorkspace(n, CPU)
        space.uncertified.counts.zero_()
        errors = Errors(told * accumulation_error(d, CPU), 0.0)
        if integers:
            codes, coded = quantized(batch, integers=True), IntegerWorkspace(k, d, 0, CPU).quantize(columns)
            coded.bounds[0] *= told
            codes.residuals.mul_(told)
            of_codes, first = (
                Errors(0.0, told * rounding(integers=True)),
                CascadeWorkspace(n, d, 0, CPU, n_gathered=n_gathered),
            )
            first.uncertified.counts.zero_()
            screen(codes, 0, coded, labels, first.uncertified, of_codes, tile)
            compare(copy, 0, centroids, first.uncertified, labels, space.uncertified, programs=2)
            gather(copy, 0, codes, 0, coded.bounds, of_codes.rounding, first, space.uncertified, programs=2)
            screen(first.gathered, 0, columns, labels, space.uncertified, errors, tile, first.listed)
        else:
            screen(copy, 0, columns, labels, space.uncertified, errors, tile)
        refine(space, copy, 0, batch, columns, labels, errors, programs=2)
        return labels

    return labelled

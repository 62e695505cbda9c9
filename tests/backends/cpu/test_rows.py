"""Unit rows by compiled loops have the bits of rule 1."""

import numpy as np
import pytest
import torch

from cosmeans import sphere
from cosmeans.backends.cpu.rows import unit_rows
from generators import normal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_unit_rows_are_those_of_the_definition(dtype, transposed):
    values = normal(300, 37)
    values[::7] *= 1e-39  # subnormal in float32, zero in float16
    values[::11, :5] = -0.0
    rows = torch.from_numpy(10 * values).to(dtype)
    rows = rows.T.contiguous().T if transposed else rows
    divisors = torch.from_numpy(np.abs(normal(300, 1, 3)[:, 0]) + 0.1).to(torch.float64)
    for given in (divisors, None):
        found, expected = unit_rows(rows, given), sphere.unit_rows(rows, given)
        assert found.dtype is torch.float32
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))

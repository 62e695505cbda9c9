"""What was found of rows before their source was made serves those rows, and one source."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans.backends.gpu.arrival import Arrived
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.memory import MemoryPlan
from cosmeans.rows.memory import MemoryRows
from cosmeans.sphere import squared_norms


def arrived(x: Tensor) -> Arrived:
    copy = Copy.empty(len(x), x.shape[1], 0, False, x.device)
    return Arrived(x, MemoryPlan(True, len(x), 0), torch.arange(len(x)).double(), copy)


def test_it_is_that_of_consecutive_rows_of_these_alone() -> None:
    x = torch.randn(40, 12)
    found = arrived(x)

    for rows, start in ((x, 0), (x[7:9], 7), (x[:0], 0)):
        assert found.copy_of(rows) == (found.copy, start)
        assert torch.equal(found.squared_of(rows), found.squared[start : start + len(rows)])
    shifted = x.view(-1)[4:-8].view(-1, 12)  # rows that begin within others
    for others in (x.clone(), x[::2], x[:, :5], x.view(20, 24), x.view(torch.int32), x[5:, 1:], shifted):
        assert found.copy_of(others) is None
        assert found.squared_of(others) is None


def test_one_source_over_all_of_the_rows_takes_it_up() -> None:
    x = torch.randn(40, 12)
    found = arrived(x)
    first, second, fewer = (MemoryRows(rows, squared_norms=squared_norms) for rows in (x, x, x[:39]))

    assert not found.are(fewer)
    assert not found.are(first.sample(torch.arange(40)))  # its rows are gathered
    assert found.are(first)
    assert not found.are(second)
    assert found.are(first)

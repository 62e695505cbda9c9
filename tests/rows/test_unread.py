"""Rows drawn before all are read: the start that inspected rows give, or none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmeans import seeding
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.rows.memory import MemoryRows
from cosmeans.rows.unread import UnreadRows


def directions(n: int, seed: int = 0) -> Tensor:
    return 3.0 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


class Counting(ReferenceBackend):
    """Counts the rows whose lengths it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def squared_norms(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        return super().squared_norms(rows)


def both(x: Tensor) -> tuple[UnreadRows, MemoryRows]:
    backend = ReferenceBackend()
    options = {"zero_rows": "skip", "nonfinite": "skip"}
    return UnreadRows(x, backend), MemoryRows(x, squared_norms=backend.squared_norms, **options)


KINDS = {
    "rows of any length": directions(300),
    "some of unit length": torch.cat([torch.nn.functional.normalize(directions(150)), directions(150, 1)]),
    "float16": directions(300).half(),
    "float64": directions(300).double(),
    "columns": directions(300).T.contiguous().T,
    "eight rows repeated": directions(8)[torch.arange(300) % 8],
    "fewer rows than clusters that differ": directions(3)[torch.arange(300) % 3],
}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seed", [0, 7])
def test_a_random_start_is_that_of_the_inspected_rows(kind: str, seed: int) -> None:
    unread, inspected = both(KINDS[kind])

    found = seeding.random_rows(unread, 6, seed)

    assert unread.usable
    assert torch.equal(found, seeding.random_rows(inspected, 6, seed))


def test_each_row_is_read_once() -> None:
    backend = Counting()

    seeding.random_rows(UnreadRows(directions(300), backend), 6, 0)

    assert backend.rows == 6


def test_few_contents_are_left_to_a_start_from_inspected_rows() -> None:
    """Where many draws are in vain, most rows may have to be read, and inspection reads them anyway."""
    backend = Counting()

    assert seeding.random_rows_soon(UnreadRows(KINDS["fewer rows than clusters that differ"], backend), 6, 0) is None
    assert backend.rows <= 2 * 6 + 64
    found = seeding.random_rows_soon(UnreadRows(KINDS["float64"], backend), 6, 0)
    assert torch.equal(found, seeding.random_rows(both(KINDS["float64"])[1], 6, 0))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_row_that_cannot_be_taken_shows(value: float) -> None:
    x = directions(300)
    x[9] = value
    rows = UnreadRows(x, ReferenceBackend())

    rows.take(torch.tensor([8, 10]))
    assert rows.usable
    rows.take(torch.tensor([8, 9]))
    assert not rows.usable
    rows.take(torch.tensor([8, 10]))
    assert not rows.usable

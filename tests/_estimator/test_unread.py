"""Rows drawn before all are read: the start that inspected rows give, or none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmeans import seeding
from cosmeans._estimator.unread import UnreadRows
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import InspectedRows
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.progress import Silent
from generators import rows_left_out


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


def unread(x: Tensor, backend: ReferenceBackend | None = None) -> UnreadRows:
    return UnreadRows(MemoryRows(x), backend or ReferenceBackend())


def inspected(x: Tensor) -> InspectedRows:
    task = Task(6, zero_rows="skip", nonfinite="skip")
    session = ReferenceBackend().session(MemoryRows(x), task, Alone(), Silent(), print)
    session.read()
    return session.rows


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
    rows = unread(KINDS[kind])

    found = seeding.random_rows(rows, 6, seed)

    assert rows.usable
    assert torch.equal(found, seeding.random_rows(inspected(KINDS[kind]), 6, seed))


def test_each_row_is_read_once() -> None:
    backend = Counting()

    seeding.random_rows(unread(directions(300), backend), 6, 0)

    assert backend.rows == 6


def test_few_contents_are_left_to_a_start_from_inspected_rows() -> None:
    """Where many draws are in vain, most rows may have to be read, and inspection reads them anyway."""
    backend = Counting()

    assert seeding.random_rows_soon(unread(KINDS["fewer rows than clusters that differ"], backend), 6, 0) is None
    assert backend.rows <= 2 * 6 + 64
    found = seeding.random_rows_soon(unread(KINDS["float64"], backend), 6, 0)
    assert torch.equal(found, seeding.random_rows(inspected(KINDS["float64"]), 6, 0))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_row_that_cannot_be_taken_shows(value: float) -> None:
    x = directions(300)
    x[9] = value
    rows = unread(x)

    rows.take(torch.tensor([8, 10]))
    assert rows.usable
    rows.take(torch.tensor([8, 9]))
    assert not rows.usable
    rows.take(torch.tensor([8, 10]))
    assert not rows.usable


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
def test_rows_without_direction_are_taken_as_zeros() -> None:
    x = torch.from_numpy(rows_left_out()[0])
    every, rows = torch.arange(60), unread(x)

    assert torch.equal(rows.take(every), inspected(x).take(every))
    assert not rows.usable

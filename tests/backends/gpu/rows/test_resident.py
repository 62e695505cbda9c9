"""Rows on the device: labelled in chunks, counted over all of them, in memory that is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from backends.gpu.standins import CASES, FIRST, Job, Started, assert_same, expected, fit, gpu, opened
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.tuning import ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Batch

IN_CHUNKS = ResidencyPlan(copied=False, chunk=16)


def resident(plan: ResidencyPlan) -> ResidentRows:
    state = gpu(plan=plan).state
    screens = Screens(state.device, "portable")
    screens.programs = 1
    rows = ResidentRows(state, screens, None)
    rows.plan = plan
    return rows


def test_refined_rows_are_counted_over_all_chunks_and_batches() -> None:
    job = replace(CASES["every row is refined"], epochs=1)

    assert fit(job, gpu(plan=IN_CHUNKS)).refined == [41]
    assert fit(replace(job, batch_size=20), gpu()).refined == [41]


def test_memory_is_not_made_again_for_the_last_chunk() -> None:
    rows, x = resident(IN_CHUNKS), CASES["unit rows"].x
    columns, labels = rows.columns(FIRST, integers=False), torch.empty(41, dtype=torch.int32)
    rows.assign(Batch(0, x[:16]), columns, labels[:16])
    made = rows.workspace.refining(16), rows.workspace.chunk(16, 12, 0)

    rows.assign(Batch(0, x), columns, labels)

    assert rows.workspace.refining(1) is made[0]
    assert rows.workspace.chunk(1, 12, 0) is made[1]
    with opened(CASES["unit rows"], ReferenceBackend()) as session:
        session.read()
        assert torch.equal(labels, session.assign(FIRST))


def test_batches_are_parts_of_the_one_copy() -> None:
    with Started() as started:
        found = fit(replace(CASES["batches"], epochs=3), gpu())

    assert started.count("quantize_rows") == 1
    assert_same(found, expected("batches"))


def test_passes_in_8_bits_make_their_copy_once() -> None:
    with Started() as started:
        fit(Job(CASES["unit rows"].x, FIRST, 2), gpu(integers=True))

    assert started.count("quantize_rows") == 2  # in float16, and in 8 bits
    assert started.count("compare") == 3


class Alternating:
    """In place of the policy: float16 first, then in turn."""

    def __init__(self, n: int, d: int, k: int) -> None:
        self.asks, self.integers = True, True
        self.noted: list[bool] = []

    def next(self) -> bool:
        self.integers = not self.integers
        return self.integers

    def note(self, read: Callable[[], list[int]], integers: bool) -> None:
        self.noted.append(integers)


@pytest.mark.parametrize("batch_size", [None, 20])
def test_the_policy_decides_pass_by_pass_and_hears_of_whole_ones(batch_size: int | None) -> None:
    policies: list[Alternating] = []

    def make(*shape: int) -> Alternating:
        policies.append(Alternating(*shape))
        return policies[-1]

    job = replace(CASES["rows of any length"], batch_size=batch_size, options={"empty_clusters": "keep"})
    with Started() as started:
        found = fit(job, gpu(precision=make))

    assert len(policies) == 1
    assert policies[0].noted == ([] if batch_size else [False, True, False, True])
    assert started.count("compare") == (6 if batch_size else 2)
    assert_same(found, fit(job, ReferenceBackend()))

"""Rows that stay on the host: which of them are sent, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backends.gpu.standins import (
    FIRST,
    Graphs,
    Job,
    Watched,
    assert_same,
    directions,
    fit,
    fit_in,
    gpu,
    opened,
    replaying,
    there,
    unit,
)
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.rows.placed import FETCHED, SENT, StreamedRows
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.rows.upload import Upload
from cosmeans.backends.gpu.tuning import ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend, accumulate, assign
from cosmeans.data import Batch, ClusterSums
from cosmeans.progress import Silent

ROWS = unit(41, 12)
JOB = Job(ROWS, ROWS[:7].clone())


def fetching(copied: bool, at_once: int) -> tuple[Any, Watched]:
    watched = Watched()
    plan = ResidencyPlan(copied=copied, chunk=at_once, fetched=at_once)
    return gpu(plan=plan, copies=lambda device: watched), watched


def test_with_the_copy_only_uncertified_and_changed_rows_are_fetched() -> None:
    """Once all rows, to make the copy, then all for the first sums, and for the cosines of the last labels."""
    backend, watched = fetching(copied=True, at_once=41)
    with opened(there(JOB), backend) as session:
        session.read()
        assert watched.sizes(ROWS) == [41]
        found = fit_in(session, JOB)

    after = fit(replace(JOB, epochs=4), ReferenceBackend()).result
    changed = [i.changed for i in after.history]
    sizes, refined = watched.sizes(ROWS), found.refined
    gathered = [n for n in sizes if n < 41]
    assert sizes.count(41) == 3
    assert changed[0] == 41
    assert 0 < sum(changed[1:]) < 41
    assert sum(gathered) == sum(changed[1:]) + sum(refined) + last_refined(found.result.centroids)
    assert [i.changed for i in found.result.history] == changed[:3]
    assert {i.strategy for i in found.result.costs} == {FETCHED}
    assert {i.kept_bytes for i in found.result.costs} == {41 * (2 * 64 + 8)}
    assert all(sent == sorted(sent) for sent in watched.indices(ROWS))  # as files are read


def last_refined(centroids: Tensor) -> int:
    """How many rows a pass on the device refines under these centroids."""
    with opened(replace(JOB, first=centroids), gpu()) as session:
        session.read()
        return fit_in(session, replace(JOB, first=centroids, epochs=1)).refined[0]


def test_without_the_copy_all_rows_are_sent_once_in_every_pass() -> None:
    backend, watched = fetching(copied=False, at_once=16)
    with opened(there(JOB), backend) as session:
        session.read()
        found = fit_in(session, JOB, scored=True)

    # lengths, three epochs, labels under the last centroids, own similarities
    assert watched.sizes(ROWS) == [16, 16, 9] * 6
    assert {i.strategy for i in found.result.costs} == {SENT}
    assert {i.kept_bytes for i in found.result.costs} == {0}
    assert found.refined == fit(JOB, gpu()).refined


def test_a_batch_that_is_sent_whole_is_sent_once_for_labels_and_sums() -> None:
    backend, watched = fetching(copied=False, at_once=41)
    job = replace(JOB, epochs=1)
    with opened(there(job), backend) as session:
        session.read()
        fit_in(session, job)

    assert watched.sizes(ROWS) == [41] * 3  # lengths, an epoch, the final pass


def streamed(at_once: int) -> tuple[ResidentRows, StreamedRows]:
    state = gpu(plan=ResidencyPlan(copied=False, chunk=at_once, fetched=at_once)).state
    screens = Screens(state.device, "portable")
    screens.programs = 1
    resident = ResidentRows(state, screens, None)
    resident.plan = state.tuning.plan
    return resident, StreamedRows(resident, Upload(state.device))


@pytest.mark.parametrize("between", ["nothing", "another batch", "the same batch again"])
@pytest.mark.parametrize("added", [0, 20], ids=["its sums", "those of another batch"])
def test_rows_sent_for_labels_serve_no_other_batch(added: int, between: str) -> None:
    """What is on the device is that of the batch labelled last, and only until something else is fetched."""
    resident, rows = streamed(20)
    batches = {start: Batch(start, ROWS[start : start + 20]) for start in (0, 20)}
    columns = resident.columns(FIRST, integers=False)
    labels = torch.empty(20, dtype=torch.int32)
    rows.assign(batches[0], columns, labels)
    assert torch.equal(labels, assign(batches[0], FIRST, labels).labels)
    if between != "nothing":
        for _ in range(2):  # there are two slots
            list(rows.fetch(batches[20 if between == "another batch" else 0]))

    found, true = (ClusterSums.zeros(7, 12, 40, "cpu") for _ in range(2))
    before = torch.full((20,), -1, dtype=torch.int32)
    moved = before.clone()
    assert int(rows.accumulate(batches[added], moved, labels, found)) == 20
    accumulate(batches[added], before, labels, true)

    assert torch.equal(moved, labels)
    assert torch.equal(found.direction, true.direction)
    assert torch.equal(found.count, true.count)


def test_rows_that_nobody_planned_for_are_planned_when_the_fit_begins() -> None:
    """As rows of one pass that are fitted all the same: their float16 copy is made then."""
    backend, _ = fetching(copied=True, at_once=41)
    with opened(there(JOB), backend, fit=False) as session:
        session.read()
        part = session.subset(torch.arange(0, 41, 2), Silent())
        found = fit_in(part, JOB)

    assert_same(found, fit(replace(JOB, x=ROWS[::2]), ReferenceBackend()))
    assert {i.strategy for i in found.result.costs} == {FETCHED}


def test_epochs_that_fetch_rows_are_not_captured() -> None:
    graphs = Graphs()
    plan = ResidencyPlan(copied=True, chunk=41, fetched=41)

    fit(there(JOB), replaying(pooled=True, graphs=graphs, plan=plan))

    assert graphs.made == 0


def test_rows_too_many_for_one_slot_are_sent_in_pieces_of_one_size() -> None:
    x = directions(41, 12)
    watched = Watched()
    backend = gpu(
        copies=lambda device: watched, upload_piece=6 * 48, plan=ResidencyPlan(copied=False, chunk=16, fetched=16)
    )
    with opened(Job(there(Job(x, FIRST)).x, FIRST), backend) as session:
        session.read()

    assert watched.sizes(x) == [6, 6, 4] * 2 + [5, 4]

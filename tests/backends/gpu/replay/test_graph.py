"""Epochs captured and replayed, with a stand-in for the CUDA graph that does the same work with the same memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from backends.gpu.standins import (
    CASES,
    FIRST,
    KEEP,
    Found,
    Graphs,
    Job,
    Started,
    assert_same,
    directions,
    expected,
    fit,
    fit_in,
    opened,
    replaying,
    there,
    unit,
)
from cosmeans.backends.gpu.rows.plans import plan_resident
from cosmeans.backends.gpu.tuning import ANY, SLOTS
from cosmeans.backends.reference import ReferenceBackend

SHORT = Job(directions(20, 4), unit(3, 4, 1), 3)
LONG = Job(directions(60, 5, 3), unit(4, 5, 9), 30)  # more epochs than there are slots


def true(job: Job) -> Found:
    return fit(job, ReferenceBackend())


def pooled(backend: Any, job: Job = SHORT) -> bool:
    """Whether a fit left a workspace: the next one begins in it, by replaying what it begins with."""
    graphs = backend.state.tuning.graph
    made = graphs.made
    fit(job, backend)
    return graphs.made == made


@pytest.mark.parametrize("case", ["clusters that move", "clusters that stay", "zero rows, NaN and infinity", "tol"])
@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
def test_fits_that_only_replay_are_those_of_the_reference(case: str) -> None:
    """The first one starts an epoch and captures the next; the second begins where that left its workspace."""
    graphs = Graphs()
    backend = replaying(pooled=True, graphs=graphs)
    fit(replace(CASES[case], epochs=2, first=CASES[case].first.flip(0)), backend)
    made, replayed = graphs.made, graphs.replayed

    found = fit(CASES[case], backend)

    assert_same(found, expected(case))
    assert graphs.made == made == 2
    assert graphs.replayed >= replayed + len(found.result.history) + 1


@pytest.mark.parametrize("most_pooled", [True, False], ids=["pooled", "in place"])
def test_slots_are_used_again_in_turn(most_pooled: bool) -> None:
    truth = true(LONG)
    assert len(truth.result.history) > SLOTS + 1

    assert_same(fit(LONG, replaying(most_pooled)), truth)


def test_a_workspace_serves_other_rows_and_results_stay() -> None:
    graphs = Graphs()
    backend = replaying(pooled=True, graphs=graphs)
    jobs = [replace(SHORT, x=directions(20, 4, seed)) for seed in range(3)]

    found = [fit(job, backend) for job in jobs]

    assert graphs.made == 2
    for one, job in zip(found, jobs, strict=True):
        assert_same(one, true(job))


KINDS: dict[str, Callable[[Job], Job]] = {
    "more rows": lambda job: replace(job, x=directions(21, 4)),
    "fewer clusters": lambda job: replace(job, first=unit(2, 4, 1)),
    "another dtype": lambda job: replace(job, x=job.x.half()),
    "lengths of one": lambda job: replace(job, x=unit(20, 4)),
    "weights": lambda job: replace(job, weights=torch.linspace(0.5, 2.0, 20).double()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fits_of_several_kinds_have_workspaces_of_their_own(kind: str) -> None:
    graphs = Graphs()
    backend, other = replaying(pooled=True, graphs=graphs), KINDS[kind](SHORT)
    fit(replace(SHORT, epochs=2), backend)

    assert_same(fit(other, backend), true(other))
    assert graphs.made == 4
    assert_same(fit(SHORT, backend), true(SHORT))
    assert graphs.made == 4


def test_rows_too_many_for_a_pooled_workspace_are_captured_where_they_are() -> None:
    """With graphs of their own, which the next fit can't use."""
    graphs = Graphs()
    backend = replaying(pooled=False, graphs=graphs)
    for made in (1, 2):
        assert_same(fit(SHORT, backend), true(SHORT))
        assert graphs.made == made


def test_rows_that_were_sent_in_spans_are_copied_to_a_workspace() -> None:
    graphs = Graphs()
    backend = replaying(pooled=True, graphs=graphs, small_upload=0, upload_span=16 * 16)
    for seed in range(2):  # captured, then replayed
        job = replace(SHORT, x=directions(20, 4, seed))
        assert_same(fit(there(job), backend), true(job))
    assert graphs.made == 2


def test_a_pooled_workspace_needs_room_for_the_copy_of_the_rows() -> None:
    """Others give way first."""
    other = object()

    class Other:
        n_bytes = 1

    needed = plan_resident(20, 4, 3, ANY, "").n_bytes + SHORT.x.nbytes
    for room, keeps in ((needed - 1, False), (needed, True)):
        free = [ANY, room]
        backend = replaying(pooled=True, room=lambda device, enough, free=free: free[-1])
        backend.state.release(other, Other())
        assert_same(fit(SHORT, backend), true(SHORT))
        assert (backend.state.acquire(other) is not None) is keeps
        free.append(ANY)
        assert pooled(backend) is keeps


@pytest.mark.parametrize(("short", "middle", "started"), [(0.0, 0.0, [2, 2]), (0.0, 1.0, [1, 1]), (1.0, 1.0, [1, 0])])
def test_short_epochs_are_captured_at_once_and_long_ones_while_the_device_is_busy(
    short: float, middle: float, started: list[int]
) -> None:
    graphs = Graphs()
    backend, found = replaying(pooled=False, graphs=graphs, short=short, middle=middle), []
    for _ in started:
        graphs.replayed = 0
        assert_same(fit(SHORT, backend), true(SHORT))
        found.append(4 - graphs.replayed)  # three epochs and the labels of the last centroids

    assert found == started


def test_very_long_epochs_are_not_captured() -> None:
    graphs = Graphs()

    assert_same(fit(SHORT, replaying(pooled=True, graphs=graphs, long=0)), true(SHORT))

    assert graphs.made == 0


class Scripted:
    """In place of the policy: both kinds, in no order."""

    asks = False

    def __init__(self, *shape: int) -> None:
        self.kinds = iter([False, True, True, False, True, False, False, True] * 3)

    def next(self) -> bool:
        return next(self.kinds)


def test_epochs_of_two_kinds_are_captured_side_by_side() -> None:
    graphs, job = Graphs(), replace(CASES["rows of any length"], epochs=6, options=KEEP)
    backend = replaying(pooled=False, graphs=graphs, precision=Scripted)

    assert_same(fit(job, backend), true(job))
    assert graphs.made == 2
    assert graphs.replayed > 2


def test_in_a_pooled_workspace_all_epochs_are_of_one_kind() -> None:
    graphs = Graphs()

    assert_same(fit(SHORT, replaying(pooled=True, graphs=graphs, precision=Scripted)), true(SHORT))

    assert graphs.made == 2  # what a fit begins with, and an epoch


def test_several_fits_where_rows_are_use_the_copy_made_before() -> None:
    graphs = Graphs()
    with Started() as started, opened(SHORT, replaying(pooled=False, graphs=graphs)) as session:
        session.read()
        for first in (SHORT.first, SHORT.first.flip(0)):
            assert_same(fit_in(session, replace(SHORT, first=first)), true(replace(SHORT, first=first)))

    assert graphs.made == 2
    assert started.count("quantize_rows") == 1


def test_what_is_asked_in_between_is_not_taken_for_the_next_epoch() -> None:
    """Between epochs, others' labels are found with the session of the fit."""
    job = CASES["rows of any length"]
    with opened(job, replaying(pooled=True)) as session:
        session.read()
        epochs = session.epochs(job.first, 4)
        followed = []
        for epoch in epochs:
            followed.append(epoch.update.centroids.clone())
            session.assign(-FIRST)
        labels = session.finish(followed[-1]).labels

    truth = true(replace(job, epochs=4))
    assert torch.equal(followed[-1], truth.result.centroids)
    assert torch.equal(labels, truth.result.labels)

"""Which fits are captured, with which of their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backends.gpu.standins import Job, directions, gpu, opened, replaying, there, unit
from cosmeans.backends.gpu.replay.fit import LOOKAHEAD, ReplayPlan
from cosmeans.backends.gpu.rows.memory import Workspace
from cosmeans.backends.gpu.tuning import SLOTS, ResidencyPlan

SHORT = Job(directions(20, 4), unit(3, 4, 1), 3)


def plan_of(job: Job, **tuning: Any) -> ReplayPlan | None:
    backend = replaying(pooled=True, **tuning)
    with opened(job, backend) as session:
        session.read()
        return ReplayPlan.of(session.rows, len(job.first), None, backend.state)


def test_rows_gathered_again_in_every_pass_are_not_captured() -> None:
    backend = replaying(pooled=True)
    with opened(SHORT, backend) as session:
        session.read()
        assert ReplayPlan.of(session.rows, 3, None, backend.state) is not None
        assert ReplayPlan.of(session.rows.sample(torch.arange(0, 20, 3)), 3, None, backend.state) is None
    assert plan_of(replace(SHORT, batch_size=7)) is None
    assert plan_of(there(SHORT), plan=ResidencyPlan(copied=True, chunk=20, fetched=20)) is None


def test_a_fit_without_a_gpu_is_not_captured() -> None:
    backend = gpu()
    with opened(SHORT, backend) as session:
        session.read()
        assert ReplayPlan.of(session.rows, 3, None, backend.state) is None


def test_enough_epochs_are_queued_that_the_device_never_waits() -> None:
    assert plan_of(SHORT).lookahead == LOOKAHEAD
    assert plan_of(SHORT, short=0.0).lookahead == 1
    assert LOOKAHEAD + 3 < SLOTS  # those ahead, the one that is read, the one before it, the final pass


def test_the_copy_of_a_plan_is_in_the_workspace() -> None:
    plan, workspace = plan_of(replace(SHORT, weights=torch.ones(20).double())), Workspace(torch.device("cpu"))

    copied = plan.copied_to(workspace).batch

    for name in ("rows", "norms", "weights"):
        assert torch.equal(getattr(copied, name), getattr(plan.batch, name))
        assert getattr(copied, name).data_ptr() != getattr(plan.batch, name).data_ptr()
    assert copied.keep is None

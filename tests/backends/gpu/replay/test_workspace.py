"""Working memory by name, and what a device keeps for the next fit of a kind."""

from __future__ import annotations

import gc
import weakref

import torch

import cosmeans
from backends.gpu.standins import Job, directions, fit, replaying, unit
from cosmeans.backends.gpu import DeviceState, state_of
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.replay.workspace import Workspace
from cosmeans.backends.gpu.tuning import DEFAULT, Tuning

CPU = torch.device("cpu")


def test_memory_of_another_shape_takes_the_captured_epochs_with_it() -> None:
    workspace = Workspace(CPU)
    first = workspace.get("sums", (3,), lambda: [1])
    workspace.captured = "epochs"

    assert workspace.get("sums", (3,), lambda: [2]) is first
    assert workspace.get("labels", (5,), lambda: [3]) == [3]
    assert workspace.captured == "epochs"
    assert workspace.get("sums", (4,), lambda: [4]) == [4]
    assert workspace.captured is None


def test_memory_for_more_rows_serves_fewer() -> None:
    workspace = Workspace(CPU)
    first = workspace.at_least("list", 7, (3,), lambda: [7])
    workspace.captured = "epochs"

    assert workspace.at_least("list", 5, (3,), lambda: [5]) is first
    assert workspace.captured == "epochs"
    assert workspace.at_least("list", 8, (3,), lambda: [8]) == [8]
    assert workspace.at_least("list", 8, (4,), lambda: [9]) == [9]
    assert workspace.captured is None


def test_copies_are_at_one_place() -> None:
    workspace, x = Workspace(CPU), torch.eye(3)
    place = workspace.copy("rows", x)

    assert workspace.copy("norms", None) is None
    assert torch.equal(place, x)
    assert place.data_ptr() != x.data_ptr()
    assert workspace.copy("rows", 2 * x) is place
    assert torch.equal(place, 2 * x)


# ----------------------------------------------------------------------- the pool


def workspace(n_bytes: int = 0) -> Workspace:
    made = Workspace(CPU)
    made.n_bytes = n_bytes
    return made


def test_a_workspace_belongs_to_one_fit_at_a_time() -> None:
    state, first = DeviceState(CPU, DEFAULT), workspace()

    assert state.acquire("a kind") is None
    state.release("a kind", first)
    assert state.acquire("another kind") is None
    assert state.acquire("a kind") is first
    assert state.acquire("a kind") is None


def test_the_workspace_unused_for_longest_gives_way() -> None:
    state, made = DeviceState(CPU, DEFAULT), [workspace() for _ in range(6)]
    for kind, each in enumerate(made):
        state.release(kind, each)

    assert state.acquire(1) is None
    assert state.acquire(2) is made[2]
    state.clear()
    assert state.acquire(3) is None


def test_what_is_pooled_takes_no_more_memory_than_it_may() -> None:
    state = DeviceState(CPU, Tuning(most_pooled=100))
    sizes = {0: 50, 1: 40, 2: 30, 3: 30}
    for kind, n_bytes in sizes.items():
        state.release(kind, workspace(n_bytes))

    assert [kind for kind in sizes if state.acquire(kind) is not None] == [1, 2, 3]
    state.release("small", workspace(1))
    state.release("large", workspace(101))
    assert state.acquire("large") is None
    assert state.acquire("small") is None


def test_what_is_known_of_a_device() -> None:
    state = DeviceState(CPU, DEFAULT)

    assert state.largest("rows") == 0
    assert state.note("rows", 5)
    assert not state.note("rows", 3)
    assert state.largest("rows") == 5


def test_backends_of_a_device_share_what_they_keep_unless_one_is_tuned() -> None:
    assert GpuBackend("cpu").state is GpuBackend("cpu").state is state_of(CPU)
    assert GpuBackend("cpu").state is not GpuBackend("cpu", tuning=DEFAULT).state


def test_memory_that_is_kept_for_other_fits_can_be_given_back() -> None:
    class Graph:
        """Retired."""

    backend = replaying(True)
    fit(Job(directions(20, 4), unit(3, 4), 2), backend)
    kept = weakref.ref(backend.state)
    retired = Graph()
    backend.state.retire(retired)
    (graph, retired) = (weakref.ref(retired), None)

    cosmeans.empty_cache()
    gc.collect()

    assert graph() is None
    assert kept() is backend.state
    fit(Job(directions(20, 4), unit(3, 4), 1), backend)

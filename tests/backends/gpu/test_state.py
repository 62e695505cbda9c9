"""What a device keeps for the next fit of a kind; which fits are captured, where, and when."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

import cosmeans
from backends.gpu.standins import Graphs, Job, directions, fit, replaying, unit
from cosmeans.backends.gpu import DeviceState, state_of
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.rows.memory import Workspace
from cosmeans.backends.gpu.tuning import DEFAULT, SLOTS, Tuning, pooled_bytes

CPU = torch.device("cpu")


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

    backend = replaying(pooled=True)
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


# ------------------------------------------------------------------- what pays


def state(**tuning: object) -> DeviceState:
    return DeviceState(CPU, Tuning(**{"graph": Graphs(), **tuning}))


@pytest.mark.parametrize(
    ("n", "d", "k", "pays"), [(1 << 20, 128, 256, True), (1 << 20, 768, 1000, False), (9000, 1024, 9000, False)]
)
def test_small_fits_have_a_pooled_workspace(n: int, d: int, k: int, pays: bool) -> None:
    assert not state(graph=None).pools(n, k, d, 4)  # nothing is captured without a GPU
    assert not state().pools(n, k, d, 4)  # too large to be kept
    assert state(most_pooled=1 << 40).pools(n, k, d, 4) is pays
    assert state().captures_at_once(n, k, d) is pays
    assert state().captures(n, k, d) is (k < 9000)  # there is no room for outcomes of so many entries


def test_a_workspace_may_take_what_is_planned_for_it_and_no_more() -> None:
    most = pooled_bytes(1000, 7, 12, 4)

    assert state(most_pooled=most).pools(1000, 7, 12, 4)
    assert not state(most_pooled=most - 1).pools(1000, 7, 12, 4)


def test_a_session_with_a_limit_has_what_the_others_leave_of_both() -> None:
    """Of the limit, and of what is free; what is in use when it begins is not its own."""
    free, used = [1000], [70]
    shared = state(room=lambda device, enough: free[0], allocated=lambda device: used[0], most_pooled=1 << 40)
    assert shared.limited(None) is shared
    view = shared.limited(300)

    assert (shared.free_bytes(), view.free_bytes()) == (1000, 300)
    used[0] += 120
    assert view.free_bytes() == 180
    free[0] = 50
    assert view.free_bytes() == 50
    used[0] += 200
    assert view.free_bytes() == 0
    assert shared.limit is None


def test_a_session_with_a_limit_leaves_pooled_workspaces_alone() -> None:
    shared, made = state(most_pooled=1 << 40), workspace()
    view = shared.limited(1 << 40)
    shared.release("a kind", made)

    assert shared.pools(1000, 7, 12, 4)
    assert not view.pools(1000, 7, 12, 4)
    view.note("known", 3)
    assert shared.largest("known") == 3, "they share what is known"
    view.clear()
    assert shared.acquire("a kind") is None, "and what gives way"


def test_outcomes_of_all_slots_have_their_room() -> None:
    k, d = 1000, (128 << 20) // (4 * SLOTS * 1000)

    assert state().captures(10, k, d)
    assert not state().captures(10, k, d + 1)


@pytest.mark.parametrize(
    ("short", "middle", "long", "captured", "plain"),
    [(1, 2, 3, True, 0), (0, 2, 3, True, 1), (0, 0, 3, True, 2), (0, 0, 0, False, 2)],
)
def test_longer_passes_are_captured_later_or_not_at_all(
    short: int, middle: int, long: int, captured: bool, plain: int
) -> None:
    tuned = state(short=short, middle=middle, long=long)

    assert tuned.captures(50, 5, 8) is captured
    assert tuned.plain_epochs(50, 5, 8) == plain
    assert tuned.captures_at_once(50, 5, 8) is bool(short)

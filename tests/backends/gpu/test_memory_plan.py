"""The plan of memory for rows on the device, and labels found part by part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cosmeans import lloyd, sphere
from cosmeans.backends.gpu import desk, passes
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.memory import MemoryPlan, plan_memory, rows_in_turn
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend
from cosmeans.errors import DeviceMemoryError
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

CLIMBING = plan_memory(2_000_000, 100, 1000, 1 << 50, "a GPU").n_bytes
WHOLE = plan_memory(2_000_000, 100, 1000, CLIMBING - 1, "a GPU").n_bytes


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fit(x: Tensor, centroids: Tensor, backend: Backend, batch_size: int | None = None) -> FitResult:
    rows = MemoryRows(x, squared_norms=backend.squared_norms, batch_size=batch_size)
    return lloyd.fit(rows, centroids, FitOptions(n_clusters=len(centroids), epochs=2), backend, Alone(), Silent())


def a_backend() -> GpuBackend:
    """With one multiprocessor: the interpreter runs programs in turn."""
    backend = GpuBackend("cpu")
    backend._programs = 1
    return backend


def assert_same(found: FitResult, expected: FitResult) -> None:
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.centroids, expected.centroids)
    assert found.history.similarities == expected.history.similarities
    assert [i.changed for i in found.history] == [i.changed for i in expected.history]


# ---------------------------------------------------------------- the plan


def test_the_copy_of_all_rows_stays_where_it_fits() -> None:
    assert plan_memory(2_000_000, 100, 1000, WHOLE, "a GPU") == MemoryPlan(True, 2_000_000, WHOLE)


def test_a_copy_in_8_bits_may_join_it_where_that_fits_too() -> None:
    # 128 codes a row, 8 bytes of residual and unit, 20 of lists; a quarter of the rows gathered, twice the centroids
    more = 2_000_000 * (128 + 8 + 20) + 500_000 * (2 * 128 + 8) + 2 * 1000 * 128

    assert plan_memory(2_000_000, 100, 1000, CLIMBING, "a GPU") == MemoryPlan(True, 2_000_000, CLIMBING, ladder=True)
    assert WHOLE + more == CLIMBING
    assert not plan_memory(2_000_000, 2081, 1000, 1 << 50, "a GPU").ladder  # sums would overflow


def test_one_byte_less_and_rows_are_labelled_in_parts() -> None:
    plan = plan_memory(2_000_000, 100, 1000, WHOLE - 1, "a GPU")

    assert (plan.resident, plan.part) == (False, 1 << 20)
    assert plan.n_bytes < WHOLE


@pytest.mark.parametrize("cut", [0.6, 0.8])
def test_parts_fill_the_room_and_no_more(cut: float) -> None:
    least = plan_memory(2_000_000, 100, 1000, WHOLE - 1, "a GPU").n_bytes
    room = int(cut * least)

    plan = plan_memory(2_000_000, 100, 1000, room, "a GPU")

    row = (least - plan.n_bytes) / ((1 << 20) - plan.part)
    assert (1 << 14) <= plan.part < (1 << 20)
    assert room - row < plan.n_bytes <= room


def test_without_room_for_a_part_the_error_has_the_numbers() -> None:
    # 47 bytes a row, 40 an entry of the centroids and 300 a cluster, 256 MiB, and 2^14 rows of 128 halves and 100 bytes
    need = 2_000_000 * 47 + 1000 * (100 * 40 + 300) + (256 << 20) + (1 << 14) * (2 * 128 + 100)

    with pytest.raises(DeviceMemoryError) as caught:
        plan_memory(2_000_000, 100, 1000, need - 1, "cuda:3")

    assert plan_memory(2_000_000, 100, 1000, need, "cuda:3") == MemoryPlan(False, 1 << 14, need)
    assert str(caught.value) == (
        f"2000000 rows of 100 entries and 1000 clusters need {need / 2**20:,.0f} MiB beside the rows; cuda:3 has "
        f'{(need - 1) / 2**20:,.0f} MiB free. Free memory there, pass fewer rows, or device="cpu".'
    )


def test_few_rows_need_no_full_part() -> None:
    climbing = plan_memory(10, 100, 3, 1 << 50, "a GPU").n_bytes
    small = plan_memory(10, 100, 3, climbing - 1, "a GPU").n_bytes

    assert plan_memory(10, 100, 3, small, "a GPU").resident
    with pytest.raises(DeviceMemoryError, match="10 rows of 100 entries and 3 clusters need 256 MiB"):
        plan_memory(10, 100, 3, small - 1, "a GPU")


def test_rows_to_be_labelled_once_take_half_of_the_room_at_most() -> None:
    row = 2 * 128 + 100

    assert rows_in_turn(100, 1 << 50) == 1 << 20
    assert rows_in_turn(100, 2 * 100_000 * row) == 100_000
    assert rows_in_turn(100, 0) == 1 << 14


# ------------------------------------------------------------ part by part


@pytest.fixture(params=[32, 90], ids=lambda part: f"parts of {part}")
def in_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whatever the room, the copy of the rows does not stay, and so many rows are labelled at once."""

    def plan(n_rows: int, *_: object) -> MemoryPlan:
        return MemoryPlan(False, min(n_rows, request.param), 0)

    monkeypatch.setattr(passes, "plan_memory", plan)
    monkeypatch.setattr(passes, "rows_in_turn", lambda *_: request.param)
    return request.param


@pytest.mark.parametrize("batch_size", [None, 35], ids=["one batch", "batches of 35"])
def test_a_fit_in_parts_has_the_bits_of_the_reference(in_parts: int, batch_size: int | None) -> None:
    x, backend = 3.0 * directions(75, 20), a_backend()
    centroids = sphere.normalise(x[:9].clone())

    found = fit(x, centroids, backend, batch_size)

    assert backend._resident is None
    assert_same(found, fit(x, centroids, ReferenceBackend(), batch_size))


def test_rows_settled_are_counted_over_all_parts(in_parts: int) -> None:
    one = directions(1, 40)
    centroids = sphere.normalise(one / one.norm() + 1e-5 * directions(4, 40, 1))  # every row is uncertain

    assert fit(directions(75, 40), centroids, a_backend()).costs[0].settled == 75


def test_labels_without_a_fit_are_found_in_parts(in_parts: int) -> None:
    x = 3.0 * directions(75, 20)
    centroids = sphere.normalise(directions(9, 20, 1))
    labels = [
        lloyd.predict(MemoryRows(x, squared_norms=b.squared_norms), centroids, b, Silent())
        for b in (a_backend(), ReferenceBackend())
    ]

    assert torch.equal(*labels)


def test_memory_is_not_made_anew_for_the_last_part(in_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    space = desk.SettleSpace
    monkeypatch.setattr(desk, "SettleSpace", lambda n, device: made.append(n) or space(n, device))

    fit(directions(75, 20), sphere.normalise(directions(9, 20, 1)), a_backend())

    assert made == [min(75, in_parts)]

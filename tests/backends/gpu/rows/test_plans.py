"""The plan of memory: the fastest one that fits, exactly as much as fits, and errors with the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from backends.gpu.standins import (
    Job,
    Started,
    assert_same,
    directions,
    fit,
    fit_in,
    gpu,
    on_host,
    opened,
    there,
    unit,
)
from cosmeans.backends.gpu.rows.placed import FETCHED, SENT
from cosmeans.backends.gpu.rows.plans import (
    OF_INSPECTED,
    plan_incoming,
    plan_resident,
    plan_streamed,
    rows_per_chunk,
    rows_per_fetch,
)
from cosmeans.backends.gpu.tuning import ANY, ResidencyPlan, Tuning
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.errors import DeviceMemoryError

ALL = plan_resident(2_000_000, 100, 1000, ANY, "a GPU").n_bytes  # the copy in 8 bits, too
WHOLE = plan_resident(2_000_000, 100, 1000, ALL - 1, "a GPU").n_bytes


def test_the_copy_of_all_rows_stays_where_it_fits() -> None:
    found = plan_resident(2_000_000, 100, 1000, WHOLE, "a GPU")

    assert found == ResidencyPlan(copied=True, chunk=2_000_000, n_bytes=WHOLE)


def test_a_copy_in_8_bits_may_join_it_where_that_fits_too() -> None:
    # 128 codes a row, 8 bytes of residual and unit, 20 of lists; a quarter of the rows gathered, twice the centroids
    more = 2_000_000 * (128 + 8 + 20) + 500_000 * (2 * 128 + 8) + 2 * 1000 * 128
    found = plan_resident(2_000_000, 100, 1000, ALL, "a GPU")

    assert found == ResidencyPlan(copied=True, chunk=2_000_000, n_bytes=ALL, cascade=True)
    assert WHOLE + more == ALL
    assert not plan_resident(2_000_000, 2081, 1000, ANY, "a GPU").cascade  # sums would overflow


def test_one_byte_less_and_rows_are_labelled_in_chunks() -> None:
    plan = plan_resident(2_000_000, 100, 1000, WHOLE - 1, "a GPU")

    assert (plan.copied, plan.chunk) == (False, 1 << 20)
    assert plan.n_bytes < WHOLE


@pytest.mark.parametrize("cut", [0.6, 0.8])
def test_chunks_fill_the_room_and_no_more(cut: float) -> None:
    least = plan_resident(2_000_000, 100, 1000, WHOLE - 1, "a GPU").n_bytes
    room = int(cut * least)

    plan = plan_resident(2_000_000, 100, 1000, room, "a GPU")

    row = (least - plan.n_bytes) / ((1 << 20) - plan.chunk)
    assert (1 << 14) <= plan.chunk < (1 << 20)
    assert room - row < plan.n_bytes <= room


def test_without_room_for_a_chunk_the_error_has_the_numbers() -> None:
    # 47 bytes a row, 40 an entry of the centroids and 300 a cluster, 256 MiB, and 2^14 rows of 128 halves and 100 bytes
    need = 2_000_000 * 47 + 1000 * (100 * 40 + 300) + (256 << 20) + (1 << 14) * (2 * 128 + 100)

    with pytest.raises(DeviceMemoryError) as caught:
        plan_resident(2_000_000, 100, 1000, need - 1, "cuda:3")

    assert plan_resident(2_000_000, 100, 1000, need, "cuda:3") == ResidencyPlan(
        copied=False, chunk=1 << 14, n_bytes=need
    )
    assert str(caught.value) == (
        f"2000000 rows of 100 entries and 1000 clusters need {need / 2**20:,.0f} MiB besides the rows; cuda:3 has "
        f'{(need - 1) / 2**20:,.0f} MiB free. Free memory there, pass fewer rows, or device="cpu".'
    )


def test_few_rows_need_no_full_chunk() -> None:
    most = plan_resident(10, 100, 3, ANY, "a GPU").n_bytes
    small = plan_resident(10, 100, 3, most - 1, "a GPU").n_bytes

    assert plan_resident(10, 100, 3, small, "a GPU").copied
    with pytest.raises(DeviceMemoryError, match="10 rows of 100 entries and 3 clusters need 256 MiB"):
        plan_resident(10, 100, 3, small - 1, "a GPU")


def test_rows_to_be_labelled_once_take_half_of_the_room_at_most() -> None:
    row = 2 * 128 + 100

    assert rows_per_chunk(100, ANY) == 1 << 20
    assert rows_per_chunk(100, 2 * 100_000 * row) == 100_000
    assert rows_per_chunk(100, 0) == 1 << 14


def test_rows_fetched_at_once_begin_at_addresses_of_one_kind() -> None:
    assert rows_per_fetch(1200) == (128 << 20) // 1200 // 64 * 64
    assert rows_per_fetch(1 << 30) == 1 << 10


SMALL = Tuning(least_chunk=1 << 10, least_fetch=64, fetched=64 * 1200)
SHAPE = torch.Size([5000, 300])


def test_the_room_decides_which_way_rows_of_the_host_take() -> None:
    """Each way in turn as the room gets smaller, none of them larger than the room."""
    least = plan_resident(5000, 300, 7, plan_resident(5000, 300, 7, ANY, "").n_bytes - 1, "").n_bytes
    most, ways = least + 5000 * (1200 + 25), []
    for room in range(most + 1000, most - 5000 * 2200, -50_000):
        try:
            plan = plan_incoming(SHAPE, 1200, 7, room, "a GPU", SMALL)
        except DeviceMemoryError:
            ways.append("none")
            continue
        ways.append(("copy" if plan.copied else "chunks") + (" only" if plan.fetched else ""))
        assert plan.n_bytes + (0 if plan.fetched else 5000 * 1225) <= room

    assert list(dict.fromkeys(ways)) == ["copy", "chunks", "copy only", "chunks only", "none"]


@pytest.mark.parametrize("plan", [plan_resident, plan_incoming, plan_streamed])
def test_without_a_way_within_the_limit_the_error_names_it(plan: Any) -> None:
    shape = {plan_resident: (5000, 300, 7), plan_incoming: (SHAPE, 1200, 7), plan_streamed: (5000, 300, 7, 1200)}[plan]

    with pytest.raises(DeviceMemoryError) as caught:
        plan(*shape, 100 << 20, "cuda:3", SMALL, limit=120 << 20)

    assert "100 MiB" in str(caught.value)
    assert "free within device_memory_limit (120 MiB). Raise it, free memory there" in str(caught.value)


def test_rows_labelled_once_leave_no_copy() -> None:
    room = plan_streamed(5000, 300, 7, 1200, ANY, "", SMALL).n_bytes

    assert plan_streamed(5000, 300, 7, 1200, room, "", SMALL).copied
    assert not plan_streamed(5000, 300, 7, 1200, room, "", SMALL, keep=False).copied


def test_a_plan_that_is_given_is_taken_for_as_many_rows_as_there_are() -> None:
    given = Tuning(plan=ResidencyPlan(copied=True, chunk=24, fetched=10))

    assert plan_incoming(SHAPE, 1200, 7, 0, "", given) == given.plan
    assert plan_streamed(20, 300, 7, 1200, 0, "", given) == replace(given.plan, chunk=20)
    assert plan_resident(20, 300, 7, 0, "", given) == replace(given.plan, chunk=20)


# ------------------------------------------------------------------ in a session

# 40 bytes a row, 40 an entry of the centroids and 300 a cluster, 256 MiB; of 1024 rows at once 156 bytes each, their
# halves, and themselves twice
NEED = 5000 * 40 + 7 * (300 * 40 + 300) + (256 << 20) + 1024 * (156 + 2 * 320 + 8 + 32 + 2 * 1200)


def test_without_any_way_the_error_has_the_numbers_before_any_work() -> None:
    job = Job(on_host(directions(5000, 300)), unit(7, 300))
    with (
        pytest.raises(DeviceMemoryError) as caught,
        opened(job, gpu(small_upload=0, room=lambda device, enough: NEED - 1)),
    ):
        pytest.fail("entered")

    assert str(caught.value) == (
        f"5000 rows of 300 entries and 7 clusters need {NEED / 2**20:,.0f} MiB on cpu even if the rows stay on the "
        f"host; {(NEED - 1) / 2**20:,.0f} MiB are free. Free memory there, ask for fewer clusters, or pass "
        'device="cpu".'
    )
    with opened(job, gpu(small_upload=0, room=lambda device, enough: NEED)):
        pass


@pytest.mark.parametrize(
    ("copied", "words"), [(True, "their float16 copy is kept there"), (False, "they are sent there in every pass")]
)
def test_one_line_says_that_rows_stay_on_the_host(copied: bool, words: str) -> None:
    said: list[str] = []
    plan = ResidencyPlan(copied=copied, chunk=5000, fetched=5000)
    job = Job(on_host(directions(5000, 300)), unit(7, 300))

    with opened(job, gpu(plan=plan, room=lambda device, enough: 3 << 20), log=said.append):
        pass

    assert said == [f"the rows take 6 MiB and cpu has 3 MiB free: they stay on the host, {words}"]


TIGHT: dict[str, Any] = {"least_chunk": 8, "least_fetch": 4, "fetched": 4 * 256, "small_upload": 0}
JOB = Job(3.0 * directions(60, 64), unit(7, 64, 1), epochs=1)
EXPECTED = fit(JOB, ReferenceBackend())


def limits(least: int = 256 << 20, most: int = (256 << 20) + 120_000) -> dict[str, int]:
    """The largest limit for each way that rows of `JOB` take, by what is planned."""
    found: dict[str, int] = {}
    for limit in range(most, least, -8):
        try:
            plan = plan_incoming(JOB.x.shape, 256, 7, limit, "", Tuning(**TIGHT))
        except DeviceMemoryError:
            found.setdefault("none", limit)
            break
        assert plan.n_bytes + (0 if plan.fetched else 60 * (256 + OF_INSPECTED)) <= limit
        way = ("copy" if plan.copied else "chunks") + (" only" if plan.fetched else "")
        found.setdefault(way if not plan.cascade else "8 bits", limit)
    return found


LIMITS = limits()
WAYS = ["8 bits", "copy", "chunks", "copy only", "chunks only"]


def test_limits_lead_to_every_way() -> None:
    assert list(LIMITS) == [*WAYS, "none"]


@pytest.mark.parametrize("way", WAYS)
def test_within_a_limit_a_fit_has_the_bits_of_the_reference(way: str) -> None:
    backend = gpu(memory_limit=LIMITS[way], **TIGHT)

    with Started() as reading, opened(there(JOB), backend) as session:
        session.read()
        assert (session.rows.rows_device == session.device) is ("only" not in way)
        copied = "quantize_rows" in reading
        found = fit_in(session, JOB)
    assert copied is ("chunks" not in way)
    if "only" in way:
        assert {i.strategy for i in found.result.costs} == {FETCHED if copied else SENT}

    assert_same(found, EXPECTED)


def test_a_limit_too_small_is_an_error_before_any_work() -> None:
    for x in (on_host(JOB.x), JOB.x):
        job = Job(x, JOB.first)
        with (
            pytest.raises(DeviceMemoryError, match="within device_memory_limit"),
            Started() as started,
            opened(job, gpu(memory_limit=LIMITS["none"], **TIGHT)),
        ):
            pytest.fail("entered")
        assert started == []


@pytest.mark.parametrize("fits", [True, False])
def test_rows_on_the_device_leave_the_limit_to_what_is_kept_of_them(fits: bool) -> None:
    copied = plan_resident(60, 64, 7, ANY, "", Tuning(**TIGHT)).n_bytes + 60 * OF_INSPECTED
    for limit in (copied, copied - 30_000):
        with Started() as reading, opened(JOB, gpu(memory_limit=limit, **TIGHT), fit=fits) as session:
            session.read()
            assert ("quantize_rows" in reading) is (limit == copied)
            if fits:
                found = fit_in(session, JOB)
                assert_same(found, EXPECTED)


def test_nothing_is_begun_that_may_exceed_a_limit() -> None:
    """Without one, a backend begins what it had room for before it plans."""
    copied = plan_resident(60, 64, 7, ANY, "", Tuning(**TIGHT)).n_bytes + 60 * OF_INSPECTED
    room = [ANY]
    backend = gpu(memory_limit=copied, room=lambda device, enough: room[0], **TIGHT)
    for room[0], begun in ((ANY, True), (copied - 30_000, False)):
        with Started() as reading, opened(JOB, backend):
            pass
        assert ("quantize_rows" in reading) is begun


def test_rows_that_fit_are_sent_without_a_word() -> None:
    said: list[str] = []
    with opened(Job(on_host(directions(50, 30)), unit(7, 30)), gpu(), log=said.append):
        pass

    assert said == []

"""Numbers, each with its record; chips that are not in the table get what is safe; when 8 bits come first."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cosmeans.backends.gpu.kernels.screen import accumulation_error
from cosmeans.backends.gpu.tuning import (
    ADDERS,
    TILES,
    CascadeCosts,
    PrecisionPolicy,
    Tuning,
    adder_of,
    allocated_bytes,
    describe,
    free_bytes,
    tile_for,
)


@pytest.mark.parametrize(("table", "n_numbers"), [(Tuning, 17), (CascadeCosts, 10)])
def test_every_number_of_a_table_has_a_record(table: type, n_numbers: int) -> None:
    numbers = [each for each in fields(table) if "record" in each.metadata]

    assert len(numbers) == n_numbers
    assert all(each.metadata["record"] for each in numbers)
    assert all(each.name in table.__doc__ for each in numbers)


def test_what_is_in_use_is_what_the_allocator_says(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {}  # before the process has used a GPU
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda device: facts)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    device = torch.device("cuda", 0)

    assert (allocated_bytes(device), free_bytes(device)) == (0, 1000)
    facts |= {"reserved_bytes": {"all": {"current": 300}}, "allocated_bytes": {"all": {"current": 120}}}
    assert (allocated_bytes(device), free_bytes(device)) == (120, 1180)
    assert allocated_bytes(torch.device("cpu")) == 0


def test_every_row_says_what_justifies_it() -> None:
    assert all(row.record for row in (*TILES.values(), *ADDERS.values()))


@pytest.mark.parametrize("shared_memory", [0, 16 << 10, 48 << 10, 64 << 10, 100 << 10, 228 << 10])
def test_a_tile_of_an_unknown_chip_fits_in_its_shared_memory(shared_memory: int) -> None:
    tile = tile_for("sm_77", shared_memory)

    smallest = (tile.rows, tile.columns) == (16, 16)  # of which tensor cores make a product
    assert smallest or tile.stages * (tile.rows + tile.columns) * 64 * 2 <= shared_memory
    assert smallest is (shared_memory == 0)


@pytest.mark.parametrize(
    ("capability", "adder"),
    [
        ((7, 0), (4, 23)),
        ((8, 0), (8, 24)),
        ((8, 9), (8, 24)),
        ((9, 0), (16, 25)),
        ((10, 0), (16, 25)),
        ((7, 2), None),
        ((12, 0), None),
    ],
)
def test_adders_are_those_of_the_chip(
    capability: tuple[int, int], adder: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    found = adder_of(device)

    assert (found and (found.block, found.bits)) == adder
    allowed = 4 * 768 * 2.0**-24  # four times what IEEE float32 loses, where nothing is known
    assert (accumulation_error(768, device) == allowed) is (adder is None)
    assert 0 < accumulation_error(768, device) <= allowed


def test_an_amd_chip_has_no_adder_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.2")

    assert adder_of(torch.device("cuda", 0)) is None


def test_a_device_is_described_by_what_torch_knows_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(major=9, minor=0, shared_memory_per_block_optin=232448, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: known)

    assert describe(torch.device("cuda", 6)) == ("sm_90", 232448, 132)
    assert describe(torch.device("cpu"))[0] == "interpreter"


# ------------------------------------------------------------------------ 8 bits

FEW = torch.tensor([100, 100, 0, 0], dtype=torch.int32)  # rows that 8 bits leave open, of 100,000
MANY = torch.tensor([90_000, 10_000, 0, 0], dtype=torch.int32)
CLOSE = torch.tensor([0, 0, 6000, 6000], dtype=torch.int32)  # of 6,250 sampled in a float16 pass
APART = torch.tensor([0, 0, 10, 5], dtype=torch.int32)


def choices(*counts: torch.Tensor, passes: int = 6) -> list[bool]:
    """Whether each pass begins in 8 bits, if those that are asked about find these counts, one after another."""
    chosen, found, made = PrecisionPolicy(100_000, 768, 4096), iter(counts), []
    for _ in range(passes):
        made.append(chosen.next())
        if chosen.asks:
            chosen.note(next(found, counts[-1]).tolist, made[-1])
    return made


def test_float16_comes_first_and_8_bits_once_two_passes_ago_showed_that_they_pay() -> None:
    assert choices(APART, APART, FEW) == [False, False, True, True, True, True]


def test_where_scores_are_close_float16_stays() -> None:
    assert choices(CLOSE) == [False] * 6


def test_8_bits_that_did_not_pay_are_not_tried_again() -> None:
    made = choices(APART, APART, MANY, APART, passes=40)

    assert made[2]
    last = len(made) - made[::-1].index(True)
    assert last < 10
    assert not any(made[last:])


def test_passes_are_asked_about_less_and_less_often() -> None:
    chosen, asked = PrecisionPolicy(1000, 768, 100), []
    for number in range(1, 40):
        chosen.next()
        if chosen.asks:
            asked.append(number)
            chosen.note(APART.tolist, integers=False)

    assert asked == [1, 2, 4, 8, 16, 32]

"""Tables of chips: each row says what justifies it, and other devices get what is safe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cosmeans.backends.gpu.chips import ADDERS, TILES, adder_of, describe, tile_for
from cosmeans.backends.gpu.kernels.screen import accumulation_error


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

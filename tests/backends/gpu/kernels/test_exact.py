"""Division and fixed point without float64 units: the bits that float64 gives."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import divided, fixed_point_halves, rounded_sums, tile_offset, unit_row


@triton.jit
def _divide(values_ptr, norms_ptr, out_ptr, R: tl.constexpr, P: tl.constexpr):
    at = tl.arange(0, R)[:, None] * P + tl.arange(0, P)[None, :]
    tl.store(out_ptr + at, divided(tl.load(values_ptr + at), tl.load(norms_ptr + tl.arange(0, R))[:, None]))


@triton.jit
def _unit(values_ptr, norms_ptr, out_ptr, P: tl.constexpr):
    at = tl.program_id(0) * P + tl.arange(0, P)
    tl.store(out_ptr + at, unit_row(tl.load(values_ptr + at), tl.load(norms_ptr + tl.program_id(0))))


@triton.jit
def _fixed(values_ptr, high_ptr, low_ptr, power, P: tl.constexpr):
    at = tl.arange(0, P)
    high, low = fixed_point_halves(tl.load(values_ptr + at), power)
    tl.store(high_ptr + at, high)
    tl.store(low_ptr + at, low)


def quotients(values: Tensor, norms: Tensor) -> Tensor:
    """The truth: one division in float64, rounded to float32."""
    return (values.double() / norms[:, None]).float()


def divide(values: Tensor, norms: Tensor) -> Tensor:
    out = torch.full_like(values, torch.nan)
    _divide[(1,)](values, norms, out, R=len(values), P=values.shape[1])
    return out


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20, 1e-30, 1e30])
def test_quotients_have_the_bits_of_float64(scale: float) -> None:
    values = draw(8, 64) * scale
    norms = values.double().norm(dim=1)

    assert torch.equal(divide(values, norms), quotients(values, norms))


@pytest.mark.parametrize("off", [0.0, 1e-16, -1e-16, 1e-14, -1e-14, 1e-12, -1e-12])
def test_quotients_near_the_middle_of_two_float32(off: float) -> None:
    values = draw(64, 1).abs() + 1.0
    halves = 1.0 + (torch.arange(64).double()[:, None] * 131_071 + 0.5) * 2.0**-23
    norms = (values.double() / (halves * (1.0 + off)))[:, 0]

    assert torch.equal(divide(values, norms), quotients(values, norms))


@pytest.mark.parametrize("largest", [1.0, 1e-25, 3e38])
def test_unit_rows_round_off_what_is_below_the_smallest_normal_number(largest: float) -> None:
    values = (draw(8, 64) * torch.logspace(0, -20, 64) * largest).clamp(-3e38, 3e38)
    norms = values.double().norm(dim=1)
    out = torch.full_like(values, torch.nan)

    _unit[(8,)](values, norms, out, P=64)

    expected = quotients(values, norms)
    assert torch.equal(out, torch.where(expected.abs() < 2.0**-126, 0.0, expected))


def test_unit_rows_round_small_entries_right() -> None:
    values = torch.zeros(64, 64)
    values[:, 0] = 1.5
    values[:, 1:] = draw(64, 63) * 2.0**-120
    norms = values.double().norm(dim=1) + torch.linspace(0.0, 0.4, 64)
    out = torch.full_like(values, torch.nan)

    _unit[(64,)](values, norms, out, P=64)

    expected = quotients(values, norms)
    assert torch.equal(out, torch.where(expected.abs() < 2.0**-126, 0.0, expected))


@pytest.mark.parametrize("scale", [22, 23, 36, 40, 44])
def test_two_halves_make_the_fixed_point_of_float64(scale: int) -> None:
    odd = (2 * torch.arange(-512, 512) + 1).double()
    values = {
        "random": draw(1024),
        "small": draw(1024) * 1e-6,
        "tiny": draw(1024) * 2.0**-scale,
        "halves": (odd * 2.0 ** -(scale + 1)).float(),
        "halves next to a large part": (0.5 + odd * 2.0 ** -max(scale + 1, 24)).float(),
        "ends": torch.tensor([1.0, -1.0, 1.0 + 2.0**-20, -1.0 - 2.0**-20, 0.0, 2.0**-126, -(2.0**-21), 1.99]).repeat(
            128
        ),
    }
    for kind, x in values.items():
        x = x.clamp(-1.99, 1.99)
        high, low = torch.empty(1024, dtype=torch.int32), torch.empty(1024, dtype=torch.int32)

        _fixed[(1,)](x, high, low, 2.0**scale, P=1024)

        truth = torch.round(x.double() * 2.0**scale).to(torch.int64)
        assert torch.equal((high.to(torch.int64) << (scale - 21)) + low, truth), kind
        assert max(high.abs().max(), low.abs().max()) <= 1 << 22  # so that sums of a run fit in 32 bits


@triton.jit
def _rounded(values_ptr, out_ptr, P: tl.constexpr):
    at = tl.arange(0, P)
    tl.store(out_ptr + at, rounded_sums(tl.load(values_ptr + at)))


def test_sums_round_to_float64_and_then_to_float32() -> None:
    """Integers one below a tie of float32: float64 reaches the tie, which then goes to the even side."""
    power = torch.arange(30, 38).repeat_interleave(64)
    ties = (2 * torch.arange(64).repeat(8) + (1 << 24) + 1) << (power - 1)
    values = torch.cat([ties - 1, ties, ties + 1, 1 - ties])
    out = torch.full((2048,), torch.nan)

    _rounded[(1,)](values, out, P=2048)

    once = values.to(torch.float32)
    assert torch.equal(out, values.to(torch.float64).to(torch.float32))
    assert not torch.equal(out, once)  # as one conversion would give it


@triton.jit
def _offsets(out_ptr, width, ROWS: tl.constexpr, P: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr):
    row, feature = tl.arange(0, ROWS)[:, None], tl.arange(0, P)[None, :]
    tl.store(out_ptr + row * P + feature, tile_offset(row.to(tl.int64), feature, width, TILE, CHUNK))


@pytest.mark.parametrize("chunk", [8, 16], ids=["float16", "8 bits"])
@pytest.mark.parametrize("tile", [0, 64, 128])
def test_every_entry_has_an_offset_of_its_own_and_lines_of_a_tile_are_swizzled(tile: int, chunk: int) -> None:
    n, width = 256, 256
    out = torch.empty((n, width), dtype=torch.int64)

    _offsets[(1,)](out, width, ROWS=n, P=width, TILE=tile, CHUNK=chunk)

    assert torch.equal(out.flatten().sort().values, torch.arange(n * width))
    chunks = out.view(n, -1, chunk)
    assert (chunks.diff(dim=2) == 1).all()  # 16 bytes are contiguous
    if tile == 0:
        assert torch.equal(out, torch.arange(n * width).view(n, width))
    else:
        line = 8 * chunk
        for row in (0, 1, 7, 9, tile - 1, tile, n - 1):
            for feature in (0, chunk, line - 1, line, width - 1):
                start = (row // tile * (width // line) + feature // line) * tile * line + row % tile * line
                swizzled = (feature % line // chunk) ^ (row % 8)
                assert out[row, feature] == start + swizzled * chunk + feature % chunk

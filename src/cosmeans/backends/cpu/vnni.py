"""8-bit products and the decision in one loop, where the processor adds four products of bytes at once (AVX-512 VNNI).

torch's integer product pays for every row, however few columns there are, wants its rows copied together, and leaves
the products in memory. Here six rows at a time meet 64 columns in registers, rows are taken where they lie, and what
comes out is decided while it is in the nearest cache. Other processors use torch's product (`gemm.INT8`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from cosmeans.backends.cpu.decide import decide

_JIT = {"nogil": True, "cache": True, "error_model": "numpy"}
_ORDERLESS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "reassoc", "contract"}}
LOWEST = np.int32(-(2**31))
_LANES = 16  # int32 of a register
PANEL = 4 * _LANES  # columns: with six rows 24 sums, 4 registers of columns and one of a row, of 32
_ROWS = 6
_TILE = 96  # rows decided together, at most, and the bytes of their products: half of a second-level cache
_TILE_BYTES = 512 << 10
_MOST_FEATURES = 1 << 16  # 255 x 127 each: sums fit 32 bits
_INSTRUCTION = "llvm.x86.avx512.vpdpbusd.512"
_NEEDED = ("avx512f", "avx512bw", "avx512vnni")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether numba compiles for a processor with these instructions."""
    told: str | None = numba.config.CPU_FEATURES
    if told is None:
        features = binding.get_host_cpu_features()
        return all(features.get(name, False) for name in _NEEDED)
    return all(f"+{name}" in told.split(",") for name in _NEEDED)


def usable(n_features: int) -> bool:
    """Whether rows of so many features can be multiplied here: features are taken by four."""
    return n_features % 4 == 0 and n_features <= _MOST_FEATURES and available()


def panels(codes: np.ndarray) -> np.ndarray:
    """Columns (U, D) int8 as (P, D / 4, 64, 4) uint8, 128 more than they were, so that four of one come together."""
    size, n_features = codes.shape
    wide = np.zeros((-(-size // PANEL) * PANEL, n_features), np.int8)
    wide[:size] = codes
    unsigned = wide.view(np.uint8) ^ np.uint8(128)
    return np.ascontiguousarray(unsigned.reshape(-1, PANEL, n_features // 4, 4).transpose(0, 2, 1, 3))


def _tile(registers: int) -> Any:
    """A function that multiplies six rows by 16 * registers columns of a panel.

    codes   (., D) int8 with D = 4 steps; rows (6,) int64: which of them
    first   (6,) int32: what each sum begins with
    panel   (D / 4, 64, 4) uint8
    out     int32, contiguous: sums of row r go to out[r * stride:]
    """
    vector = ir.VectorType(ir.IntType(32), _LANES)
    long = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]
        codes, rows, first, panel, steps, out, stride = arrays
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32).as_pointer()
        multiply = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), _INSTRUCTION)

        def everywhere(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, ir.Constant(vector, [0] * _LANES))

        width = builder.mul(steps, long(4))
        at = [builder.load(builder.gep(rows, [long(r)])) for r in range(_ROWS)]
        starts = [builder.gep(builder.bitcast(codes, byte), [builder.mul(i, width)]) for i in at]
        begin = [everywhere(builder.load(builder.gep(first, [long(r)]))) for r in range(_ROWS)]
        before, loop, done = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(long)
        sums = [[builder.phi(vector) for _ in range(registers)] for _ in range(_ROWS)]
        place = builder.gep(builder.bitcast(panel, byte), [builder.mul(step, long(4 * PANEL))])
        columns = [
            builder.load(builder.bitcast(builder.gep(place, [long(4 * _LANES * c)]), vector.as_pointer()), align=1)
            for c in range(registers)
        ]
        four = builder.mul(step, long(4))
        added = []
        for r in range(_ROWS):
            entries = builder.load(builder.bitcast(builder.gep(starts[r], [four]), word), align=1)
            row = everywhere(entries)
            added.append([builder.call(multiply, [sums[r][c], columns[c], row]) for c in range(registers)])
        following = builder.add(step, long(1))
        step.add_incoming(long(0), before)
        step.add_incoming(following, loop)
        for r in range(_ROWS):
            for c in range(registers):
                sums[r][c].add_incoming(begin[r], before)
                sums[r][c].add_incoming(added[r][c], loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
        builder.position_at_end(done)
        for r in range(_ROWS):
            line = builder.gep(out, [builder.mul(stride, long(r))])
            for c in range(registers):
                target = builder.bitcast(builder.gep(line, [long(_LANES * c)]), vector.as_pointer())
                builder.store(added[r][c], target, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(context, codes, rows, first, panel, steps, out, stride):  # type: ignore[no-untyped-def]
        return types.void(codes, rows, first, panel, steps, out, stride), generate

    return tile


_one, _two, _three, _four = (_tile(registers) for registers in range(1, 5))


@njit(**_ORDERLESS)
def _sum(codes):
    total = np.int32(0)
    for d in range(codes.shape[0]):
        total += np.int32(codes[d])
    return total


@njit(**_JIT)
def multiply(codes, packed, which, width, values):
    """values (T, W) int32: products of rows codes[which] with the first `width` columns, exact; W and T have room.

    A panel stays in the nearest cache while all rows meet it. Its columns are 128 too large, so every sum begins
    with 128 times the sum of the row less.
    """
    steps, stride = np.int64(codes.shape[1] // 4), np.int64(values.shape[1])
    size = which.shape[0]
    first = np.empty(-(-size // _ROWS) * _ROWS, np.int32)
    at = np.empty(first.shape[0], np.int64)
    for g in range(first.shape[0]):
        at[g] = which[min(g, size - 1)]
        first[g] = np.int32(-128) * _sum(codes[at[g]])
    for p in range(-(-width // PANEL)):
        registers = -(-(width - p * PANEL) // _LANES)
        for g in range(0, size, _ROWS):
            out = values[g, p * PANEL :]
            if registers >= 4:
                _four(codes, at[g:], first[g:], packed[p], steps, out, stride)
            elif registers == 3:
                _three(codes, at[g:], first[g:], packed[p], steps, out, stride)
            elif registers == 2:
                _two(codes, at[g:], first[g:], packed[p], steps, out, stride)
            else:
                _one(codes, at[g:], first[g:], packed[p], steps, out, stride)


@njit(**_JIT)
def decide_products(
    codes, packed, width, which, rows, column, own, rest, screen, shifted, centroids, index, error, labels, bound,
    start, stop,
):  # fmt: skip
    """`decide` of rows which[start:stop] against the first `width` columns, tile by tile. Returns what it does."""
    padded = -(-width // _LANES) * _LANES
    tile = max(_ROWS, min(_TILE, _TILE_BYTES // (4 * padded)) // _ROWS * _ROWS)
    values = np.empty((tile, padded), np.int32)
    settled = dots = 0
    for first in range(start, stop, tile):
        part = which[first : min(first + tile, stop)]
        multiply(codes, packed, part, width, values)
        counts = decide(
            values, width, LOWEST, part, rows, column, own, rest, screen, shifted, centroids, index, error, labels,
            bound, 0, part.shape[0],
        )  # fmt: skip
        settled += counts[0]
        dots += counts[1]
    return settled, dots

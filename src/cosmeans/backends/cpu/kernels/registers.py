"""Products of six rows with some columns, summed in registers: LLVM's instructions, written out for numba.

numba has no vectors of its own, and no compiler finds these loops by itself. Which instructions there are is asked
of what numba compiles for, so that its settings count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

ROWS = 6
LINE = 16  # products come in multiples of so many columns
_WORD, _LONG = ir.IntType(32), ir.IntType(64)


@lru_cache(maxsize=8)
def has(*names: str, features: str | None = None) -> bool:
    """Whether a processor has all these features; features: of which one, None: of that which numba compiles for."""
    if features is None:
        features = getattr(numba.config, "CPU_FEATURES", None)
    if features is None:
        features = get_host_cpu_features()
    return all(f"+{name}" in features.split(",") for name in names)


@dataclass(frozen=True, slots=True)
class Kind:
    """How entries are multiplied.

    lanes    sums in a register
    element  LLVM's type of an entry, 4 bytes: one float32, or four 8-bit or two 16-bit integers in a word
    add      (builder, sums, columns, row) -> sums
    """

    lanes: int
    element: Any
    add: Callable[[Any, Any, Any, Any], Any]

    @property
    def vector(self) -> Any:
        return ir.VectorType(self.element, self.lanes)


def _add_floats(builder: Any, sums: Any, columns: Any, row: Any) -> Any:
    return _call(builder, f"llvm.fma.v{sums.type.count}f32", [columns, row, sums])


def _add_bytes(builder: Any, sums: Any, columns: Any, row: Any) -> Any:
    """Four products of an unsigned and a signed byte in each lane; nothing saturates."""
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", [sums, columns, row])


def _add_shorts(builder: Any, sums: Any, columns: Any, row: Any) -> Any:
    """Two products of 16-bit integers in each lane."""
    name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[sums.type.count]
    pairs = ir.VectorType(ir.IntType(16), 2 * sums.type.count)
    products = _call(builder, name, [builder.bitcast(columns, pairs), builder.bitcast(row, pairs)], sums.type)
    return builder.add(sums, products)


def _call(builder: Any, name: str, vectors: list[Any], result: Any = None) -> Any:
    kind = ir.FunctionType(result or vectors[0].type, [vector.type for vector in vectors])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), vectors)


BYTES = Kind(16, _WORD, _add_bytes)
SHORTS = {lanes: Kind(lanes, _WORD, _add_shorts) for lanes in (8, 16)}
FLOATS = {lanes: Kind(lanes, ir.FloatType(), _add_floats) for lanes in (8, 16)}


def tile(kind: Kind, columns: int, panel: int) -> Any:
    """A function for numba that multiplies six rows by the first columns of a panel.

    rows    entries of all rows, 4 bytes each; at (6,) int64: where each of the six begins, in entries
    first   (6,) what their sums begin with
    packed  (., panel) entries, one line after another; steps: how many
    out     sums of row r go to out[r * stride:]
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            context.make_array(of)(context, builder, value).data if isinstance(of, types.Array) else value
            for of, value in zip(signature.args, args, strict=True)
        ]
        _multiply(builder, kind, columns // kind.lanes, panel, *pointers)
        return context.get_dummy_value()

    @intrinsic
    def multiply(context, rows, at, first, packed, steps, out, stride):
        return types.void(rows, at, first, packed, steps, out, stride), generate

    return multiply


def _multiply(
    builder: Any, kind: Kind, registers: int, panel: int,
    rows: Any, at: Any, first: Any, packed: Any, steps: Any, out: Any, stride: Any,
) -> None:  # fmt: skip
    entry, vector = kind.element.as_pointer(), kind.vector

    def everywhere(value: Any) -> Any:
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _WORD(0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_WORD, kind.lanes), [0] * kind.lanes))

    def entry_at(pointer: Any, index: Any) -> Any:
        return builder.load(builder.gep(pointer, [index]), align=1)

    def lanes_at(pointer: Any, number: int) -> Any:
        return builder.bitcast(builder.gep(pointer, [_LONG(number * kind.lanes)]), vector.as_pointer())

    rows, packed = builder.bitcast(rows, entry), builder.bitcast(packed, entry)
    starts = [builder.gep(rows, [builder.load(builder.gep(at, [_LONG(r)]))]) for r in range(ROWS)]
    begin = [everywhere(builder.load(builder.gep(first, [_LONG(r)]))) for r in range(ROWS)]
    before, loop, done = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_LONG)
    sums = [[builder.phi(vector) for _ in range(registers)] for _ in range(ROWS)]
    line = builder.gep(packed, [builder.mul(step, _LONG(panel))])
    columns = [builder.load(lanes_at(line, c), align=4) for c in range(registers)]
    added = []
    for r in range(ROWS):
        row = everywhere(entry_at(starts[r], step))
        added.append([kind.add(builder, sums[r][c], columns[c], row) for c in range(registers)])
    following = builder.add(step, _LONG(1))
    step.add_incoming(_LONG(0), before)
    step.add_incoming(following, loop)
    for r in range(ROWS):
        for c in range(registers):
            sums[r][c].add_incoming(begin[r], before)
            sums[r][c].add_incoming(added[r][c], loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
    for r in range(ROWS):
        target = builder.gep(out, [builder.mul(stride, _LONG(r))])
        for c in range(registers):
            builder.store(added[r][c], lanes_at(target, c), align=4)

"""Canonical scores (eq. 4) in registers: one centroid with one row, or with a few at once.

The tree of eq. 1 adds entries that stand far apart first, so eight neighbouring entries can be added as a vector up to
the last three levels. With stride q = P / 16, entries i, i + q, i + 2 q ... of a row are the 16 leaves of a tree of
their own, which stays in registers; q / 8 such vectors are left for the levels that follow. Absent entries are zeros:
they change no bit but the sign of a zero, which eq. 4 takes away. Rows are float64 here, converted once for all
centroids; the fused multiply-add of an exact product rounds once, as the sum alone does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import registers
from cosmeans.backends.cpu.kernels.compiling import INNER, njit

LANES, LEAVES, FEW = 8, 16, 12
TOGETHER = 4 if registers.has("avx512f") else 2
"""Rows that meet a centroid at once."""
_SMALLEST_NORMAL = np.float32(sphere.SMALLEST_NORMAL)
_DOUBLE, _LONG = ir.DoubleType(), ir.IntType(64)
_VECTOR, _SINGLES = ir.VectorType(_DOUBLE, LANES), ir.VectorType(ir.FloatType(), LANES)


@register_jitable
def stride_of(n_features: int) -> int:
    """q: a sixteenth of the smallest power of two that holds all features, but 8 at least."""
    q = LANES
    while q * LEAVES < n_features:
        q *= 2
    return q


@register_jitable
def width_of(n_features: int) -> int:
    """Entries of a row as it is multiplied here: 12 or 16 strides (12 are enough for 384, 768 and 1536 features)."""
    q = stride_of(n_features)
    return (FEW if n_features <= FEW * q else LEAVES) * q


def ordered(centroids: np.ndarray) -> np.ndarray:
    """Centroids (K, D) float32 as they are multiplied: (K, W), the leaves of eight neighbours side by side."""
    size, n_features = centroids.shape
    q, width = stride_of(n_features), width_of(n_features)
    wide = np.zeros((size, width), np.float32)
    wide[:, :n_features] = centroids
    lines = wide.reshape(size, width // q, q // LANES, LANES)
    return np.ascontiguousarray(lines.transpose(0, 2, 1, 3)).reshape(size, width)


@njit(**INNER)
def clean(value):
    """Rule 1: below 2^-126 counts as +0.0."""
    return np.float32(0.0) if abs(value) < _SMALLEST_NORMAL else value


@intrinsic
def _widen_lanes(context, row, d, wide, at):
    """wide[at : at + 8] = clean(row[d : d + 8]). The compiler does not make vectors of a loop that says this."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, wide = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        values = builder.load(builder.bitcast(builder.gep(row, [args[1]]), _SINGLES.as_pointer()), align=4)
        kind = ir.FunctionType(_SINGLES, [_SINGLES])
        size = builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{LANES}f32"), [values])
        smallest, zero = (ir.Constant(_SINGLES, [number] * LANES) for number in (float(_SMALLEST_NORMAL), 0.0))
        values = builder.select(builder.fcmp_ordered("<", size, smallest), zero, values)
        into = builder.bitcast(builder.gep(wide, [args[3]]), _VECTOR.as_pointer())
        builder.store(builder.fpext(values, _VECTOR), into, align=8)
        return context.get_dummy_value()

    if any(array.layout != "C" for array in (row, wide)):
        return None  # a compile error: entries must be neighbours
    return types.void(row, d, wide, at), generate


@njit(**INNER)
def widen(row, q, wide, place, places):
    """A unit row (D,) float32, as stored, in float64: eight lanes of each of its leaves in turn, between other rows.

    wide (places W,): rows that are multiplied together, this one at `place`
    """
    at = place * LANES
    leaves = wide.shape[0] // (places * q)
    for i in range(0, q, LANES):
        for leaf in range(leaves):
            d = leaf * q + i
            if d + LANES <= row.shape[0]:
                _widen_lanes(row, d, wide, at)
            else:
                for lane in range(LANES):
                    wide[at + lane] = np.float64(clean(row[d + lane])) if d + lane < row.shape[0] else 0.0
            at += places * LANES


@njit(**INNER)
def order(centroid, q, ordered):
    """`ordered` of one centroid (D,) float32, in memory (W,) that held something else."""
    at = 0
    for i in range(0, q, LANES):
        for leaf in range(ordered.shape[0] // q):
            for lane in range(LANES):
                d = leaf * q + i + lane
                ordered[at + lane] = centroid[d] if d < centroid.shape[0] else np.float32(0.0)
            at += LANES


@njit(**INNER)
def room_for(rows, width):
    """Memory for the entries of rows that are multiplied together: vectors in it don't cross lines of the cache."""
    whole = np.empty(rows * width + LANES, np.float64)
    ahead = (-whole.ctypes.data // 8) % LANES
    return whole[ahead : ahead + rows * width]


def _scorer(rows: int) -> Any:
    """A function for numba: scores of `rows` rows with one centroid.

    wide      (rows W,) float64, as `widen` leaves them; centroid (W,) float32, of `ordered`
    q         stride; W / q leaves, 12 or 16
    room      (rows q,) float64, overwritten; out (rows,) float64
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            context.make_array(of)(context, builder, value).data if isinstance(of, types.Array) else value
            for of, value in zip(signature.args, args, strict=True)
        ]
        _Scores(builder, rows, *pointers).build()
        return context.get_dummy_value()

    @intrinsic
    def score(context, wide, centroid, q, leaves, room, out):
        return types.void(wide, centroid, q, leaves, room, out), generate

    return score


class _Scores:
    """Writes the instructions of `_scorer`."""

    def __init__(
        self, builder: Any, rows: int, wide: Any, centroid: Any, q: Any, leaves: Any, room: Any, out: Any
    ) -> None:
        self.builder, self.rows = builder, rows
        self.wide, self.centroid, self.room, self.out = wide, centroid, room, out
        self.q, self.leaves = q, leaves

    def build(self) -> None:
        builder = self.builder
        with builder.if_else(builder.icmp_signed("<=", self.leaves, _LONG(FEW))) as (few, many):
            with few:
                self._first_levels(FEW)
            with many:
                self._first_levels(LEAVES)
        self._middle_levels()
        for r in range(self.rows):
            builder.store(self._last_levels(self._room(r, _LONG(0))), builder.gep(self.out, [_LONG(r)]))

    def _first_levels(self, leaves: int) -> None:
        """Four levels of the tree for every vector of eight neighbours."""
        builder = self.builder
        with cgutils.for_range_slice(builder, _LONG(0), self.q, _LONG(LANES), intp=_LONG) as (i, _):
            at = builder.mul(i, _LONG(leaves))
            self._columns = builder.gep(self.centroid, [at])
            self._rows = builder.gep(self.wide, [builder.mul(at, _LONG(self.rows))])
            for r, total in enumerate(self._node(0, 1, leaves)):
                builder.store(total, self._room_pointer(r, i), align=8)

    def _node(self, leaf: int, step: int, leaves: int) -> list[Any]:
        """Sum of the leaves `leaf`, leaf + step, ... of every row; the halves are added last."""
        if step == LEAVES // 2:
            sums = self._products(leaf, None)
            return self._products(leaf + step, sums) if leaf + step < leaves else sums
        left, right = (self._node(first, 2 * step, leaves) for first in (leaf, leaf + step))
        return [self.builder.fadd(a, b) for a, b in zip(left, right, strict=True)]

    def _products(self, leaf: int, added: list[Any] | None) -> list[Any]:
        """Those of one leaf, added to others."""
        builder = self.builder
        place = builder.gep(self._columns, [_LONG(leaf * LANES)])
        column = builder.load(builder.bitcast(place, _SINGLES.as_pointer()), align=4)
        column = builder.fpext(column, _VECTOR)
        found = []
        for r in range(self.rows):
            place = builder.gep(self._rows, [_LONG((leaf * self.rows + r) * LANES)])
            row = builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=8)
            if added is None:
                found.append(builder.fmul(row, column))
            else:
                kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
                fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f64")
                found.append(builder.call(fused, [row, column, added[r]]))
        return found

    def _middle_levels(self) -> None:
        """Halve the vectors in `room` until one of each row is left."""
        builder = self.builder
        size = cgutils.alloca_once_value(builder, self.q)
        with _while(builder, lambda: builder.icmp_signed(">", builder.load(size), _LONG(LANES))):
            half = builder.lshr(builder.load(size), _LONG(1))
            builder.store(half, size)
            with cgutils.for_range_slice(builder, _LONG(0), half, _LONG(LANES), intp=_LONG) as (i, _):
                for r in range(self.rows):
                    total = builder.fadd(self._room(r, i), self._room(r, builder.add(i, half)))
                    builder.store(total, self._room_pointer(r, i), align=8)

    def _last_levels(self, values: Any) -> Any:
        """The sum of eight lanes, those four, two and one apart; and + 0.0, so that no zero has a sign."""
        builder = self.builder
        for half in (4, 2, 1):
            kind = ir.VectorType(ir.IntType(32), half)
            parts = [
                builder.shuffle_vector(values, values, ir.Constant(kind, list(range(start, start + half))))
                for start in (0, half)
            ]
            values = builder.fadd(*parts)
        return builder.fadd(builder.extract_element(values, ir.IntType(32)(0)), _DOUBLE(0.0))

    def _room_pointer(self, r: int, i: Any) -> Any:
        builder = self.builder
        at = builder.add(i, builder.mul(self.q, _LONG(r)))
        return builder.bitcast(builder.gep(self.room, [at]), _VECTOR.as_pointer())

    def _room(self, r: int, i: Any) -> Any:
        return self.builder.load(self._room_pointer(r, i), align=8)


class _while:
    """A loop as a block of `with`."""

    def __init__(self, builder: Any, condition: Any) -> None:
        self.builder, self.condition = builder, condition

    def __enter__(self) -> None:
        builder = self.builder
        self.head, body, self.end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(self.head)
        builder.position_at_end(self.head)
        builder.cbranch(self.condition(), body, self.end)
        builder.position_at_end(body)

    def __exit__(self, *_: object) -> None:
        self.builder.branch(self.head)
        self.builder.position_at_end(self.end)


score_one = _scorer(1)
score_some = _scorer(TOGETHER)

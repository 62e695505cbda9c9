"""Run as a program, outside Triton's interpreter: every kernel is compiled for two chips, none is started.

Where the backend would start a kernel, its arguments are described and the kernel is compiled for sm_80 and sm_90;
what it would have written stays as it was. Prints the names of the kernels.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

_TYPES = {
    **{torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"},
    **{torch.bool: "i1", torch.int8: "i8", torch.int32: "i32", torch.int64: "i64"},
}
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
compiled: dict[str, set[object]] = {}


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _compile(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    named = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
    constants = {p.name: named[p.name] for p in self.params if p.is_constexpr}
    signature = {name: "constexpr" if name in constants else _described(named[name]) for name in self.arg_names}
    key = (tuple(signature.items()), tuple(constants.items()), tuple(options.items()))
    if key in compiled.setdefault(self.fn.__name__, set()):
        return
    compiled[self.fn.__name__].add(key)
    places = {(self.arg_names.index(name),): value for name, value in constants.items()}
    for chip in (80, 90):
        source = ASTSource(self, signature, constexprs=places)
        triton.compile(source, target=GPUTarget("cuda", chip, 32), options=options)


JITFunction.run = _compile


from cosmeans import sphere  # noqa: E402
from cosmeans.backends.gpu.backend import GpuBackend  # noqa: E402
from cosmeans.backends.gpu.kernels import scores  # noqa: E402
from cosmeans.backends.gpu.kernels.assign import Screens  # noqa: E402
from cosmeans.backends.gpu.kernels.norms import inspect_rows, queue_lengths, squared_norms  # noqa: E402
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, quantize_rows  # noqa: E402
from cosmeans.backends.gpu.kernels.screen_hopper import ROW_TILE  # noqa: E402
from cosmeans.backends.gpu.rows.ingest import PrefetchedLabels  # noqa: E402
from cosmeans.backends.gpu.rows.memory import FitState  # noqa: E402
from cosmeans.backends.gpu.rows.resident import ResidentRows  # noqa: E402
from cosmeans.data import Batch, ClusterSums  # noqa: E402


def visit(dtype: torch.dtype, n: int, d: int, k: int, *, integers: bool, scaled: bool, weighted: bool) -> None:
    """One pass over rows of this kind."""
    cpu = torch.device("cpu")
    screens = Screens(cpu, "portable")
    resident = ResidentRows(GpuBackend(cpu).state, screens, integers)
    rows = torch.randn(n, d).to(dtype)
    norms = torch.full((n,), 2.0, dtype=torch.float64) if scaled else None
    keep = torch.ones(n, dtype=torch.bool) if scaled else None
    weights = torch.ones(n, dtype=torch.float64) if weighted else None
    batch, centroids = Batch(0, rows, norms, keep, weights), sphere.normalise(torch.randn(k, d))
    labels = torch.zeros(n, dtype=torch.int32)
    sums, ring = ClusterSums.zeros(k, d, 35, "cpu"), FitState.for_replay(n, k, d, 35, cpu).ring
    squared = squared_norms(rows)
    divisors, found = queue_lengths(squared)
    resident.assign(batch, resident.columns(centroids, integers), labels)
    resident.accumulate(batch, labels - 1, labels, sums)
    resident.update(sums, centroids, n, 0, 0), resident.update(sums, centroids, n, 0, 0, ring)
    (
        scores.own_scores(batch, centroids, labels),
        scores.inertia_limbs(scores.own_chords(batch, centroids, labels)[1], weights),
        scores.improve(batch, centroids[0], torch.zeros(n).double()),
    )
    prefetched = PrefetchedLabels(centroids, n, resident.workspace, screens)
    prefetched.label(Batch(0, rows, divisors), resident.workspace.chunk(n, d, 0), found)
    prefetched.are_under(centroids)
    for copy in (QuantizedRows.empty(n, d, tile, cpu, integers=integers) for tile in (0, ROW_TILE)):
        quantize_rows(batch, copy, 0), inspect_rows(rows, squared, copy, 0)


for kind in (torch.float32, torch.float16):
    visit(kind, 70, 100, 7, integers=False, scaled=False, weighted=False)
visit(torch.bfloat16, 70, 768, 300, integers=False, scaled=True, weighted=True)
visit(torch.float32, 70, 100, 7, integers=True, scaled=False, weighted=False)
sys.stdout.write(" ".join(sorted(compiled)))

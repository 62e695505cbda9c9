"""Everything that a session starts is among what was compiled before, by the keys that Triton compiles for.

What a session has compiled it says to the compiler that it is given; what it starts, the interpreter is told.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.backends.compiler import BaseBackend
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction, create_function_from_signature

from backends.gpu.standins import KEEP, Event, Graphs, Job, fit, on_host, opened, unit
from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.launch import noted_launches
from cosmeans.backends.gpu.kernels.norms import queue_lengths
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.screen import Errors
from cosmeans.backends.gpu.kernels.screen_hopper import Shape
from cosmeans.backends.gpu.rows.precompile import precompile
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.tuning import DEFAULT, Tuning
from cosmeans.data import Batch, ClusterSums, Task

CPU = torch.device("cpu")
Key = tuple[str, str, str]

# D, K, entries, whether rows have lengths of their own, whether they have weights
CASES = [
    (64, 7, torch.float32, False, False),
    (96, 8, torch.float16, True, False),
    (128, 5, torch.bfloat16, False, True),
    (200, 16, torch.float32, True, True),
    (37, 3, torch.float16, False, False),
    (384, 4, torch.float16, False, False),
    (768, 6, torch.float32, True, False),
    (1024, 2, torch.bfloat16, True, True),
    (1, 1, torch.float32, False, False),
]


def key(interpreted: InterpretedFunction, arguments: tuple[Any, ...], options: dict[str, Any]) -> Key:
    """What Triton tells this launch apart by."""
    jit = JITFunction(interpreted.fn, do_not_specialize=interpreted.kwargs.get("do_not_specialize"))
    binder = create_function_from_signature(jit.signature, jit.params, BaseBackend)
    _, specialization, chosen = binder(*arguments, **options)
    return jit.__name__, str(specialization), str(sorted(chosen.items()))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> set[Key]:
    """The keys of what is started from here on."""
    keys: set[Key] = set()
    run = InterpretedFunction.run

    def telling(self: InterpretedFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        keys.add(key(self, arguments, options))
        return run(self, *arguments, grid=grid, warmup=warmup, **options)

    monkeypatch.setattr(InterpretedFunction, "run", telling)
    return keys


class Compiler:
    """The keys of what is compiled ahead, and for which screens."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.shapes: list[Shape | None] = []

    def __call__(self, launches: list[Any], shape: Shape | None) -> None:
        self.keys |= {key(launch.kernel, launch.arguments, launch.constants) for launch in launches}
        self.shapes.append(shape)

    def assert_foresaw(self, started: set[Key]) -> None:
        assert started - self.keys == set()
        # and nothing in vain: all kernels are started, if not with each of the kinds of lengths that rows may have
        assert {name for name, *_ in self.keys} == {name for name, *_ in started}


def job(d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, n: int = 9) -> Job:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    rows = (3.0 * x if scaled else torch.nn.functional.normalize(x)).to(dtype)
    weights = torch.linspace(0.5, 2.5, n, dtype=torch.float64) if weighted else None
    return Job(rows, unit(k, d, 1), 2, KEEP, weights)


def backend(
    compiler: Compiler, screen: str | Screens = "auto", integers: bool | None = None, **tuning: Any
) -> GpuBackend:
    return GpuBackend("cpu", screen, integers, Tuning(compile=compiler, programs=1, **tuning))


@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), CASES)
def test_a_fit_starts_what_was_foreseen(
    d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, started: set[Key]
) -> None:
    compiler, what = Compiler(), job(d, k, dtype, scaled, weighted)

    fit(what, backend(compiler), what.first, scored=True)

    compiler.assert_foresaw(started)
    assert len(compiler.shapes) == 1


class Swizzled(Screens):
    """Copies as the Hopper screen reads them; in its place, one that proves nothing."""

    def shape(self, n_clusters: int, n_features: int, integers: bool = False) -> Shape | None:
        return screen_hopper.shape_for(n_clusters, n_features, integers)

    expected = shape

    def screen(self, copy: Any, start: int, centroids: Any, labels: Tensor, listed: Any, *_: Any, **__: Any) -> Errors:
        listed.rows[: len(labels)] = torch.arange(len(labels), dtype=torch.int32)
        listed.scores[: len(labels)] = float("-inf")
        listed.counts[0] = len(labels)
        labels.zero_()
        return Errors(0.0, 0.0)


@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), CASES[1:8:2])
def test_a_fit_on_hopper_starts_what_was_foreseen(
    d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, started: set[Key]
) -> None:
    compiler, what = Compiler(), job(d, k, dtype, scaled, weighted)

    fit(what, backend(compiler, Swizzled(CPU, "auto"), integers=False), scored=True)

    assert not started - compiler.keys
    assert compiler.shapes[0] == screen_hopper.shape_for(k, d)


@pytest.mark.parametrize("k", [511, 512, 513, 3000])
def test_what_many_clusters_start_was_foreseen(k: int) -> None:
    """Noted like what is foreseen: the interpreter would take minutes."""
    compiler, x, screens = Compiler(), unit(9, 64), Screens(CPU, "auto")
    state = DeviceState(CPU, Tuning(compile=compiler))
    precompile(x, Task(k), screens, state, inspects=True)
    rows = ResidentRows(state, screens, None)
    rows.copy = QuantizedRows.empty(9, 64, 0, CPU)
    batch, labels, sums = Batch(0, x), torch.zeros(9, dtype=torch.int32), ClusterSums.zeros(k, 64, 35, "cpu")
    number, centroids = torch.zeros(1, dtype=torch.int32), torch.zeros(k, 64)

    with noted_launches() as launches:
        rows.assign(batch, rows.columns(centroids, integers=False), labels)
        rows.accumulate(batch, labels, labels, sums)
        rows.update(sums, centroids, 9, number, number)

    assert not {key(each.kernel, each.arguments, each.constants) for each in launches} - compiler.keys


@pytest.mark.parametrize("offset", [0, 1, 8])
def test_rows_between_others_are_foreseen_as_they_are(offset: int, started: set[Key]) -> None:
    compiler, what = Compiler(), job(100, 3, torch.float16, scaled=False, weighted=False)

    what = replace(what, x=what.x[:, offset : offset + 60], first=unit(3, 60))
    fit(what, backend(compiler), what.first, scored=True)

    compiler.assert_foresaw(started)


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["in spans", "in one piece"])
def test_rows_of_the_host_are_foreseen_as_they_will_be(small: int, started: set[Key]) -> None:
    compiler, what = Compiler(), job(100, 3, torch.float32, scaled=True, weighted=False)

    fit(
        replace(what, x=on_host(what.x)),
        backend(compiler, small_upload=small),
        what.first,
        scored=True,
    )

    compiler.assert_foresaw(started)


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "in place"])
@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), [CASES[0], CASES[3], CASES[-1]])
def test_a_captured_fit_starts_what_was_foreseen(
    d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, pooled: bool, started: set[Key]
) -> None:
    compiler, what = Compiler(), job(d + 3, k, dtype, scaled, weighted)
    what = replace(what, x=what.x[:, :d], first=unit(k, d))
    replays = {"graph": Graphs(), "event": Event, "most_pooled": 1 << 40 if pooled else 0}

    fit(what, backend(compiler, **replays), scored=True)

    assert replays["graph"].replayed
    compiler.assert_foresaw(started)


@pytest.mark.parametrize("scaled", [False, True])
def test_passes_in_8_bits_start_what_was_foreseen(scaled: bool, started: set[Key]) -> None:
    compiler = Compiler()

    what = job(200, 5, torch.float32, scaled=scaled, weighted=False)
    fit(what, backend(compiler, integers=True), what.first, scored=True)

    compiler.assert_foresaw(started)
    assert len(compiler.shapes) == 2  # what all passes start, and what those in 8 bits start besides


def test_rows_labelled_once_are_foreseen_without_sums(started: set[Key]) -> None:
    compiler, what = Compiler(), job(64, 7, torch.float32, scaled=True, weighted=False)
    with opened(what, backend(compiler), fit=False) as session:
        session.read()
        session.assign(what.first)

    assert not started - compiler.keys
    assert not any("events" in name for name, *_ in compiler.keys)


def test_nothing_is_started_or_read_while_launches_are_noted() -> None:
    squared = torch.full((3,), 4.0, dtype=torch.float64)
    with noted_launches() as launches:
        _, found = queue_lengths(squared)

    assert len(launches) == 1
    assert found.tolist() == [0, 0]
    assert queue_lengths(squared)[1].tolist() == [1, 0]


def test_each_kind_of_fit_is_compiled_once() -> None:
    compiler, screens = Compiler(), Swizzled(CPU, "auto")
    state, x = DeviceState(CPU, Tuning(compile=compiler)), unit(12, 64)
    task = Task(3)

    for rows in (x, x, x[:5], x[:0]):  # as many as there are, but none at all
        precompile(rows, task, screens, state, inspects=True)
    assert compiler.shapes == [screen_hopper.shape_for(3, 64)]

    for rows in (x.half(), x[:, 1:], x[:, :60], x[::2]):
        precompile(rows, task, screens, state, inspects=True)
    for other in (Task(4), Task(3, fit=False), Task(3, weights=torch.ones(12).double())):
        precompile(x, other, screens, state, inspects=True)
    precompile(x, task, screens, state, inspects=False)
    assert len(compiler.shapes) == 9


def test_without_a_gpu_nothing_is_compiled_ahead() -> None:
    """Nor looked at: rows that nothing can be asked of go through."""
    precompile(
        torch.empty(9, 20, device="meta"), Task(3), Screens(CPU, "auto"), DeviceState(CPU, DEFAULT), inspects=True
    )


def test_no_launch_compiles_what_was_compiled_ahead() -> None:
    """Outside the interpreter, with Triton's own compiler and threads, and a driver that starts nothing."""
    program = Path(__file__).with_name("precompiling.py")

    found = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.split() == ["warm", "quick", "late:", "failed:", "_divisors"]

"""Everything that a fit starts is among what the warm-up before it compiles, by the keys that Triton compiles for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.backends.compiler import BaseBackend
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction, create_function_from_signature

from cosmeans import lloyd, sphere
from cosmeans.backends.gpu import receiving, record, warmup
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.launch import noting
from cosmeans.backends.gpu.kernels.norms import start_lengths
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.screen_hopper import Shape
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.backends.gpu.warmup import Kind, _twin, of_fit, of_ladder
from cosmeans.data import Batch, ClusterSums, Coming
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.rows.memory import MemoryRows

Key = tuple[str, str, str]
WITH_NORMS = {"_settle", "_add_events", "_own_scores", "_copy_rows"}  # compiled with norms and without

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


def noted(launches: list[Any]) -> set[Key]:
    return {key(launch.kernel, launch.arguments, launch.constants) for launch in launches}


def rows_of(n: int, d: int, dtype: torch.dtype, scaled: bool) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return (3.0 * x if scaled else torch.nn.functional.normalize(x)).to(dtype)


def fit(x: Tensor, k: int, backend: HostRowsBackend, weighted: bool) -> None:
    """As the estimator fits rows."""
    send = {"say": lambda *_: None, "progress": lambda *_: None}
    sent = x
    if x.device == backend.device:
        backend.expect(x, Coming(k, True))
    else:
        sent = backend.receive(x, Coming(k, True), **send).rows
    weights = torch.linspace(0.5, 2.5, len(x), dtype=torch.float64).numpy() if weighted else None
    functions = {"squared_norms": backend.squared_norms, "lengths": backend.lengths}
    rows = MemoryRows(sent, **functions, device=backend.device, sample_weight=weights)
    first = sphere.normalise(torch.randn(k, x.shape[1], generator=torch.Generator().manual_seed(1)))
    options = FitOptions(n_clusters=k, epochs=2, empty_clusters="keep")
    result = lloyd.fit(rows, first, options, backend, Alone(), Silent())
    lloyd.own_chords(rows, result.centroids, result.labels, backend)


def assert_foreseen(started: set[Key], foreseen: set[Key]) -> None:
    assert not started - foreseen
    # and nothing in vain, but for what depends on the lengths
    assert {name for name, *_ in foreseen - started} <= WITH_NORMS


@pytest.fixture
def swizzled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies as the Hopper screen reads them; in its place, one that proves nothing."""

    def prove_nothing(shape: Shape, copy: Any, start: int, centroids: Any, labels: Tensor, *others: Any) -> None:
        doubtful = others[0]
        doubtful.rows[: len(labels)] = torch.arange(len(labels), dtype=torch.int32)
        doubtful.scores[: len(labels)] = float("-inf")
        doubtful.counts[0] = len(labels)
        labels.zero_()

    monkeypatch.setattr(Screens, "_choose", lambda *_: True)
    monkeypatch.setattr(GpuBackend, "_climbs", lambda *_: False)
    monkeypatch.setattr(screen_hopper, "screen", prove_nothing)


@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), CASES)
def test_a_fit_starts_what_was_foreseen(
    d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, started: set[Key]
) -> None:
    x, backend = rows_of(9, d, dtype, scaled), HostRowsBackend("cpu")
    backend._programs = 1  # the interpreter runs programs in turn

    fit(x, k, backend, weighted)

    kind = Kind(k, fit=True, inspects=True, moved=False, recorded=False, weighted=weighted)
    assert_foreseen(started, noted(of_fit(_twin(x), kind, None, backend._screens)))


@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), CASES[1:8:2])
def test_a_fit_on_hopper_starts_what_was_foreseen(
    d: int, k: int, dtype: torch.dtype, scaled: bool, weighted: bool, started: set[Key], swizzled: None
) -> None:
    x, backend = rows_of(9, d, dtype, scaled), HostRowsBackend("cpu")
    backend._programs = 1

    fit(x, k, backend, weighted)

    kind = Kind(k, fit=True, inspects=True, moved=False, recorded=False, weighted=weighted)
    assert_foreseen(started, noted(of_fit(_twin(x), kind, backend._screens.shape(k, d), backend._screens)))


@pytest.mark.parametrize("k", [511, 512, 513, 3000])
def test_what_many_clusters_start_was_foreseen(k: int) -> None:
    """Noted like what is foreseen: the interpreter would take minutes."""
    x, backend = rows_of(9, 64, torch.float32, False), HostRowsBackend("cpu")
    batch, labels, sums = Batch(0, x), torch.zeros(9, dtype=torch.int32), ClusterSums.zeros(k, 64, 35, "cpu")
    number, centroids = torch.zeros(1, dtype=torch.int32), torch.zeros(k, 64)
    backend._resident = Copy.empty(9, 64, 0, False, x.device)

    with noting() as launches:
        backend.assign(batch, backend.prepare(centroids), labels)
        backend.accumulate(batch, labels, labels, sums)
        backend.update(sums, centroids, 9, number, number)

    kind = Kind(k, fit=True, inspects=True, moved=False, recorded=False, weighted=False)
    assert not noted(launches) - noted(of_fit(_twin(x), kind, None, backend._screens))


@pytest.mark.parametrize("offset", [0, 1, 8])
def test_rows_between_others_are_foreseen_as_they_lie(offset: int, started: set[Key]) -> None:
    x, backend = rows_of(9, 100, torch.float16, False)[:, offset : offset + 60], HostRowsBackend("cpu")
    backend._programs = 1

    fit(x, 3, backend, False)

    kind = Kind(3, fit=True, inspects=True, moved=False, recorded=False, weighted=False)
    assert_foreseen(started, noted(of_fit(_twin(x), kind, None, backend._screens)))


@pytest.mark.parametrize("at_once", [False, True])
def test_rows_of_the_host_are_foreseen_as_they_will_lie(
    at_once: bool, started: set[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, backend = rows_of(9, 100, torch.float32, False), HostRowsBackend("cpu:0")  # not where the rows lie
    backend._programs = 1
    if not at_once:
        monkeypatch.setattr(receiving, "_SMALL", 0)

    fit(x, 3, backend, False)

    kind = Kind(3, fit=True, inspects=not at_once, moved=False, recorded=False, weighted=False)
    # rows on a device that only looks like another one are not settled where they lie
    assert not started - noted(of_fit(_twin(x), kind, None, backend._screens))


@pytest.mark.parametrize(("d", "k", "dtype", "scaled", "weighted"), [*CASES[:4], CASES[-1]])
def test_a_fit_at_a_desk_starts_what_was_foreseen(
    d: int,
    k: int,
    dtype: torch.dtype,
    scaled: bool,
    weighted: bool,
    started: set[Key],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, backend = rows_of(9, d + 3, dtype, scaled)[:, :d], HostRowsBackend("cpu")
    backend._programs = 1
    monkeypatch.setattr(record, "can_record", lambda device: True)
    backend.expect(x, Coming(k, True))
    weights = torch.linspace(0.5, 2.5, 9, dtype=torch.float64).numpy() if weighted else None
    functions = {"squared_norms": backend.squared_norms, "lengths": backend.lengths}
    rows = MemoryRows(x, **functions, sample_weight=weights)
    centroids = sphere.normalise(torch.randn(k, d, generator=torch.Generator().manual_seed(1)))
    backend.begin(rows)
    loan = backend.lend(rows, centroids)
    assert loan is not None

    for places in (None, backend._standing.places):  # an epoch, and one that is recorded
        backend._places = places
        (batch,) = loan.rows.batches()
        assignment = backend.assign(batch, backend.prepare(centroids), loan.labels)
        changed = backend.accumulate(batch, loan.labels, assignment.labels, loan.sums)
        backend.update(loan.sums, centroids, rows.total, changed, assignment.settled)
    lloyd.own_chords(rows, centroids, assignment.labels.clone(), backend)

    kind = Kind(k, fit=True, inspects=False, moved=True, recorded=True, weighted=weighted)
    assert_foreseen(started, noted(of_fit(_twin(x), kind, None, backend._screens)))


@pytest.mark.parametrize("scaled", [False, True])
def test_passes_in_8_bits_start_what_was_foreseen(scaled: bool, started: set[Key]) -> None:
    x, k = rows_of(9, 200, torch.float32, scaled), 5
    backend = GpuBackend("cpu", integers=True)
    backend._programs = 1
    rows = MemoryRows(x, squared_norms=backend.squared_norms, lengths=backend.lengths)
    backend.begin(rows)
    (batch,) = rows.batches()
    centroids = sphere.normalise(torch.randn(k, 200, generator=torch.Generator().manual_seed(1)))
    backend._ready(k, 200)
    started.clear()

    backend.assign(batch, backend.prepare(centroids), torch.zeros(9, dtype=torch.int32))

    foreseen = noted(of_ladder(batch, k, None, backend._screens))
    passes = {"_fingerprint", "_first_of_equals", "_write_columns", "_candidates", "_settle"}
    assert {found for found in started if found[0] not in passes} <= foreseen
    assert {found for found in foreseen if found[0] not in passes} <= started


def test_nothing_is_started_or_read_while_launches_are_noted() -> None:
    squared = torch.ones(3, dtype=torch.float64)
    with noting() as launches:
        _, found = start_lengths(torch.full_like(squared, 4.0))

    assert [launch.kernel.fn.__name__ for launch in launches] == ["_lengths"]
    assert found.tolist() == [0, 0]
    assert start_lengths(torch.full_like(squared, 4.0))[1].tolist() == [1, 0]


def test_without_a_gpu_nothing_is_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "_start", lambda *_: pytest.fail("started"))

    fit(rows_of(9, 20, torch.float32, False), 3, HostRowsBackend("cpu"), False)


@pytest.fixture
def warmed(monkeypatch: pytest.MonkeyPatch) -> list[Shape | None]:
    """A GPU that is none: the shapes for which kernels are compiled."""
    shapes: list[Shape | None] = []
    monkeypatch.setattr(warmup, "_start", lambda launches, shape: shapes.append(shape))
    monkeypatch.setattr(warmup, "_known", set())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(Screens, "expected", lambda self, k, d, integers=False: screen_hopper.shape_for(k, d, integers))
    return shapes


def test_each_kind_of_fit_is_warmed_up_once(warmed: list[Shape | None], monkeypatch: pytest.MonkeyPatch) -> None:
    screens = Screens(torch.device("cpu"), "auto")
    monkeypatch.setattr(screens, "device", torch.device("cuda"))
    monkeypatch.setattr(record, "most_waiting", lambda _: 1 << 30)
    x = rows_of(12, 64, torch.float32, False)
    kinds = {"fit": True, "inspects": True, "weighted": False}

    for rows in (x, x, x[:5], x[:0]):  # as many as there are, but none at all
        warmup.warm_up(rows, 3, screens, **kinds)
    assert warmed == [screen_hopper.shape_for(3, 64)]

    for rows in (x.half(), x[:, 1:], x[:, :60], x[::2]):
        warmup.warm_up(rows, 3, screens, **kinds)
    warmup.warm_up(x, 4, screens, **kinds)
    for name in kinds:
        warmup.warm_up(x, 3, screens, **{**kinds, name: not kinds[name]})
    assert len(warmed) == 9


def test_no_launch_compiles_what_was_warmed_up() -> None:
    """Outside the interpreter, with Triton's own compiler and threads, and a driver that starts nothing."""
    program = Path(__file__).with_name("warming.py")

    found = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.split() == ["warm", "quick", "late:", "failed:", "_lengths"]

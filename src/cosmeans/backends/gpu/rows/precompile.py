"""The kernels of a fit are compiled and loaded many at once, before they are needed.

Started one by one, each waits for the one before to be compiled: by Triton, by the C compiler that Triton's older
versions take for starting it, or by NVRTC. Which kernels with which kinds of arguments, the functions that start them
say themselves: they are called with tensors that have no memory (torch's meta device), and what they start is noted.
(Not with `empty_like`, for which torch loads a fifth of a second's worth of Python on that device.)
A launch then waits for its own kernel alone. What wasn't foreseen is compiled when it is started.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.runtime.cache import triton_key
from triton.runtime.driver import driver

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels import screen_hopper as hopper
from cosmeans.backends.gpu.kernels.accumulate import accumulate
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.cascade import compare, gather
from cosmeans.backends.gpu.kernels.columns import compare_bits
from cosmeans.backends.gpu.kernels.launch import Launch, compiling, noted_launches
from cosmeans.backends.gpu.kernels.norms import inspect_rows, queue_lengths, squared_norms
from cosmeans.backends.gpu.kernels.quantize import quantize_rows
from cosmeans.backends.gpu.kernels.refine import refine
from cosmeans.backends.gpu.kernels.scores import inertia_limbs, own_chords
from cosmeans.backends.gpu.kernels.screen import Errors, screen
from cosmeans.backends.gpu.kernels.update import OutputRing
from cosmeans.backends.gpu.rows.memory import FitState, Workspace
from cosmeans.data import Batch, ClusterSums, Task

_META = torch.device("meta")
_NO_ERRORS = Errors(0.0, 0.0)  # numbers that no kernel is compiled for
_SCALE = 35


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides which kernels a fit starts, besides its rows.

    fit         many passes follow, and not one
    inspects    lengths and copy are made in one pass over the rows
    prefetches  rows are labelled before the first pass, if its centroids are known by then
    moved       rows are copied to a pooled workspace first
    replayed    epochs are captured: their outcomes go to a ring of slots
    weighted    rows have weights
    """

    n_clusters: int
    fit: bool
    inspects: bool
    prefetches: bool
    moved: bool
    replayed: bool
    weighted: bool


def precompile(rows: Tensor, task: Task, screens: Screens, state: DeviceState, *, inspects: bool) -> None:
    """Begin to compile what a session over rows laid out like these will start, if there is a GPU; returns at once.

    Once a process for each kind of fit. inspects: as in `Kind`.
    """
    (n, d), k, compiler = rows.shape, task.n_clusters, _compiler(state)
    if compiler is None or not n:
        return
    moved = task.fit and state.pools(n, k, d, rows.element_size())
    replayed = task.fit and state.captures(n, k, d)
    prefetches = task.fit and inspects and not state.captures_at_once(n, k, d)
    kind = Kind(k, task.fit, inspects, prefetches, moved, replayed, task.weights is not None)
    if state.note(("precompiled", kind, *_layout(rows))):
        shape = screens.expected(k, d)
        compiler(of_fit(_twin(rows), kind, shape, screens), shape)


def precompile_cascade(batch: Batch, n_clusters: int, screens: Screens, state: DeviceState) -> None:
    """The same for passes that begin in 8 bits."""
    k, d, compiler = n_clusters, batch.rows.shape[1], _compiler(state)
    if compiler is None:
        return
    facts = (batch.norms is None, batch.keep is None, *_layout(batch.rows))
    if state.note(("precompiled cascade", k, *facts)):
        norms, keep = (None if fact is None else _twin(fact) for fact in (batch.norms, batch.keep))
        launches = of_cascade(Batch(0, _twin(batch.rows), norms, keep), k, screens.expected(k, d), screens)
        compiler(launches, screens.expected(k, d, integers=True))


def _compiler(state: DeviceState) -> Callable[..., None] | None:
    """What compiles; None where nothing is compiled ahead."""
    return state.tuning.compile or (compile_ahead if state.device.type == "cuda" else None)


def _layout(rows: Tensor) -> tuple[object, ...]:
    """What kernels are compiled for: of addresses, whether they are multiples of 16 bytes."""
    return rows.dtype, rows.shape[1], rows.stride(0), rows.data_ptr() % 16


def _twin(values: Tensor) -> Tensor:
    """A tensor without memory that is laid out in the same way."""
    places = sum((n - 1) * step for n, step in zip(values.shape, values.stride(), strict=True)) + 1
    offset = values.data_ptr() % 16 // values.element_size()
    base = torch.empty(places + offset, dtype=values.dtype, device=_META)
    return base.as_strided(values.shape, values.stride(), offset)


# ------------------------------------------------- what is started, on tensors without memory


def of_fit(rows: Tensor, kind: Kind, shape: hopper.Shape | None, screens: Screens) -> list[Launch]:
    """What a fit over these rows starts. shape: how the Hopper screen is cut; None: the portable one runs."""
    (n, d), k, workspace = rows.shape, kind.n_clusters, Workspace(_META)
    with noted_launches() as launches:
        tile = hopper.ROW_TILE if shape else 0
        copy, squared = workspace.resident(n, d, tile), torch.empty(n, dtype=torch.float64, device=_META)
        if kind.inspects:
            inspect_rows(rows, squared, copy, 0)
        else:
            squared_norms(rows)
        _, scaled = queue_lengths(squared)
        there = torch.empty((n, d), dtype=rows.dtype, device=_META) if kind.moved else rows
        centroids = torch.empty((k, d), dtype=torch.float32, device=_META)
        columns = workspace.centroids(k, d, shape.columns if shape else 0).quantize(centroids)
        if shape is None:
            screen(copy, 0, columns, workspace.labels(n), workspace.refining(n).uncertified, _NO_ERRORS, screens.tile)
        sums, rings = _sums_and_rings(kind, n, centroids)
        weights = squared if kind.weighted else None
        for norms in (None, squared):  # known when the rows are inspected
            batch = Batch(0, there, norms, None, weights)
            if not kind.inspects:
                quantize_rows(batch, copy, 0)
            task = (workspace.refining(n), copy, 0, batch, columns, workspace.labels(n), _NO_ERRORS, screens.programs)
            refine(*task)
            if kind.prefetches and norms is not None:
                refine(*task, scaled)
                compare_bits(centroids, centroids, torch.empty(1, dtype=torch.int32, device=_META))
            if kind.fit:
                accumulate(
                    batch, workspace.labels(n), workspace.labels(n), sums, workspace.moves(n, k), screens.programs
                )
                inertia_limbs(own_chords(Batch(0, rows, norms), centroids, workspace.labels(n))[1], weights)
        for ring in rings if kind.fit else ():
            number = workspace.number(0, torch.int32)
            workspace.updates(k).update(sums, centroids, ring)
            workspace.updates(k).metrics(sums.count, workspace.number(1.0, torch.float64), number, number, ring)
    return launches


def _sums_and_rings(kind: Kind, n: int, centroids: Tensor) -> tuple[ClusterSums, list[OutputRing]]:
    """Where the sums of a fit are, and where its updates leave their outcomes."""
    (k, d), one = centroids.shape, OutputRing.single(centroids)
    if kind.replayed:
        state = FitState.for_replay(n, k, d, _SCALE, _META)
        assert state.ring is not None
        return state.sums, [one, state.ring]
    return ClusterSums.zeros(k, d, _SCALE, _META), [one]


def of_cascade(batch: Batch, n_clusters: int, shape: hopper.Shape | None, screens: Screens) -> list[Launch]:
    """What a pass that begins in 8 bits starts besides the rest."""
    (n, d), k, workspace = batch.rows.shape, n_clusters, Workspace(_META)
    with noted_launches() as launches:
        tile = hopper.ROW_TILE if shape else 0
        copy, codes = workspace.resident(n, d, tile), workspace.resident(n, d, tile, integers=True)
        quantize_rows(batch, codes, 0)
        centroids = torch.empty((k, d), dtype=torch.float32, device=_META)
        columns = workspace.centroids(k, d, shape.columns if shape else 0).quantize(centroids)
        wide = hopper.shape_for(k, d, integers=True).columns if shape else 0
        coded = workspace.integers(k, d, wide).quantize(columns)
        labels, cascade, left = workspace.labels(n), workspace.cascade(n, d, tile), workspace.refining(n).uncertified
        if shape is None:
            screen(codes, 0, coded, labels, cascade.uncertified, _NO_ERRORS, screens.tile)
            screen(cascade.gathered, 0, columns, labels, left, _NO_ERRORS, screens.tile, cascade.listed)
        compare(copy, 0, centroids, cascade.uncertified, labels, left, screens.programs)
        gather(copy, 0, codes, 0, coded.bounds, 0.0, cascade, left, screens.programs)
    return launches


# ----------------------------------------------------------------- compiling


def compile_ahead(launches: Iterable[Launch], shape: hopper.Shape | None) -> None:
    """One job a kernel, in as many threads as there is work for: Triton's records of a kernel are made for one."""
    jobs: dict[Any, list[Launch]] = {}
    for launch in launches:
        jobs.setdefault(launch.kernel, []).append(launch)
    threads = ThreadPoolExecutor(thread_name_prefix="cosmeans-compile")
    try:
        if shape is not None:
            threads.submit(hopper.compiled, shape)
        ready, index = threads.submit(_learn), torch.cuda.current_device()
        for kernel, its_launches in jobs.items():
            load = functools.partial(_load, its_launches, ready, index)
            compiling.add(kernel, functools.partial(threads.submit, load))
    except RuntimeError:  # no thread can be started: what isn't compiled here is when it is launched
        pass
    threads.shutdown(wait=False)


def _learn() -> None:
    """What Triton finds out once in a process, and otherwise in each thread: the device, a hash of its own files."""
    driver.active.get_current_target()
    triton_key()


def _load(launches: list[Launch], ready: Future[None], index: int, before: Future[None] | None) -> None:
    """Have a kernel for these launches in Triton's memory, after what is under way for it.

    An error stays here: the launch compiles it again, and says it.
    """
    if before is not None:
        before.exception()
    ready.result()
    with torch.cuda.device(index):
        for launch in launches:
            grid = (launch.programs, 1, 1)
            compiled = launch.kernel.warmup(*launch.arguments, grid=grid, **launch.constants)
            compiled[grid]  # loads it, and what starts it

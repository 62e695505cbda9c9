"""The kernels of a fit are compiled and loaded many at once, before they are needed.

Started one by one, each waits for the one before to be compiled: by Triton, by the C compiler that Triton's older
versions take for starting it, or by NVRTC. Which kernels with which kinds of arguments, the functions that start them
say themselves: they are called with tensors that have no memory (torch's meta device), and what they start is noted.
(Not with `empty_like`, for which torch loads a fifth of a second's worth of Python on that device.)
A launch then waits for its own kernel alone. What wasn't foreseen is compiled when it is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.runtime.cache import triton_key
from triton.runtime.driver import driver

from cosmeans.backends.gpu import record
from cosmeans.backends.gpu.desk import Desk
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.accumulate import accumulate
from cosmeans.backends.gpu.kernels.cascade import compare, gather
from cosmeans.backends.gpu.kernels.launch import Launch, compiling, noting
from cosmeans.backends.gpu.kernels.norms import inspect_rows, squared_norms, start_lengths
from cosmeans.backends.gpu.kernels.quantize import copy_rows
from cosmeans.backends.gpu.kernels.refine import settle
from cosmeans.backends.gpu.kernels.scores import inertia_limbs, own_chords
from cosmeans.backends.gpu.kernels.screen import Errors, screen
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.backends.gpu.kernels.update import Places
from cosmeans.data import Batch, ClusterSums

_META = torch.device("meta")
_NO_ERRORS = Errors(0.0, 0.0)  # numbers that no kernel is compiled for
_SCALE = 35
_known: set[object] = set()  # kinds of fits that this process has warmed up for


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides which kernels a fit starts, beside its rows.

    fit       many passes follow, and not one
    inspects  lengths and copy are made in one pass over the rows
    moved     rows are copied to a desk first
    recorded  epochs are recorded: their outcomes go to places in turn
    weighted  rows have weights
    """

    n_clusters: int
    fit: bool
    inspects: bool
    moved: bool
    recorded: bool
    weighted: bool


def warm_up(rows: Tensor, n_clusters: int, screens: Screens, *, fit: bool, inspects: bool, weighted: bool) -> None:
    """Begin to compile what a fit over rows laid out like these will start, if there is a GPU; returns at once.

    Once a process for each kind of fit. Arguments are those of `Kind`.
    """
    (n, d), k, device = rows.shape, n_clusters, screens.device
    if device.type != "cuda" or not n:
        return
    moved = fit and record.waits(n, k, d, rows.element_size(), device)
    kind = Kind(k, fit, inspects, moved, fit and record.pays(n, k, d, device), weighted)
    if _is_new((torch.cuda.current_device(), kind, *_layout(rows))):
        shape = screens.expected(k, d)
        _start(of_fit(_twin(rows), kind, shape, screens), shape)


def warm_up_ladder(batch: Batch, n_clusters: int, screens: Screens) -> None:
    """The same for passes that begin in 8 bits."""
    k, d = n_clusters, batch.rows.shape[1]
    if screens.device.type != "cuda":
        return
    facts = (batch.norms is None, batch.keep is None, *_layout(batch.rows))
    if _is_new((torch.cuda.current_device(), "ladder", k, *facts)):
        norms, keep = (None if fact is None else _twin(fact) for fact in (batch.norms, batch.keep))
        launches = of_ladder(Batch(0, _twin(batch.rows), norms, keep), k, screens.expected(k, d), screens)
        _start(launches, screens.expected(k, d, True))


def _is_new(kind: object) -> bool:
    new = kind not in _known
    _known.add(kind)
    return new


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


def of_fit(rows: Tensor, kind: Kind, shape: screen_hopper.Shape | None, screens: Screens) -> list[Launch]:
    """What a fit over these rows starts. shape: how the Hopper screen is cut; None: the portable one runs."""
    (n, d), k, desk = rows.shape, kind.n_clusters, Desk(_META)
    with noting() as launches:
        tile = screen_hopper.ROW_TILE if shape else 0
        copy, squared = desk.resident(n, d, tile), torch.empty(n, dtype=torch.float64, device=_META)
        if kind.inspects:
            inspect_rows(rows, squared, copy, 0)
        else:
            squared_norms(rows)
        _, scaled = start_lengths(squared)
        there = torch.empty((n, d), dtype=rows.dtype, device=_META) if kind.moved else rows
        centroids = torch.empty((k, d), dtype=torch.float32, device=_META)
        columns = desk.centroids(k, d, shape.columns if shape else 0).quantise(centroids)
        if shape is None:
            screen(copy, 0, columns, desk.labels(n), desk.settling(n).doubtful, _NO_ERRORS, screens.tile)
        sums, places = _sums_and_places(kind, n, centroids)
        weights = squared if kind.weighted else None
        for norms in (None, squared):  # known when the rows are inspected
            batch = Batch(0, there, norms, None, weights)
            if not kind.inspects:
                copy_rows(batch, copy, 0)
            task = (desk.settling(n), copy, 0, batch, columns, desk.labels(n), _NO_ERRORS, screens.programs)
            settle(*task)
            if kind.inspects and norms is not None:
                settle(*task, scaled)  # labels ahead of the first pass
            if kind.fit:
                accumulate(batch, desk.labels(n), desk.labels(n), sums, desk.moves(n, k), screens.programs)
                inertia_limbs(own_chords(Batch(0, rows, norms), centroids, desk.labels(n))[1], weights)
        for place in places if kind.fit else ():
            number = desk.number(0, torch.int32)
            desk.updates(k).update(sums, centroids, place)
            desk.updates(k).figures(sums.count, desk.number(1.0, torch.float64), number, number, place)
    return launches


def _sums_and_places(kind: Kind, n: int, centroids: Tensor) -> tuple[ClusterSums, list[Places]]:
    """Where the sums of a fit lie, and where its updates leave their outcomes."""
    (k, d), one = centroids.shape, Places.one(centroids)
    if kind.recorded:
        standing = record.Standing.empty(n, k, d, _SCALE, _META)
        return standing.sums, [one, standing.places]
    return ClusterSums.zeros(k, d, _SCALE, _META), [one]


def of_ladder(batch: Batch, n_clusters: int, shape: screen_hopper.Shape | None, screens: Screens) -> list[Launch]:
    """What a pass that begins in 8 bits starts beside the rest."""
    (n, d), k, desk = batch.rows.shape, n_clusters, Desk(_META)
    with noting() as launches:
        tile = screen_hopper.ROW_TILE if shape else 0
        copy, codes = desk.resident(n, d, tile), desk.resident(n, d, tile, True)
        copy_rows(batch, codes, 0)
        centroids = torch.empty((k, d), dtype=torch.float32, device=_META)
        columns = desk.centroids(k, d, shape.columns if shape else 0).quantise(centroids)
        wide = screen_hopper.shape_for(k, d, True).columns if shape else 0
        coded = desk.integers(k, d, wide).quantise(columns)
        labels, ladder, left = desk.labels(n), desk.ladder(n, d, tile), desk.settling(n).doubtful
        if shape is None:
            screen(codes, 0, coded, labels, ladder.doubtful, _NO_ERRORS, screens.tile)
            screen(ladder.gathered, 0, columns, labels, left, _NO_ERRORS, screens.tile, ladder.listed)
        compare(copy, 0, centroids, ladder.doubtful, labels, left, screens.programs)
        gather(copy, 0, codes, 0, coded.bounds, 0.0, ladder, left, screens.programs)
    return launches


# ----------------------------------------------------------------- compiling


def _start(launches: Iterable[Launch], shape: screen_hopper.Shape | None) -> None:
    """One job a kernel, in as many threads as there is work for: Triton's records of a kernel are made for one."""
    jobs: dict[Any, list[Launch]] = {}
    for launch in launches:
        jobs.setdefault(launch.kernel, []).append(launch)
    threads = ThreadPoolExecutor(thread_name_prefix="cosmeans-compile")
    try:
        if shape is not None:
            threads.submit(screen_hopper.compiled, shape)
        ready = threads.submit(_learn)
        for kernel, its_launches in jobs.items():
            before, index = compiling.get(kernel), torch.cuda.current_device()
            compiling[kernel] = threads.submit(_load, its_launches, before, ready, index)
    except RuntimeError:  # no thread can be started: what isn't compiled here is when it is launched
        pass
    threads.shutdown(wait=False)


def _learn() -> None:
    """What Triton finds out once in a process, and otherwise in each thread: the device, a hash of its own files."""
    driver.active.get_current_target()
    triton_key()


def _load(launches: list[Launch], before: Future[None] | None, ready: Future[None], index: int) -> None:
    """Have a kernel for these launches in Triton's memory. An error stays here: a launch compiles anew, and says it."""
    if before is not None:
        before.exception()
    ready.result()
    with torch.cuda.device(index):
        for launch in launches:
            grid = (launch.programs, 1, 1)
            compiled = launch.kernel.warmup(*launch.arguments, grid=grid, **launch.constants)
            compiled[grid]  # loads it, and what starts it

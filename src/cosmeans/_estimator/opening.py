"""How a session is opened for a model: by its options, for a fit or for one pass under its centroids."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from cosmeans import console, environment
from cosmeans._estimator.dispatch import choose_backend, kept_by_cpu, takes_heads
from cosmeans._estimator.fitted_state import state_of
from cosmeans._estimator.inputs import Kind, check_device, check_features, read_rows
from cosmeans.compile_clock import CLOCK
from cosmeans.containers.tensors import through_dlpack
from cosmeans.contracts import Backend, RowSource, Session
from cosmeans.data import Task
from cosmeans.errors import BackendUnavailableError
from cosmeans.group import Alone
from cosmeans.inspection.weights import read_weights
from cosmeans.observer import Log, Observer
from cosmeans.options import FitOptions
from cosmeans.paths import as_path
from cosmeans.progress import observer_of, watch
from cosmeans.reading import free_memory
from cosmeans.rows.files import FileRows
from cosmeans.rows.held import HeldRows, hold

_REPAID = 4  # epochs, of which all but the first read half of the bytes of a copy that takes two passes to write


def options_of(model: Any) -> FitOptions:
    """The options of a model, and of the environment where these are the defaults, checked. Raises OptionError."""
    return FitOptions(**environment.filled({name: getattr(model, name) for name in FitOptions.defaults()}))


def log_of(model: Any) -> Log:
    """Where a model writes its lines: to the log, unless it is silent."""
    return console.log if model.verbose else console.silent


def choose(source: RowSource, options: FitOptions, log: Log, *, fit: bool) -> tuple[RowSource, Backend]:
    """What computes, and the source as it is read: rows that must be decoded stay in memory where they can, for a CPU.

    fit: whether many passes follow, so that a copy of the rows repays what it takes to make
    """
    cache = None if options.cache is None else as_path(options.cache, "cache")
    # a copy that the system keeps in memory is read faster whole than in halves; of a mapped file it is no gain
    far = source.n_direct == source.n_rows or source.n_bytes > free_memory()
    halved = cache is not None and fit and far and options.epochs >= _REPAID and takes_heads(options, source)
    kept = kept_by_cpu(options, source) if halved else 0
    source, limit = hold(source, options.memory_limit, cache, make=fit, halved=halved, reserved=kept)
    try:
        backend = choose_backend(replace(options, memory_limit=limit), source, log)
    except BackendUnavailableError as error:
        if options.device == "auto" or options.device != environment.device():
            raise
        raise BackendUnavailableError(f"{error} ({environment.DEVICE} is set to {options.device}.)") from error
    return source, backend


def weights_of(sample_weight: Any, source: RowSource) -> Tensor | None:
    """Weights that can be those of these rows, before any work is done on the rows; those in the files if none came."""
    if sample_weight is None and isinstance(source, FileRows):
        sample_weight = source.weights()
    sample_weight = through_dlpack(sample_weight, "sample_weight")
    check_device(sample_weight, "sample_weight", source.device)
    return read_weights(sample_weight, source.n_rows)


@contextmanager
def open_session(
    model: Any, backend: Backend, source: RowSource, task: Task, labelling: str = "labelling rows"
) -> Iterator[tuple[Session, Observer]]:
    """A session of this backend, and who watches it: as the command line or `verbose` asks for it.

    labelling  what people read while rows are labelled under centroids that are known
    """
    flops = 2 * int(model.n_clusters) * source.n_features if model.verbose > 1 else 0
    with (
        closing(source) if isinstance(source, HeldRows) else nullcontext(),
        CLOCK.heard(log_of(model)),
        observer_of(model)
        or watch(source.n_rows, flops_per_row=flops, verbose=model.verbose, labelling=labelling) as observer,
        backend.session(source, task, Alone(), observer, log_of(model)) as session,
    ):
        yield session, observer


@contextmanager
def open_fitted(
    model: Any,
    X: Any,
    sample_weight: Any = None,
    check: Callable[[int], None] | None = None,
    labelling: str = "labelling rows",
) -> Iterator[tuple[Session, Kind, Tensor]]:
    """A session over rows that were read, for one pass; and the centroids (K, D), checked, on its device.

    check  called with N before any work: raises for what else was given and doesn't fit the rows
    labelling  as in `open_session`
    """
    model = copy.copy(model)  # one state and one set of options, whatever other threads fit and set meanwhile
    state, options = state_of(model), options_of(model)
    source, kind = read_rows(X, memory_limit=options.memory_limit)
    check_features(model, kind, source)
    if check is not None:
        check(source.n_rows)
    weights = weights_of(sample_weight, source)
    source, backend = choose(source, options, log_of(model), fit=False)
    centroids = state.centroids(backend.device, backend.squared_norms)
    task = task_of(options, len(centroids), fit=False, weights=weights)
    with open_session(model, backend, source, task, labelling) as (session, _):
        session.read()
        yield session, kind, centroids


def task_of(options: FitOptions, n_clusters: int | None = None, *, fit: bool = True, weights: Tensor | None) -> Task:
    """What a session is opened for, by the options of a model."""
    return Task(
        options.n_clusters if n_clusters is None else n_clusters,
        fit=fit,
        weights=weights,
        batch_size=options.batch_size,
        zero_rows=options.zero_rows,
        nonfinite=options.nonfinite,
    )

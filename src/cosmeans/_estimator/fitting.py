"""A fit from what the user hands in to what the estimator keeps: everything is checked before any work is done."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from cosmeans import scoring
from cosmeans._estimator import conversions
from cosmeans._estimator.file_labels import tables_of_fit
from cosmeans._estimator.fitted_state import FitState
from cosmeans._estimator.initialization import (
    FirstCentroids,
    best_run,
    draw_seed,
    given_centroids,
    start_key,
    warn_of_one_start,
)
from cosmeans._estimator.inputs import check_device, check_size, read_rows
from cosmeans._estimator.opening import choose, log_of, open_session, options_of, task_of, weights_of
from cosmeans._estimator.resuming import checkpoint_of
from cosmeans._estimator.row_outputs import row_outputs
from cosmeans.containers.converted import floating
from cosmeans.containers.tensors import through_dlpack
from cosmeans.label_files.folder import LabelFolder


def fit_rows(
    model: Any, state: FitState | None, X: Any, sample_weight: Any, labels_out: Any
) -> tuple[FitState, LabelFolder | None]:
    """What a model with this state keeps of a fit to rows X, and the tables of labels that are still to be written."""
    options, random_state, log = options_of(model), model.random_state, log_of(model)
    source, kind = read_rows(X, memory_limit=options.memory_limit)
    check_size(source, options)
    tables = tables_of_fit(labels_out, source)
    weights, init = weights_of(sample_weight, source), through_dlpack(model.init, "init")
    check_device(init, "init", source.device)
    room = row_outputs(source, labels_out)
    given_rows = source
    source, backend = choose(source, options, log, fit=True)
    # rows as they came: sent rows would have to come back
    taken = kind.out(floating(source.view())) if callable(init) else None
    shape = (options.n_clusters, source.n_features)
    given = given_centroids(init, shape, backend.device)
    key = start_key(*shape, init, given, random_state)
    before = conversions.goes_on_from(state, key, shape, options.warm_start, log)
    present = conversions.present_centroids(before, backend)
    if given is not None and present is None:
        warn_of_one_start(options)
    start = given if present is None else present
    seed = draw_seed(random_state) if before is None else before.random_state_
    checkpoint = None
    if options.checkpoint is not None:
        drawn = before is None and random_state is None
        checkpoint = checkpoint_of(options, init, start, given_rows, weights, log, seed=seed, drawn=drawn)
        seed = checkpoint.seed
    first = FirstCentroids(init, start, taken, seed, options)
    task = task_of(options, weights=weights)
    kept = nullcontext() if checkpoint is None else checkpoint
    with room as outputs, kept, open_session(model, backend, source, task) as (session, observer):
        known = None
        if session.labels_while_reading:
            known = first.before_reading(source, backend, weights, checkpoint)
        session.read(known)
        session.rows.need_weight()
        result = best_run(first, session, observer, checkpoint)
        own, inertia = result.own or scoring.own_chords(session, result.centroids, result.labels)
    found = conversions.from_fit(result, before, own, inertia, seed, kind, outputs)
    return replace(found, feature_names_in_=kind.names, started_from=key), tables

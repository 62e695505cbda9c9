"""How the state of a fit is made: from what a fit found, from centers that were set, from a model folder; and saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from cosmeans._estimator.fitted_state import FitState
from cosmeans._estimator.inputs import Kind
from cosmeans._estimator.row_outputs import RowOutputs
from cosmeans.console import warn
from cosmeans.containers.converted import on_host
from cosmeans.contracts import Backend
from cosmeans.distinct import n_distinct
from cosmeans.errors import DistinctRowsWarning, InputError
from cosmeans.model_file import ModelState
from cosmeans.result import FitResult, History

_ROOM = {
    "memory_limit",
    "device_memory_limit",
    "cache",
    "checkpoint",
    "resume",
    "checkpoint_seconds",
}  # options of a machine, not of a model


def from_fit(
    result: FitResult,
    before: FitState | None,
    own: Tensor,
    inertia: float,
    seed: int,
    kind: Kind,
    outputs: RowOutputs,
) -> FitState:
    """What a fit found.

    before   the state that it continued from
    own      (N,): each row's score
    inertia  by rule 11
    outputs  where labels and similarity are
    """
    history = result.history if before is None else History([*before.history_, *result.history])
    return FitState(
        cluster_centers_=kind.out(result.centroids),
        n_features_in_=result.centroids.shape[1],
        random_state_=seed,
        history_=history,
        labels_=outputs.labels(result.labels, kind),
        similarity_=outputs.cosines(own, kind),
        counts_=kind.out(result.counts),
        n_distinct_=n_distinct(result.centroids),
        inertia_=inertia,
        n_iter_=len(result.history),
        stop_reason_=result.stop_reason,
        costs_=result.costs,
        mean_similarity=result.similarity,
        mapped=outputs.mapped,
    )


def warn_of_copies(state: FitState) -> None:
    """Warn where centroids are copies of others."""
    n_clusters = len(state.cluster_centers_)
    if state.n_distinct_ is not None and state.n_distinct_ < n_clusters:
        found = "1 centroid is" if state.n_distinct_ == 1 else f"{state.n_distinct_} centroids are"
        warn(
            f"n_clusters={n_clusters}, but only {found} distinct (chords above 2^-20, more than rounding): the "
            "rows point in too few different directions. Lower n_clusters, or, where all rows are close to one "
            "direction, centre them first.",
            DistinctRowsWarning,
        )


def from_centers(centroids: Tensor, seed: int, kind: Kind) -> FitState:
    """Centroids that the user gave, of unit length; nothing else of an earlier fit stays."""
    return FitState(cluster_centers_=kind.out(centroids), n_features_in_=centroids.shape[1], random_state_=seed)


def goes_on_from(
    state: FitState | None,
    key: tuple[Any, ...],
    needed: tuple[int, int],
    warm_start: bool,
    say: Callable[[str], None],
) -> FitState | None:
    """The state that a fit continues from: centers that were set, or with warm_start a like fit. None: from scratch."""
    if state is None:
        return None
    if state.given:
        shape = tuple(state.cluster_centers_.shape)
        if shape != needed:
            raise InputError(
                f"centers were set with shape {shape}; n_clusters and the rows need {needed}. "
                "Set centers that fit, or call reset() to start from scratch."
            )
        return state
    if not warm_start or state.started_from != key:
        return None
    say(f"continuing from the current {needed[0]} centers (warm_start=True)")
    return state


def present_centroids(state: FitState | None, backend: Backend) -> Tensor | None:
    """Centroids of a state, checked, on the device of the backend."""
    return None if state is None else state.centroids(backend.device, backend.squared_norms)


def to_model(state: FitState, options: dict[str, Any], init: Any, library: str) -> ModelState:
    """What a model folder holds. options: plain values; library: the version that writes it.

    Given first centroids are not saved: the model's own stand for them.
    """
    given = options["random_state"]
    seed = given if isinstance(given, int) else state.random_state_  # the one that was drawn
    return ModelState(
        centroids=state.centroids(),
        counts=None if state.counts_ is None else on_host(state.counts_),
        options=_of_the_answer(options) | {"random_state": seed, "init": init if isinstance(init, str) else "random"},
        history=state.history_,
        seed=state.random_state_,
        stop_reason=state.stop_reason_,
        similarity=state.mean_similarity,
        library=library,
    )


def _of_the_answer(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that say what this machine has room for."""
    return {name: value for name, value in options.items() if name not in _ROOM}


def portable(options: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The saved options that hold on any machine: all that are known here, but not the GPU that a fit was given."""
    kept = known - _ROOM - {"device"} - ({"backend"} if options.get("backend") == "gpu" else set())
    return {name: value for name, value in options.items() if name in kept}


def from_model(model: ModelState) -> FitState:
    """What a model folder held: all but the attributes of the rows (labels_, similarity_, inertia_) and the costs."""
    state = FitState(
        cluster_centers_=model.centroids.numpy(),
        n_features_in_=model.centroids.shape[1],
        random_state_=model.seed,
    )
    if model.counts is None:
        return state
    return replace(
        state,
        history_=model.history,
        counts_=model.counts.numpy(),
        n_distinct_=n_distinct(model.centroids),
        n_iter_=len(model.history),
        stop_reason_=model.stop_reason,
        mean_similarity=model.similarity,
    )

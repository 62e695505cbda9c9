"""What a fit leaves on an estimator (the attributes with a trailing underscore): kept, saved, restored, forgotten."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from cosmeans.console import warn
from cosmeans.distinct import n_distinct
from cosmeans.errors import DistinctRowsWarning, InputError
from cosmeans.inputs import Kind
from cosmeans.model_file import ModelState
from cosmeans.result import FitResult, History


def keep(
    kmeans: Any, result: FitResult, history: History, own: Tensor, total_weight: float, seed: int, kind: Kind
) -> None:
    """Set what a fit found. own (N,): each row's score; total_weight: of the rows kept, in the caller's weights."""
    kmeans.cluster_centers_ = kind.out(result.centroids)
    kmeans.labels_ = kind.out(result.labels.to(torch.int64))
    kmeans.similarity_ = kind.out(own)
    kmeans.counts_ = kind.out(result.counts)
    kmeans.n_distinct_ = n_distinct(result.centroids)
    kmeans.inertia_ = max(0.0, 2.0 * total_weight * (1.0 - result.similarity))
    kmeans.n_iter_ = len(result.history)
    kmeans.history_ = history
    kmeans.random_state_ = seed
    kmeans.stop_reason_ = result.stop_reason
    kmeans._similarity_ = result.similarity
    kmeans._centers_set_ = False
    if kmeans.n_distinct_ < len(result.centroids):
        warn(
            f"n_clusters={len(result.centroids)}, but only {kmeans.n_distinct_} centroids are distinct: the rows "
            "point in too few different directions. Lower n_clusters.",
            DistinctRowsWarning,
        )


def keep_centers(kmeans: Any, centroids: Tensor, seed: int, kind: Kind) -> None:
    """Set centroids that the user gave; nothing else of an earlier fit stays."""
    forget(kmeans)
    kmeans.cluster_centers_ = kind.out(centroids)
    kmeans.n_features_in_ = centroids.shape[1]
    kmeans.history_ = History()
    kmeans.random_state_ = seed
    kmeans._centers_set_ = True


def present_centroids(
    kmeans: Any, key: tuple[Any, ...], needed: tuple[int, int], device: torch.device, warm_start: bool
) -> Tensor | None:
    """Centroids to go on from: those that were set, or with warm_start those of a like fit. None: start anew."""
    if getattr(kmeans, "_centers_set_", False):
        shape = tuple(kmeans.centers.shape)
        if shape != needed:
            raise InputError(
                f"centers were set with shape {shape}; n_clusters and the rows need {needed}. "
                "Set centers that fit, or call reset() to start anew."
            )
    elif not warm_start or getattr(kmeans, "_started_from_", None) != key:
        return None
    else:
        kmeans._say(f"going on from the present {needed[0]} centers (warm_start=True)")
    centroids: Tensor = kmeans._centroids().to(device)
    return centroids


def forget(kmeans: Any) -> None:
    for name in [name for name in vars(kmeans) if name.endswith("_")]:
        delattr(kmeans, name)


def to_state(kmeans: Any, library: str) -> ModelState:
    """What a model folder holds; library: the version that writes it.

    Given first centroids are not saved: the model's own stand for them.
    """
    random_state, init = kmeans.random_state, kmeans.init
    options = {
        **kmeans.get_params(),
        "random_state": int(random_state) if isinstance(random_state, Integral) else kmeans.random_state_,
        "init": init if isinstance(init, str) else "random",
    }
    return ModelState(
        centroids=torch.as_tensor(kmeans.cluster_centers_).cpu(),
        counts=torch.as_tensor(kmeans.counts_).cpu(),
        options={name: value.item() if hasattr(value, "item") else value for name, value in options.items()},
        history=kmeans.history_,
        seed=kmeans.random_state_,
        stop_reason=kmeans.stop_reason_,
        similarity=kmeans._similarity_,
        library=library,
    )


def portable(options: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The saved options that hold on any machine: all that are known here, but not the GPU that a fit was given."""
    kept = known - {"device"} - ({"backend"} if options.get("backend") == "gpu" else set())
    return {name: value for name, value in options.items() if name in kept}


def from_state(kmeans: Any, state: ModelState) -> None:
    """Set what a model folder held: all but the attributes of the rows (labels_, similarity_, inertia_)."""
    kmeans.n_clusters, kmeans.n_features_in_ = state.centroids.shape
    kmeans.cluster_centers_ = state.centroids.numpy()
    kmeans.counts_ = state.counts.numpy()
    kmeans.n_distinct_ = n_distinct(state.centroids)
    kmeans.history_, kmeans.n_iter_ = state.history, len(state.history)
    kmeans.random_state_, kmeans.stop_reason_ = state.seed, state.stop_reason
    kmeans._similarity_ = state.similarity
    kmeans._centers_set_ = False

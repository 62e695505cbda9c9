"""What happens to clusters without direction: they move to the rows that fit worst (rule 8)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans.contracts import Backend, RowSource
from cosmeans.errors import EmptyClusterError

_FITS = 1.0 - 2.0**-20  # a row this close to its centroid is no better place


def worst_rows(rows: RowSource, backend: Backend, centroids: Tensor, labels: Tensor, wanted: int) -> Tensor:
    """At most `wanted` rows of different content, worst score with their own centroid first: (M, D).

    Ties go by content, entries compared as a tuple, so permuted rows give the same answer.
    """
    own = np.full(rows.n_rows, 2.0)
    for batch in rows.batches():
        scores = backend.scores(batch, centroids, labels[batch.span])
        eligible = (labels[batch.span] >= 0) & (scores < _FITS)
        if batch.weights is not None:
            eligible &= batch.weights > 0
        own[batch.span] = torch.where(eligible, scores, torch.full_like(scores, 2.0)).cpu().numpy()
    candidates = np.flatnonzero(own < 2.0)
    order = candidates[np.argsort(own[candidates], kind="stable")]
    boundaries = np.flatnonzero(np.diff(own[order])) + 1
    taken: list[np.ndarray] = []
    seen: set[bytes] = set()
    for group in _groups(order, boundaries):
        for row in _distinct(rows, group):
            if row.tobytes() not in seen:
                seen.add(row.tobytes())
                taken.append(row)
            if len(taken) == wanted:
                return _stack(taken, centroids)
    return _stack(taken, centroids)


def relocate(
    updated: Tensor,
    lost: Tensor,
    rows: RowSource,
    backend: Backend,
    previous: Tensor,
    labels: Tensor,
    policy: str,
) -> tuple[Tensor, int]:
    """Centroids with the lost clusters moved, and how many were. The j-th lost cluster takes the j-th row."""
    places = lost.nonzero()[:, 0]
    if len(places) == 0 or policy == "keep":
        return updated, 0
    if policy == "error":
        raise EmptyClusterError(
            f"{len(places)} clusters have no direction (the first is cluster {int(places[0])}): they are empty or "
            'their rows cancel. Lower n_clusters, or pass empty_clusters="move" or "keep".'
        )
    found = worst_rows(rows, backend, previous, labels, len(places))
    moved = updated.clone()
    moved[places[: len(found)]] = found
    return moved, len(found)


def _groups(order: np.ndarray, boundaries: np.ndarray):  # type: ignore[no-untyped-def]
    """Runs of rows with equal scores, one by one (most have one row, and few are looked at)."""
    start = 0
    for end in boundaries:
        yield order[start:end]
        start = end
    if start < len(order):
        yield order[start:]


def _distinct(rows: RowSource, indices: np.ndarray) -> np.ndarray:
    """Distinct contents of these rows in ascending order of their entries."""
    if len(indices) == 1:
        return rows.take(torch.from_numpy(indices)).cpu().numpy()
    parts = [
        np.unique(rows.take(torch.from_numpy(part)).cpu().numpy(), axis=0)
        for part in np.array_split(indices, max(1, len(indices) // 4096))
    ]
    return np.unique(np.concatenate(parts), axis=0)


def _stack(taken: list[np.ndarray], like: Tensor) -> Tensor:
    if not taken:
        return like[:0]
    return torch.from_numpy(np.stack(taken)).to(like)

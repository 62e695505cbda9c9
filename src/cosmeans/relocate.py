"""What happens to clusters without direction: they move to the rows that fit worst (rule 8)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans.contracts import RowsByIndex, Session
from cosmeans.distinct import block_rows
from cosmeans.epoch import Epoch
from cosmeans.errors import EmptyClusterError

_FITS = 1.0 - 2.0**-20  # a row this close to its centroid is no better place
_FIRST_READ = 64  # rows


def relocate(session: Session, epoch: Epoch, policy: str) -> tuple[Tensor, int]:
    """The centroids of an epoch with clusters without direction moved, and how many were.

    The j-th such cluster takes the j-th of the rows that fit worst. Raises EmptyClusterError if the policy is "error".
    """
    places = epoch.update.degenerate.nonzero()[:, 0]
    if policy == "error":
        raise EmptyClusterError(
            f"{len(places)} clusters have no direction (the first is cluster {int(places[0])}): they are empty or "
            'their rows cancel. Lower n_clusters, or pass empty_clusters="move" or "keep".'
        )
    found = worst_rows(session, epoch.centroids, session.labels(epoch), len(places))
    centroids = epoch.update.centroids.clone()
    centroids[places[: len(found)]] = found
    return centroids, len(found)


def worst_rows(session: Session, centroids: Tensor, labels: Tensor, wanted: int) -> Tensor:
    """At most `wanted` rows of different content, worst score with their own centroid first: (M, D).

    Ties go by content, entries compared as a tuple, so permuted rows give the same answer. Memory is that of one batch
    and of the rows found.
    """
    worst = _Worst(session.rows, wanted)
    for batch in session.rows.batches():
        scores = session.scores(batch, centroids, labels[batch.span])
        eligible = (labels[batch.span] >= 0) & (scores < _FITS)
        if batch.weights is not None:
            eligible &= batch.weights > 0
        chosen = eligible.nonzero()[:, 0]
        worst.offer(scores[chosen].cpu().numpy(), chosen.cpu().numpy() + batch.start)
    return worst.found().to(centroids)


class _Worst:
    """The worst of the rows offered so far, each content once, by (score, entries).

    They are kept as bytes that sort as these do.
    """

    def __init__(self, rows: RowsByIndex, wanted: int) -> None:
        self._rows, self._wanted = rows, wanted
        self._keys: list[bytes] = []
        self._limit = np.inf  # no row beyond this score is wanted

    def offer(self, scores: np.ndarray, indices: np.ndarray) -> None:
        """Rows by index, with their scores (M,). Only rows that may be among the worst are read."""
        near = np.flatnonzero(scores <= self._limit)
        order = near[np.argsort(scores[near], kind="stable")]
        start, step = 0, max(_FIRST_READ, self._wanted)
        while start < len(order) and scores[order[start]] <= self._limit:
            part = order[start : start + step]
            values = self._rows.take(torch.from_numpy(indices[part])).cpu().numpy()
            self._merge(_sortable(scores[part], values))
            # where the same contents come again and again, so will they among the others
            start, step = start + len(part), max(step, min(2 * step, block_rows(self._rows.n_features)))

    def _merge(self, keys: np.ndarray) -> None:
        both = set(self._keys).union(key.tobytes() for key in keys)
        self._keys = sorted(both)[: self._wanted]
        if len(self._keys) == self._wanted:
            self._limit = float(_scores_and_entries(self._keys[-1:])[0][0])

    def found(self) -> Tensor:
        """(M, D) float32 on the host."""
        if not self._keys:
            return torch.empty((0, self._rows.n_features), dtype=torch.float32, device="cpu")
        return torch.from_numpy(_scores_and_entries(self._keys)[1])


def _sortable(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(M, 8 + 4 D) bytes that sort as scores (M,) float64 and entries (M, D) float32 do; neither holds NaN or -0.0."""
    parts = [_ordered(part).view(np.uint8) for part in (scores[:, None], np.ascontiguousarray(values))]
    return np.concatenate(parts, axis=1)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers of the same order, the highest byte first."""
    size = values.itemsize
    bits = values.view(f"u{size}")
    top = bits.dtype.type(1 << (8 * size - 1))
    return np.where(bits & top, ~bits, bits | top).astype(f">u{size}")


def _scores_and_entries(keys: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """What `_sortable` made into these bytes."""
    table = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
    return _unordered(table[:, :8], 8)[:, 0], _unordered(table[:, 8:], 4)


def _unordered(table: np.ndarray, size: int) -> np.ndarray:
    keys = np.ascontiguousarray(table).view(f">u{size}").astype(f"u{size}")
    top = keys.dtype.type(1 << (8 * size - 1))
    values: np.ndarray = np.where(keys & top, keys & ~top, ~keys).view(f"f{size}")
    return values

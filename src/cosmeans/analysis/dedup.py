"""Semantic de-duplication: within each cluster, rows closer than a threshold to a row that is preferred go.

Source: Abbas et al. 2023, SemDeDup. Clusters make it cheap; duplicates in different clusters are not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Generic, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosmeans import seeding, sphere
from cosmeans._estimator.fitted_state import Array
from cosmeans.analysis.assignments import Assigned, assign_rows
from cosmeans.calls import public
from cosmeans.choices import Preferred, names_of
from cosmeans.console import warn, without
from cosmeans.contracts import RowsByIndex, Session
from cosmeans.data import Batch
from cosmeans.errors import ClusterSplitWarning, DistinctRowsWarning, OptionError
from cosmeans.estimator import KMeans, TensorRows
from cosmeans.options import check_integer
from cosmeans.printable import brief
from cosmeans.progress import watching
from cosmeans.tabular import Columns, Tabular, host

_KEEP = names_of(Preferred)
_BLOCK, _TILE = 1024, 4096  # rows compared at once: with as many of those before them
_ALONE = 512  # rows of a group that one thread compares: on a busy machine, others take longer to wake than to work
_MOST_PARTS = 64  # of one split; parts still too large are split again
_SPLIT_EPOCHS = 20
_SHOWN = 5


@dataclass(frozen=True, slots=True, repr=False)
class Duplicates(Tabular, Generic[Array]):
    """Which rows to keep, and why the others are removed. As a table: one row for each that is removed.

    Attributes
    ----------
    kept
        (n,) int64, ascending: the keep list. Rows without a label (zero, skipped) are kept.
    removed
        (r,) int64, ascending.
    original
        (r,) int64: for each removed row, the most preferred row of its cluster that it is a duplicate of. That row may
        itself be removed, as a duplicate of a third.
    cosines
        (r,) float64: canonical score of each removed row with its original, at least the threshold.
    labels
        (r,) int64: the cluster of each removed row, which is that of its original.
    kept_labels
        (n,) int64: the cluster of each row of the keep list, -1 for rows without a label.
    kept_cosines
        (n,) float64: canonical score of each row of the keep list with its centroid, 0 for rows without a label.
    splits
        Cluster to number of parts, for clusters that were too large: rows of different parts were not compared.
    """

    kept: Array
    removed: Array
    original: Array
    cosines: Array
    labels: Array
    kept_labels: Array
    kept_cosines: Array
    splits: dict[int, int] = field(default_factory=dict)

    def _columns(self) -> Columns:
        columns = {"row": self.removed, "cluster": self.labels, "similarity": self.cosines, "original": self.original}
        return {name: host(values) for name, values in columns.items()}

    def _summary(self) -> str:
        return f"{len(self.kept):,} rows kept, {len(self.removed):,} removed"


@overload
def deduplicate(
    model: KMeans[Any],
    rows: TensorRows,
    threshold: float = 0.95,
    *,
    keep: Preferred = "closest",
    max_cluster_size: int = 16_384,
    random_state: int = 0,
) -> Duplicates[Tensor]: ...
@overload
def deduplicate(
    model: KMeans[Any],
    rows: Any,
    threshold: float = 0.95,
    *,
    keep: Preferred = "closest",
    max_cluster_size: int = 16_384,
    random_state: int = 0,
) -> Duplicates[NDArray[Any]]: ...
@public
def deduplicate(
    model: KMeans[Any],
    rows: Any,
    threshold: float = 0.95,
    *,
    keep: Preferred = "closest",
    max_cluster_size: int = 16_384,
    random_state: int = 0,
) -> Any:
    """Remove every row whose cosine with a preferred row of its cluster is at least the threshold.

    Every decision is by the canonical score: the same rows on every machine. Rows of equal content may have a cosine
    of 1 - 1e-6 (rule 1's tolerance), so the threshold for exact copies is 0.99999.
    Raises OptionError, and what `KMeans.predict` raises.

    Parameters
    ----------
    keep
        "closest" or "farthest": which rows are preferred, by their cosine with the centroid; the lowest row at a tie.
    max_cluster_size
        Bound on memory and time: larger clusters are split by k-means (seed `random_state`) and compared part by part.
        A ClusterSplitWarning lists them before the work starts.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, texts = sample()
    >>> kmeans = cosmeans.KMeans(60, random_state=0, verbose=0).fit(rows)
    >>> found = cosmeans.deduplicate(kmeans, rows, threshold=0.95)
    >>> len(found.kept), len(found.removed)
    (5998, 2)
    """
    _check_options(threshold, keep)
    max_cluster_size = check_integer("max_cluster_size", max_cluster_size, 2)
    random_state = check_integer("random_state", random_state, 0)
    with assign_rows(model, rows) as assigned:
        return _found(assigned, threshold, keep, max_cluster_size, random_state)


def _found(
    assigned: Assigned, threshold: float, keep: str, max_cluster_size: int, random_state: int
) -> Duplicates[Any]:
    groups, splits = _plan(assigned, max_cluster_size, random_state)
    if splits:
        warn(_told(splits, assigned.sizes(), max_cluster_size), ClusterSplitWarning)
    labels, scores = assigned.host()
    original = np.full(len(labels), -1, np.int64)
    cosines = np.zeros(len(labels))
    preference = -scores if keep == "closest" else scores
    done, total = 0, sum(len(group) ** 2 for group in groups)
    observer = watching()
    for group in groups:
        observer.step("comparing rows within clusters", done, total, "pairs")
        ordered = group[np.lexsort((group, preference[group]))]
        with _one_thread() if len(group) <= _ALONE else nullcontext():
            found, cosine = compare(assigned.session, ordered, threshold)
        hit = found >= 0
        original[ordered[hit]] = ordered[found[hit]]
        cosines[ordered[hit]] = cosine[hit]
        done += len(group) ** 2
        observer.step("comparing rows within clusters", done, total, "pairs")
    removed = np.flatnonzero(original >= 0)
    kept, original, cosines = np.flatnonzero(original < 0), original[removed], cosines[removed]
    rows, placed = assigned.kind.out, assigned.kind.cosines
    return Duplicates(
        kept=rows(torch.from_numpy(kept)),
        removed=rows(torch.from_numpy(removed)),
        original=rows(torch.from_numpy(original)),
        cosines=placed(torch.from_numpy(cosines)),
        labels=rows(torch.from_numpy(labels[removed])),
        kept_labels=rows(torch.from_numpy(labels[kept])),
        kept_cosines=placed(torch.from_numpy(scores[kept])),
        splits=splits,
    )


def _plan(assigned: Assigned, limit: int, seed: int) -> tuple[list[np.ndarray], dict[int, int]]:
    """Row indices to be compared with one another, and the clusters that had to be split."""
    labels = assigned.host()[0]
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(assigned.centroids) + 1))
    groups: list[np.ndarray] = []
    splits: dict[int, int] = {}
    for cluster, members in enumerate(np.split(order, starts)[1:-1]):
        parts = list(_split(assigned.session.rows, members, limit, seed))
        if len(parts) > 1:
            splits[cluster] = len(parts)
        groups += [part for part in parts if len(part) > 1]
    return groups, splits


def _split(rows: RowsByIndex, members: np.ndarray, limit: int, seed: int) -> Iterator[np.ndarray]:
    """Parts of at most `limit` rows that are close together; in row order where rows can't be told apart."""
    if len(members) <= limit:
        yield members
        return
    n_parts = min(_MOST_PARTS, math.ceil(1.5 * len(members) / limit))
    sample = members[seeding.subset(len(members), 256 * n_parts, seed)]
    kmeans = KMeans(n_parts, epochs=_SPLIT_EPOCHS, random_state=seed, verbose=0)
    with without(DistinctRowsWarning):  # rows that coincide are what this is about
        kmeans.fit(rows.take(torch.from_numpy(sample)))
    chunks = (torch.from_numpy(chunk) for chunk in np.array_split(members, math.ceil(len(members) / _TILE)))
    labels = np.concatenate([kmeans.predict(rows.take(chunk)).cpu().numpy() for chunk in chunks])
    parts = [members[labels == part] for part in np.unique(labels)]
    if len(parts) == 1:
        yield from (members[start : start + limit] for start in range(0, len(members), limit))
        return
    for part in parts:
        yield from _split(rows, part, limit, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within, torch computes on one core, in this thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(
    session: Session, ordered: np.ndarray, threshold: float, *, block: int = _BLOCK, tile: int = _TILE
) -> tuple[np.ndarray, np.ndarray]:
    """For each row of one group, most preferred first: the first row before it within the threshold, or -1.

    Also their canonical score. A row found is not looked at again, and only (block, tile) cosines are ever held.
    """
    unit = session.rows.take(torch.from_numpy(ordered))
    found = np.full(len(ordered), -1, np.int64)
    for start in range(0, len(ordered), block):
        stop = min(start + block, len(ordered))
        left = np.arange(start, stop)
        for first in range(0, stop, tile):
            before = np.arange(first, min(first + tile, stop))
            near = _near(unit, left, before, session, threshold, tile) & (before[None, :] < left[:, None])
            hit = near.any(axis=1)
            found[left[hit]] = before[near[hit].argmax(axis=1)]
            left = left[~hit]
            if len(left) == 0:
                break
    cosines = np.zeros(len(ordered))
    for part in np.array_split(np.flatnonzero(found >= 0), math.ceil(len(ordered) / tile)):
        cosines[part] = _pairs(unit, part, found[part])
    return found, cosines


def _near(
    unit: Tensor, left: np.ndarray, before: np.ndarray, session: Session, threshold: float, tile: int
) -> np.ndarray:
    """Whether the canonical score of each pair reaches the threshold, (left, before) bool.

    Rounding keeps order, so float32 cosines decide unless they equal the rounded threshold; those are settled.
    """
    block = Batch(0, unit[torch.from_numpy(left).to(unit.device)])
    cosines = session.cosines(block, unit[int(before[0]) : int(before[-1]) + 1]).cpu().numpy()
    rounded = np.float32(threshold)
    near: np.ndarray = cosines > rounded
    i, j = np.nonzero(cosines == rounded)
    for part in np.array_split(np.arange(len(i)), math.ceil(len(i) / tile) or 1):
        near[i[part], j[part]] = _pairs(unit, left[i[part]], before[j[part]]) >= threshold
    return near


def _pairs(unit: Tensor, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Canonical score of each pair."""
    first, second = (unit[torch.from_numpy(index).to(unit.device)] for index in (left, right))
    return sphere.scores(first, second).cpu().numpy()


def _told(splits: dict[int, int], sizes: np.ndarray, limit: int) -> str:
    listed = [
        f"cluster {cluster}: {sizes[cluster]:,} rows in {n} parts" for cluster, n in list(splits.items())[:_SHOWN]
    ]
    more = f" and {len(splits) - _SHOWN} more" if len(splits) > _SHOWN else ""
    return (
        f"{len(splits)} clusters have more than max_cluster_size={limit} rows and are compared in parts "
        f"({'; '.join(listed)}{more}): duplicates in different parts stay. Raise max_cluster_size or fit more clusters."
    )


def _check_options(threshold: float, keep: str) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not -1.0 <= threshold <= 1.0:
        raise OptionError(
            f"threshold is a cosine between -1 and 1, got {brief(threshold)}. Near-duplicates: about 0.95."
        )
    if not isinstance(keep, str) or keep not in _KEEP:
        raise OptionError(f'keep must be "closest" or "farthest", got {brief(keep)}.')

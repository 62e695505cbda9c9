"""One epoch: an assignment, the sums, the update that follows, and the numbers that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.data import Batch, CostCounters, OwnChords, store
from cosmeans.sphere import Update


@dataclass(frozen=True, slots=True)
class EpochStats:
    """The numbers of one epoch: integers exactly, similarity as eq. 7, before any cluster is relocated.

    assigned    rows with a label; squared_sizes: sum of size^2 over the clusters
    degenerate  clusters without direction
    moved       whether the bits of any centroid changed
    """

    similarity: float
    squared_shift: float
    squared_sizes: float
    assigned: int
    largest: int
    empty: int
    degenerate: int
    moved: bool
    changed: int
    settled: int

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    @classmethod
    def of(cls, numbers: list[float]) -> EpochStats:
        """From float64 numbers in the order of the fields."""
        similarity, shift, sizes = numbers[:3]
        assigned, largest, empty, degenerate, moved, changed, settled = map(int, numbers[3:])
        return cls(similarity, shift, sizes, assigned, largest, empty, degenerate, bool(moved), changed, settled)

    def ending_with(self, centroids: Tensor, before: Tensor) -> EpochStats:
        """The same epoch, had its update ended with these centroids."""
        shift = float(sphere.squared_shift(centroids, before))
        return replace(self, squared_shift=shift, moved=not torch.equal(centroids, before))


@dataclass(frozen=True, slots=True)
class Outcome:
    """An update, and a function that waits for the numbers of its epoch and returns them."""

    update: Update
    stats: Callable[[], EpochStats]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Epoch `number` (from 1) of a fit.

    centroids  (K, D): rows were assigned to these
    update     the centroids that follow
    stats      waits for this epoch alone, and returns its numbers
    counters   what its labels cost; None: not counted
    """

    number: int
    centroids: Tensor
    update: Update
    stats: Callable[[], EpochStats]
    counters: CostCounters | None = None


class FindsChords(Protocol):
    """What computes scores and chords of rows: a session, or the operations of one."""

    @property
    def chords(self) -> Callable[[Batch, Tensor, Tensor], tuple[Tensor, Tensor]]: ...

    @property
    def inertia_limbs(self) -> Callable[[Tensor, Tensor | None], Tensor]: ...


class PendingChords:
    """`OwnChords` of rows, batch by batch, within the pass that labels them."""

    def __init__(self, finds: FindsChords, n_rows: int, device: torch.device) -> None:
        self._finds = finds
        self._scores = torch.empty(n_rows, dtype=torch.float64, device=device)
        self._limbs = torch.zeros(4, dtype=torch.int64, device=device)

    def add(self, batch: Batch, centroids: Tensor, labels: Tensor) -> None:
        scores, squared = self._finds.chords(batch, centroids, labels)
        store(scores, self._scores[batch.span])
        self._limbs += self._finds.inertia_limbs(squared, batch.weights)

    def joined(self, exponent: int) -> OwnChords:
        """Those of all rows. exponent: of the weights (rule 4)."""
        return OwnChords(self._scores, sphere.joined_limbs(self._limbs.tolist(), exponent))


def outcome(direction: Tensor, count: Tensor, previous: Tensor, total: int, changed: int, settled: int) -> Outcome:
    """The update that follows these sums, with the numbers of the epoch."""
    update = sphere.update_centroids(direction, previous)
    mean, shift = sphere.similarity(direction, previous, total), sphere.squared_shift(update.centroids, previous)
    return finished(update, previous, float(mean), float(shift), count, changed, settled)


def finished(
    update: Update,
    previous: Tensor,
    similarity: float,
    squared_shift: float,
    count: Tensor,
    changed: int,
    settled: int,
) -> Outcome:
    """An update whose similarity and shift are known, from wherever they were computed."""
    sizes = count.to(torch.float64)
    stats = EpochStats(
        similarity=similarity,
        squared_shift=squared_shift,
        squared_sizes=float((sizes * sizes).sum()),
        assigned=int(count.sum()),
        largest=int(count.max()),
        empty=int((count == 0).sum()),
        degenerate=int(update.degenerate.sum()),
        moved=not _equal(update.centroids, previous),
        changed=changed,
        settled=settled,
    )
    return Outcome(update, lambda: stats)


def _equal(new: Tensor, old: Tensor) -> bool:
    """Whether all entries are equal. NumPy on the CPU: torch's threads would stay awake and delay what follows."""
    if new.device.type == "cpu":
        return np.array_equal(new.numpy(), old.numpy())
    return torch.equal(new, old)

"""The three seams of a fit. A pass over the data is a sum: batches add, ranks add, a backend adds one batch.

Rules that hold for every implementation:
ties      the lowest index among the largest canonical scores (`sphere.scores`), over all K centroids
dtypes    labels int32 inside, sums int64, scores float64, centroids and similarities float32 unit rows
order     nothing depends on the order or the size of batches, nor on the rows beside a row
owners    rows belong to the caller and are never written; `labels` and `sums` belong to the loop
rows      batches hold raw rows; what they mean is `sphere.unit_rows(batch.rows, batch.norms)`
places    all tensors lie on the backend's device, except rows that a Receiver left on the host
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cosmeans.data import Assignment, Batch, ClusterSums, Coming, Received
from cosmeans.result import EpochCost, Iteration
from cosmeans.sphere import Lengths, Outcome


class RowsByIndex(Protocol):
    """N rows, of which some are taken: what a random start asks for."""

    n_rows: int
    n_features: int
    scale: int
    """s of rule 4, from the total weight of all rows."""

    def take(self, indices: Tensor) -> Tensor:
        """Unit rows by index, (len(indices), D) float32, after rule 1. Rows left out come as zeros, never as NaN.

        What is measured of some rows is measured of those that `RowSource.spread` names, or that are `kept`.
        """
        ...

    def kept(self, indices: Tensor) -> Tensor:
        """Whether these rows take part (have a direction, and weight above 0), (len(indices),) bool on the host."""
        ...

    def masses(self) -> Tensor | None:
        """term(w, 2^s) of every row, left-out ones too, (N,) int64; None: all are 2^s."""
        ...


class RowSource(RowsByIndex, Protocol):
    """N rows in a fixed order, read batch by batch."""

    n_bytes: int
    """Size of the rows as they lie: what is kept beside them is measured by it."""
    device: torch.device
    """Where lengths, weights and labels lie, and rows that `take` returns."""
    rows_device: torch.device
    """Where the rows of batches lie: `device`, or the host. Only a Receiver is given rows of the host."""
    total: int
    """V of rule 4: the sum of term(w, 2^s) over the rows kept."""
    exponent: int
    """The caller's weights were multiplied by 2^exponent (rule 4)."""

    def batches(self) -> Iterator[Batch]:
        """Every row once, in order."""
        ...

    def spread(self, size: int) -> Tensor:
        """Indices of at most `size` rows that are `kept`, evenly spread over all of them, (S,) int64 on the host.

        Fewer, or none, where so few are.
        """
        ...

    def sample(self, indices: Tensor) -> RowSource:
        """The rows of these indices (int64, in order) as a source of its own, without a second copy of them."""
        ...


class Backend(Protocol):
    """How one batch is assigned and added. One instance serves one fit or one predict."""

    name: str
    device: torch.device
    lookahead: int
    """Epochs that may be queued beyond the one whose figures are read next: 0 where reading waits for nothing."""

    def squared_norms(self, rows: Tensor) -> Tensor:
        """`sphere.squared_norms`, (B,) float64."""
        ...

    def lengths(self, squared: Tensor) -> Lengths:
        """`sphere.lengths` of what `squared_norms` gave."""
        ...

    def begin(self, rows: RowSource) -> None:
        """A fit over these rows starts: per-row state may be made (and is bounded by this backend)."""
        ...

    def prepare(self, centroids: Tensor) -> Any:
        """Whatever a pass needs to know of the centroids; handed back to `assign` for every batch."""
        ...

    def assign(self, batch: Batch, prepared: Any, before: Tensor) -> Assignment:
        """Label of every row. `before` (B,) int32: its label in the pass before, -1 if there was none."""
        ...

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int | Tensor:
        """Move the rows whose label changed from sum to sum, and write their labels into `before`.

        Returns how many those were.
        """
        ...

    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> Outcome:
        """`sphere.outcome`: the centroids that follow these sums, and the figures of the epoch."""
        ...

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        """Canonical score of each row with the centroid of its label, (B,) float64; 0 for label -1."""
        ...

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`scores`, and `sphere.squared_chords` from the same centroids, (B,) float64 each; 0 for label -1."""
        ...

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        """`sphere.inertia_limbs` of the squared chords of a batch, (4,) int64."""
        ...

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        """Canonical scores with every centroid, rounded to float32, (B, K); 0 for rows not kept."""
        ...

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        """Raise best (B,) float64 to the canonical score with this centroid (D,) where that is larger."""
        ...


@dataclass(frozen=True, slots=True)
class Loan:
    """Where a fit works, lent by a backend: the rows there, labels (N,) int32 that are all -1, and sums that are 0.

    The next fit may get the same memory: what shall last is copied.
    """

    rows: RowSource
    labels: Tensor
    sums: ClusterSums


@runtime_checkable
class Recorder(Protocol):
    """A backend that can play an epoch back: starting each piece of work anew costs more than a small fit's work."""

    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
        """A place for the fit begun last, whose centroids are like these. None: it works where its rows lie."""
        ...

    def repeat(self, work: Callable[[Tensor], Outcome | None], centroids: Tensor, observer: Observer) -> Outcome | None:
        """work(centroids), or the same played back; `work` is one epoch at the place lent last.

        It reads nothing from the device and decides nothing by values. An epoch played back tells the observer of
        its rows at once. Its outcome stays for as long as `lookahead` more epochs and a few are played.
        """
        ...


@runtime_checkable
class Receiver(Protocol):
    """A backend that takes rows of the host its own way, and can work with rows that stay there.

    One of both functions is called before the source of the rows is made.
    """

    def expect(self, rows: Tensor, coming: Coming) -> None:
        """Rows that lie on the device are inspected next, then labelled.

        What inspection and passes need of the rows may be found at once. They must stay as they are.
        """
        ...

    def receive(
        self, rows: Tensor, coming: Coming, *, say: Callable[[str], None], progress: Callable[[int, int], None]
    ) -> Received:
        """The rows where this backend wants them, before their source is made. The way is chosen before any work.

        say       is told in one line if the rows stay on the host
        progress  called with (rows read, N)

        Raises DeviceMemoryError if there is no way.
        """
        ...


class Group(Protocol):
    """The processes that share the rows of one fit."""

    alone: bool
    """Whether this process holds all rows, so that `sum` returns what it gets."""

    def sum(self, sums: ClusterSums) -> ClusterSums:
        """Sums over all ranks. Integers only: the same bits on every rank."""
        ...


class Observer(Protocol):
    """Who watches a fit: progress bars, tests, the interrupt of the command line."""

    @property
    def stop_requested(self) -> bool:
        """True: end after this batch, with the centroids of the last finished epoch."""
        ...

    def run(self, number: int, of: int) -> None:
        """One of several starts begins (1-based)."""
        ...

    def seeding(self, done: int, total: int) -> None:
        """First centroids found so far."""
        ...

    def reading(self, rows: int, total: int) -> None:
        """Rows inspected so far, before the first epoch (of total)."""
        ...

    def epoch(self, number: int, of: int) -> None:
        """An epoch begins (1-based). `of` = 0: the last assignment, whose labels are returned."""
        ...

    def batch(self, rows: int) -> None:
        """So many more rows were assigned."""
        ...

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        """An epoch ended; what it found, and what it cost."""
        ...

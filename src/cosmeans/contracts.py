"""The seams of a fit. A pass over the data is a sum: batches add, processes add, a session adds one batch.

Rules for every implementation:
ties      the lowest index among the largest canonical scores (`sphere.scores`), over all K centroids
dtypes    labels int32 inside, sums int64, scores float64, centroids and similarities float32 unit rows
order     nothing depends on the order or the size of batches, nor on the other rows of a batch
owners    rows belong to the caller and are never written; labels and sums belong to the session
devices   centroids, labels, weights, scores are on the session's device; the rows of a batch may stay on the host
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from cosmeans.data import Batch, ClusterSums, Labelled, Task
from cosmeans.epoch import Epoch
from cosmeans.observer import Log, Observer


class RowSource(Protocol):
    """Where rows come from: N rows of D numbers in a fixed order. Only reading, no arithmetic."""

    n_rows: int
    n_features: int
    n_bytes: int
    dtype: torch.dtype
    device: torch.device  # where `read` and `gather` return rows

    @property
    def n_direct(self) -> int:
        """Of so many first rows, single ones can be had without reading those around them."""

    def read(self, span: slice) -> Tensor:
        """Consecutive rows as they are stored, (B, D); never written to, so they may be a view."""

    def view(self) -> Tensor:
        """All rows as one tensor (N, D), as they are stored. Raises FileError where memory has no room for that."""

    def gather(self, indices: Tensor) -> Tensor:
        """Rows by index (int64, on `device`), (len(indices), D), as they are stored."""

    def hold_none(self) -> None:
        """Keep no rows in memory for later passes, from now on: for a reader that needs each of them once."""

    def part(self, indices: Tensor) -> RowSource | None:
        """These rows, in order, where they can be read again and again for less than by `gather`; else None."""

    def where(self, row: int) -> str:
        """A row in words, for messages: "row 7", and which of which file it is where there are several."""


class RowsByIndex(Protocol):
    """What a start at random rows asks for."""

    n_rows: int
    n_features: int
    scale: int  # s of rule 4, from the total weight of all rows

    def take(self, indices: Tensor) -> Tensor:
        """Unit rows by index, (len(indices), D) float32, after rule 1. Rows left out come as zeros, never as NaN."""

    def kept(self, indices: Tensor) -> Tensor:
        """Whether these rows take part (have a direction, and weight above 0), (len(indices),) bool on the host."""

    def masses(self) -> Tensor | None:
        """term(w, 2^s) of every row, left-out ones too, (N,) int64; None: all are 2^s."""


class InspectedRows(RowsByIndex, Protocol):
    """The rows of a source with what one pass over them found: lengths, rows left out, the total weight."""

    n_bytes: int
    device: torch.device  # where lengths and weights are, and rows that `take` returns
    rows_device: torch.device  # where the rows of batches are: `device`, or the host
    in_place: bool  # whether `batches` gives the same memory in every pass
    total: int  # V of rule 4: the sum of term(w, 2^s) over the rows kept
    exponent: int  # the caller's weights were multiplied by 2^exponent (rule 4)

    def batches(self, narrow: bool = False) -> Iterator[Batch]:
        """Every row once, in order. narrow: they may be heads (`Batch.narrow`)."""

    def spread(self, size: int) -> Tensor:
        """Indices of at most `size` rows that are `kept`, evenly spread over those at hand, (S,) int64 on the host."""

    def sample(self, indices: Tensor) -> InspectedRows:
        """The rows of these indices (int64, in order), without a second copy of them."""

    def need_weight(self) -> None:
        """Raise InputError if no row takes part."""


class Session(AbstractContextManager["Session"], Protocol):
    """One fit, or one pass, over the rows of a source on one device. A context manager: leaving it frees its memory."""

    device: torch.device
    rows: InspectedRows  # there once `read` has returned

    @property
    def labels_while_reading(self) -> bool:
        """Whether `read` saves a pass if it is given the first centroids."""

    def read(self, first: Tensor | None = None) -> None:
        """Read and inspect all rows; raises InputError. `first` only costs time if the first epoch starts elsewhere."""

    def subset(self, indices: Tensor, observer: Observer) -> Session:
        """A session over the rows of these indices (int64, in order), without a second copy of them; they are read."""

    def epochs(self, centroids: Tensor, limit: int) -> Iterator[Epoch]:
        """Epochs 1 to `limit` from these centroids; fewer if a stop is requested before the next one is complete."""

    def labels(self, epoch: Epoch) -> Tensor:
        """Labels (N,) int32 of the epoch yielded last."""

    def restart(self, centroids: Tensor) -> None:
        """The next epoch starts from these centroids, not from those that the last one ended with."""

    def finish(self, centroids: Tensor, at_rest: bool = False) -> Labelled:
        """Labels under the centroids of the next epoch, whatever stop is requested. at_rest: none moved in the last."""

    def assign(self, centroids: Tensor) -> Tensor:
        """Labels (N,) int32 under these centroids, in one pass."""

    def measure(self, centroids: Tensor) -> Labelled:
        """Labels, counts and mean similarity under these centroids, in one pass."""

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        """Canonical score of each row with the centroid of its label, (B,) float64; 0 for label -1."""

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`scores`, and `sphere.squared_chords` from the same centroids, (B,) float64 each; 0 for label -1."""

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        """`sphere.inertia_limbs` of the squared chords of a batch, (4,) int64."""

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        """Canonical scores with every centroid, rounded to float32, (B, K); 0 for rows left out."""

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        """Raise best (B,) float64 to the canonical score with this centroid (D,) where that is larger."""


class Backend(Protocol):
    """What computes. One instance serves any number of sessions, one after another."""

    name: str
    device: torch.device

    def session(self, source: RowSource, task: Task, group: Group, observer: Observer, log: Log) -> Session:
        """A session over these rows. Raises DeviceMemoryError when it is entered and there is no room for them."""

    def squared_norms(self, rows: Tensor) -> Tensor:
        """`sphere.squared_norms`, (B,) float64."""


class Group(Protocol):
    """The processes that share the rows of one fit."""

    alone: bool  # whether this process holds all rows, so that `sum` returns what it gets

    def sum(self, sums: ClusterSums) -> ClusterSums:
        """Sums over all processes. Integers only: the same bits in every process."""

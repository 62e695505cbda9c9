"""What a fit gives back: plain values, no tensor mathematics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, overload

from torch import Tensor, device

from cosmeans.tabular import Columns, Tabular


class StopReason(StrEnum):
    """Why a fit ended."""

    FIXED_POINT = "fixed point"
    TOLERANCE = "tolerance"
    EPOCHS = "epochs"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        """What to do about it, in a sentence."""
        return {
            StopReason.FIXED_POINT: "No centroid moved: more epochs change nothing.",
            StopReason.TOLERANCE: "Every centroid moved by at most tol; a smaller tol would continue.",
            StopReason.EPOCHS: "The epoch limit was reached; fit again to continue.",
            StopReason.INTERRUPTED: "Stopped on request; fit again to continue.",
        }[self]


@dataclass(frozen=True, slots=True)
class Iteration:
    """One epoch: an assignment and the update that follows it. Equal fits have equal values, to the last bit.

    Attributes
    ----------
    similarity
        Mean cosine of the rows with their centroids, before the update.
    shift
        Farthest any centroid moved in the update, as a chord (0 to 2).
    changed
        Rows whose label differs from the epoch before; None where the fit went on from a checkpoint, which has no
        labels.
    moved
        Clusters without direction that were moved to a row.
    imbalance
        K * sum(size^2) / (sum size)^2: 1 when all clusters are of one size.
    largest
        Rows in the largest cluster.
    empty
        Clusters without a row.
    """

    similarity: float
    shift: float
    changed: int | None
    moved: int
    imbalance: float
    largest: int
    empty: int


@dataclass(frozen=True, slots=True)
class EpochCost:
    """What one epoch cost on the machine that ran it. The answer does not depend on it, and no model stores it.

    Attributes
    ----------
    seconds
        Wall time of the epoch, without what its code took to be compiled.
    settled
        Rows that canonical scores had to decide.
    strategy
        How the backend found the labels, in words.
    dots
        Dot products of rows with centroids that were computed, in any precision; None: not counted.
    skipped
        Dot products that a bound made unnecessary.
    kept_bytes
        Memory kept from epoch to epoch, besides the rows.
    """

    seconds: float
    settled: int = 0
    strategy: str = ""
    dots: int | None = None
    skipped: int | None = None
    kept_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fit is: what its next epoch needs. stop: why there is none; None: there is one.

    centroids  (K, D) float32, unit length: those that the last of the iterations ended with
    """

    centroids: Tensor
    iterations: tuple[Iteration, ...] = ()
    stop: StopReason | None = None

    def on(self, device: device) -> Progress:
        """The same with its centroids on a device."""
        return replace(self, centroids=self.centroids.to(device))


@dataclass(frozen=True, slots=True, repr=False)
class History(Tabular):
    """The epochs of a fit, in order; the history of a continued fit includes the earlier epochs.

    `history[0]` is the first Iteration, `history[-3:]` the History of the last three. As a table: one row an epoch.
    """

    iterations: Sequence[Iteration] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "iterations", tuple(self.iterations))

    def __len__(self) -> int:
        return len(self.iterations)

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self.iterations)

    @overload
    def __getitem__(self, index: int) -> Iteration: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Iteration | History:
        return History(self.iterations[index]) if isinstance(index, slice) else self.iterations[index]

    @property
    def similarities(self) -> list[float]:
        """Mean similarity of every epoch."""
        return [iteration.similarity for iteration in self.iterations]

    def to_json(self) -> list[dict[str, Any]]:
        """One record per epoch."""
        return [asdict(iteration) for iteration in self.iterations]

    def _columns(self) -> Columns:
        names = [spec.name for spec in fields(Iteration)]
        numbers = {name: [getattr(iteration, name) for iteration in self.iterations] for name in names}
        return {"epoch": list(range(1, len(self) + 1)), **numbers}

    def _summary(self) -> str:
        found = self.similarities
        epochs = "1 epoch" if len(found) == 1 else f"{len(found)} epochs"
        return f"{epochs}, similarity {found[0]:.4f} to {found[-1]:.4f}" if found else epochs


@dataclass(frozen=True, slots=True)
class FitResult:
    """A finished fit.

    centroids   (K, D) float32, unit length
    labels      (N,) int32: under exactly these centroids; -1 for rows left out
    counts      (K,) int64
    similarity  mean cosine under these labels and centroids (rule 6)
    costs       what each epoch of the history cost
    own         the canonical score of every row with its centroid (N,) float64, and the inertia, where the last pass
                found them
    """

    centroids: Tensor
    labels: Tensor
    counts: Tensor
    similarity: float
    history: History
    stop_reason: StopReason
    costs: tuple[EpochCost, ...] = ()
    own: tuple[Tensor, float] | None = None

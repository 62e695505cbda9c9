"""What a fit gives back: plain values, no tensor mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from torch import Tensor


class StopReason(StrEnum):
    """Why a fit ended."""

    FIXED_POINT = "fixed point"
    TOLERANCE = "tolerance"
    EPOCHS = "epochs"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        return {
            StopReason.FIXED_POINT: "No centroid moved: more epochs change nothing.",
            StopReason.TOLERANCE: "Every centroid moved by at most tol; a smaller tol goes further.",
            StopReason.EPOCHS: "All epochs were used; fit again to go on from here.",
            StopReason.INTERRUPTED: "Stopped on request; fit again to go on from here.",
        }[self]


@dataclass(frozen=True, slots=True)
class Iteration:
    """One epoch: an assignment and the update that follows it.

    similarity  mean cosine of the rows with their centroids, before the update
    shift       longest way any centroid moved in the update, as a chord (0 to 2)
    changed     rows whose label differs from the epoch before
    settled     rows that canonical scores had to decide
    moved       clusters without direction that were moved to a row
    imbalance   K * sum(size^2) / (sum size)^2: 1 when all clusters are of one size
    largest     rows in the largest cluster
    empty       clusters without a row
    seconds     wall time of the epoch
    strategy    how the backend found the labels, in words; the labels do not depend on it
    dots        dot products of rows with centroids that were computed, in any precision; None: not counted
    skipped     dot products that a bound made unnecessary
    kept_bytes  memory held of the rows from epoch to epoch, beside the rows
    """

    similarity: float
    shift: float
    changed: int
    settled: int
    moved: int
    imbalance: float
    largest: int
    empty: int
    seconds: float
    strategy: str = ""
    dots: int | None = None
    skipped: int | None = None
    kept_bytes: int | None = None


@dataclass(slots=True)
class History:
    """The epochs of a fit, in order; fits that go on append to it."""

    iterations: list[Iteration] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.iterations)

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self.iterations)

    @property
    def similarities(self) -> list[float]:
        return [iteration.similarity for iteration in self.iterations]

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(iteration) for iteration in self.iterations]

    @classmethod
    def from_json(cls, records: list[dict[str, Any]]) -> History:
        return cls([Iteration(**record) for record in records])


@dataclass(frozen=True, slots=True)
class FitResult:
    """A finished fit.

    centroids   (K, D) float32, unit length
    labels      (N,) int32: under exactly these centroids; -1 for rows left out
    counts      (K,) int64
    similarity  mean cosine under these labels and centroids (rule 6)
    """

    centroids: Tensor
    labels: Tensor
    counts: Tensor
    similarity: float
    history: History
    stop_reason: StopReason

"""The memory of a session on the device: the plan that fits, and what is allocated, by name.

A plan counts bytes in addition to the rows themselves; `benchmarks/gpu.py memory` compares it with the measured peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu.kernels.accumulate import MoveWorkspace
from cosmeans.backends.gpu.kernels.cascade import MOST_FEATURES, CascadeWorkspace, IntegerWorkspace, gathered_rows
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows, width_of
from cosmeans.backends.gpu.kernels.refine import RefineWorkspace
from cosmeans.backends.gpu.kernels.update import OutputRing, UpdateWorkspace
from cosmeans.backends.gpu.tuning import DEFAULT, SLOTS, ResidencyPlan, Tuning
from cosmeans.data import ClusterSums
from cosmeans.errors import DeviceMemoryError

# a row of the source: its label, two events with their clusters and counters, its position among the changed; its own
# similarity, twice while batches are joined
_OF_FIT = 4 + 23 + 4 + 16
_OF_CHUNK = 4 + 20 + 68  # a row labelled at once: its label, its positions in the lists, its candidates
OF_INSPECTED = 8 + 17  # a row before its source is made: its squared length; length, weight, whether it is kept
_OF_STREAMED = 4 + 16 + 17 + 3  # a row that stays there: its label, its own similarity, the last three; rounded up
_OF_STREAMED_CHUNK = _OF_CHUNK + 64  # and what inspecting it and listing it take
_OF_FETCHED = 32  # its label, index, length and weight once more
_OF_CENTROIDS = 40  # an entry of the centroids: int64 sums, float16 columns, and the generations alive at once
_OF_CLUSTER = 300  # its lengths, hash, counts and counters of events, and up to 32 buckets of four bytes
_MARGIN = 256 << 20  # libraries, kernels, the rounding of the allocator; pooled workspaces
_ALIGNED = 64  # rows: parts begin at addresses of one kind, so that kernels are compiled once


def plan_resident(
    n_rows: int, n_features: int, n_clusters: int, room: int, device: object, tuning: Tuning = DEFAULT
) -> ResidencyPlan:
    """The fastest plan that fits into `room` bytes besides the rows. Raises DeviceMemoryError if there is none."""
    plan, least = _resident(n_rows, n_features, n_clusters, room, tuning)
    if plan is None:
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need {_mb(least)} besides the rows; "
            f'{device} has {_mb(room)} free. Free memory there, pass fewer rows, or device="cpu".'
        )
    return plan


def plan_streamed(
    n_rows: int,
    n_features: int,
    n_clusters: int,
    row_bytes: int,
    room: int,
    device: object,
    tuning: Tuning = DEFAULT,
    *,
    keep: bool = True,
) -> ResidencyPlan:
    """The fastest plan for rows that stay on the host. keep: False where no pass follows that needs their copy.

    Raises DeviceMemoryError if there is none.
    """
    if tuning.plan is not None:
        return _given(tuning.plan, n_rows)
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_STREAMED + _of_centroids(n_features, n_clusters)
    fetched = max(tuning.least_fetch, tuning.fetched // row_bytes)
    of_fetched = 2 * row_bytes + copy + _OF_FETCHED
    kept = fixed + n_rows * copy + min(n_rows, fetched) * of_fetched
    chunk = aligned(min(n_rows, tuning.most_per_chunk, (room - kept) // _OF_STREAMED_CHUNK))
    if keep and chunk >= min(n_rows, tuning.least_chunk):
        return ResidencyPlan(
            copied=True, chunk=chunk, n_bytes=kept + chunk * _OF_STREAMED_CHUNK, fetched=aligned(min(chunk, fetched))
        )
    row = _OF_STREAMED_CHUNK + of_fetched
    chunk = aligned(min(n_rows, fetched, (room - fixed) // row))
    if chunk < min(n_rows, tuning.least_fetch):
        raise DeviceMemoryError(
            f"{n_rows} rows of {n_features} entries and {n_clusters} clusters need "
            f"{_mb(fixed + min(n_rows, tuning.least_fetch) * row)} on {device} even if the rows stay on the host; "
            f'{_mb(room)} are free. Free memory there, ask for fewer clusters, or pass device="cpu".'
        )
    return ResidencyPlan(copied=False, chunk=chunk, n_bytes=fixed + chunk * row, fetched=chunk)


def plan_incoming(
    shape: torch.Size,
    row_bytes: int,
    n_clusters: int,
    room: int,
    device: object,
    tuning: Tuning = DEFAULT,
    *,
    keep: bool = True,
) -> ResidencyPlan:
    """The fastest plan for rows of the host: they are kept on the device, or their float16 copy is, or neither.

    Raises DeviceMemoryError if there is none.
    """
    n_rows, n_features = shape
    resident, _ = _resident(n_rows, n_features, n_clusters, room - n_rows * (row_bytes + OF_INSPECTED), tuning)
    return resident or plan_streamed(n_rows, n_features, n_clusters, row_bytes, room, device, tuning, keep=keep)


def rows_per_chunk(n_features: int, room: int, tuning: Tuning = DEFAULT) -> int:
    """Rows labelled at once where nothing was planned and no copy stays: they take up to half of the room."""
    affordable = room // 2 // (_of_copy(n_features) + _OF_CHUNK)
    return max(tuning.least_chunk, min(tuning.most_per_chunk, affordable))


def rows_per_fetch(row_bytes: int, tuning: Tuning = DEFAULT) -> int:
    """Rows fetched at once where nothing was planned."""
    return aligned(max(tuning.least_fetch, tuning.fetched // row_bytes))


def aligned(rows: int) -> int:
    """Rows taken at once, such that those behind them begin at an address of the same kind."""
    return rows if rows < _ALIGNED else rows // _ALIGNED * _ALIGNED


def _given(plan: ResidencyPlan, n_rows: int) -> ResidencyPlan:
    """For so many rows."""
    return replace(plan, chunk=min(plan.chunk, n_rows))


def _resident(
    n_rows: int, n_features: int, n_clusters: int, room: int, tuning: Tuning
) -> tuple[ResidencyPlan | None, int]:
    """The fastest plan for rows on the device, if one fits, and the least that one takes."""
    if tuning.plan is not None:
        return _given(tuning.plan, n_rows), 0
    copy = _of_copy(n_features)
    fixed = n_rows * _OF_FIT + _of_centroids(n_features, n_clusters)
    whole = fixed + n_rows * (copy + _OF_CHUNK)
    cascading = whole + _of_cascade(n_rows, n_features, n_clusters)
    if cascading <= room and n_features <= MOST_FEATURES:
        return ResidencyPlan(copied=True, chunk=n_rows, n_bytes=cascading, cascade=True), cascading
    if whole <= room:
        return ResidencyPlan(copied=True, chunk=n_rows, n_bytes=whole), whole
    least = fixed + min(n_rows, tuning.least_chunk) * (copy + _OF_CHUNK)
    if room < least:
        return None, least
    chunk = min(n_rows, tuning.most_per_chunk, (room - fixed) // (copy + _OF_CHUNK))
    return ResidencyPlan(copied=False, chunk=chunk, n_bytes=fixed + chunk * (copy + _OF_CHUNK)), least


def _of_copy(n_features: int) -> int:
    """Of a row's float16 copy, with its residual and its unit."""
    return 2 * width_of(n_features) + 8


def _of_cascade(n_rows: int, n_features: int, n_clusters: int) -> int:
    """Of the first stage and gathering: codes, lists and gathered rows, and codes of centroids."""
    codes = width_of(n_features, integers=True)
    return n_rows * (codes + 8 + 20) + gathered_rows(n_rows) * _of_copy(n_features) + 2 * n_clusters * codes


def _of_centroids(n_features: int, n_clusters: int) -> int:
    return n_clusters * (n_features * _OF_CENTROIDS + _OF_CLUSTER) + _MARGIN


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


# ------------------------------------------------------------ what is allocated

NO_EPOCH = -1


class Workspace:
    """Working memory by name, and the epochs that were captured with its addresses (`graph.CapturedEpochs`).

    n_bytes      about, while it is pooled
    columns_for  the epoch that starts from the centroids whose columns are here, left by the one replayed before it
    """

    def __init__(self, device: torch.device, tuning: Tuning = DEFAULT) -> None:
        self.device, self._move_span = device, tuning.move_span
        self.n_bytes, self.columns_for = 0, NO_EPOCH
        self.captured: Any = None
        self._made: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def get(self, name: str, shape: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What was made under this name, made again if its shape is another one."""
        if name in self._made and self._made[name][0] != shape:
            self.captured = None  # it uses the memory that goes
            del self._made[name]
        if name not in self._made:
            self._made[name] = (shape, make())
        return self._made[name][1]

    def at_least(self, name: str, n: int, kind: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """The same for n rows, or for more: the last rows of a pass are often fewer."""
        shape, made = self._made.get(name, ((0,), None))
        if made is not None and shape[1:] == kind and shape[0] >= n:
            return made
        return self.get(name, (n, *kind), make)

    def centroids(self, k: int, d: int, tile: int) -> CentroidWorkspace:
        space: CentroidWorkspace = self.get("centroids", (k, d), lambda: CentroidWorkspace(k, d, tile, self.device))
        return space

    def integers(self, k: int, d: int, tile: int) -> IntegerWorkspace:
        space: IntegerWorkspace = self.get("integers", (k, d), lambda: IntegerWorkspace(k, d, tile, self.device))
        return space

    def resident(self, n: int, d: int, tile: int, integers: bool = False) -> QuantizedRows:
        """For the narrow copy of all rows."""
        make = lambda: QuantizedRows.empty(n, d, tile, self.device, integers=integers)  # noqa: E731
        copy: QuantizedRows = self.get("resident codes" if integers else "resident", (n, d, tile), make)
        return copy

    def chunk(self, n: int, d: int, tile: int, integers: bool = False) -> QuantizedRows:
        """For the narrow copy of the rows that are labelled at once."""
        make = lambda: QuantizedRows.empty(n, d, tile, self.device, integers=integers)  # noqa: E731
        copy: QuantizedRows = self.at_least("chunk codes" if integers else "chunk", n, (d, tile), make)
        return copy

    def cascade(self, n: int, d: int, tile: int) -> CascadeWorkspace:
        space: CascadeWorkspace = self.at_least(
            "cascade", n, (d, tile), lambda: CascadeWorkspace(n, d, tile, self.device)
        )
        return space

    def refining(self, n: int) -> RefineWorkspace:
        space: RefineWorkspace = self.at_least("refining", n, (), lambda: RefineWorkspace(n, self.device))
        return space

    def labels(self, n: int) -> Tensor:
        make = lambda: torch.empty(n, dtype=torch.int32, device=self.device)  # noqa: E731
        labels: Tensor = self.at_least("labels", n, (), make)
        return labels[:n]

    def moves(self, n: int, k: int) -> MoveWorkspace:
        space: MoveWorkspace = self.at_least(
            "moves", n, (k,), lambda: MoveWorkspace(n, k, self.device, span=self._move_span)
        )
        return space

    def updates(self, k: int) -> UpdateWorkspace:
        space: UpdateWorkspace = self.get("updates", (k,), lambda: UpdateWorkspace(k, self.device))
        return space

    def number(self, value: float | Tensor, dtype: torch.dtype) -> Tensor:
        """A number as device memory, made once."""
        if isinstance(value, Tensor):
            return value
        make = lambda: torch.full((1,), value, dtype=dtype, device=self.device)  # noqa: E731
        number: Tensor = self.get(f"number {value} {dtype}", (), make)
        return number

    def copy(self, name: str, values: Tensor | None) -> Tensor | None:
        """Values copied here; None stays None."""
        if values is None:
            return None
        make = lambda: torch.empty(values.shape, dtype=values.dtype, device=self.device)  # noqa: E731
        target: Tensor = self.get(name, tuple(values.shape), make)
        return target.copy_(values)


@dataclass(frozen=True, slots=True)
class FitState:
    """What the epochs of a fit work on: labels (N,), sums, and where outcomes go."""

    labels: Tensor
    sums: ClusterSums
    ring: OutputRing | None = None
    numbers: Tensor | None = None  # all of the sums and the turn of the ring, to be zeroed at once

    @classmethod
    def plain(cls, n_rows: int, k: int, d: int, scale: int, device: torch.device) -> FitState:
        """For epochs that are not captured, ready."""
        labels = torch.full((n_rows,), -1, dtype=torch.int32, device=device)
        return cls(labels, ClusterSums.zeros(k, d, scale, device))

    @classmethod
    def for_replay(cls, n_rows: int, k: int, d: int, scale: int, device: torch.device) -> FitState:
        """With a ring of slots for outcomes; `reset` makes it ready."""
        numbers = torch.empty(k * d + k + 1, dtype=torch.int64, device=device)
        sums = ClusterSums(numbers[: k * d].view(k, d), numbers[k * d : -1], scale)
        labels = torch.empty(n_rows, dtype=torch.int32, device=device)
        return cls(labels, sums, OutputRing.ring(SLOTS, k, d, numbers[-1:]), numbers)

    def reset(self) -> None:
        """No row has a label, and no epoch has been replayed."""
        assert self.numbers is not None
        self.labels.fill_(-1)
        self.numbers.zero_()

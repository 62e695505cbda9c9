"""What a session allocates on the device, by name; `plans` counts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu.kernels.accumulate import MoveWorkspace
from cosmeans.backends.gpu.kernels.cascade import CascadeWorkspace, IntegerWorkspace
from cosmeans.backends.gpu.kernels.columns import CentroidWorkspace
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.refine import RefineWorkspace
from cosmeans.backends.gpu.kernels.update import OutputRing, UpdateWorkspace
from cosmeans.backends.gpu.tuning import DEFAULT, SLOTS, Tuning
from cosmeans.data import ClusterSums

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

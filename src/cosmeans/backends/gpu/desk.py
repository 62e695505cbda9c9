"""The working memory of a backend, by name; that of fits whose passes are short waits for the next one of its kind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosmeans.backends.gpu.kernels.accumulate import MoveSpace
from cosmeans.backends.gpu.kernels.cascade import LadderSpace
from cosmeans.backends.gpu.kernels.columns import CentroidSpace, IntegerSpace
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.refine import SettleSpace
from cosmeans.backends.gpu.kernels.update import UpdateSpace

_DESKS = 4  # kinds of fits whose working memory waits for the next one
_PART = 64  # of the device's memory: what all of them may take there
_ELSEWHERE = 128 << 20  # bytes, where there is no GPU to ask

_waiting: dict[object, Desk] = {}


class Desk:
    """Working memory by name, and the epochs recorded in it (`record.Recording`). n_bytes: about, while it waits."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.n_bytes = 0
        self.recording: Any = None
        self._made: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def get(self, name: str, shape: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What was made under this name, made anew if its shape is another one."""
        if name in self._made and self._made[name][0] != shape:
            self.recording = None  # it uses the memory that goes
            del self._made[name]
        if name not in self._made:
            self._made[name] = (shape, make())
        return self._made[name][1]

    def room(self, name: str, n: int, kind: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """The same for n rows, or for more: the last rows of a pass are often fewer."""
        shape, made = self._made.get(name, ((0,), None))
        if made is not None and shape[1:] == kind and shape[0] >= n:
            return made
        return self.get(name, (n, *kind), make)

    def centroids(self, k: int, d: int, tile: int) -> CentroidSpace:
        space: CentroidSpace = self.get("centroids", (k, d), lambda: CentroidSpace(k, d, tile, self.device))
        return space

    def integers(self, k: int, d: int, tile: int) -> IntegerSpace:
        space: IntegerSpace = self.get("integers", (k, d), lambda: IntegerSpace(k, d, tile, self.device))
        return space

    def resident(self, n: int, d: int, tile: int, integers: bool = False) -> Copy:
        """For the narrow copy of all rows."""
        make = lambda: Copy.empty(n, d, tile, integers, self.device)  # noqa: E731
        copy: Copy = self.get("resident codes" if integers else "resident", (n, d, tile), make)
        return copy

    def part(self, n: int, d: int, tile: int, integers: bool = False) -> Copy:
        """For the narrow copy of the rows that are labelled at once."""
        make = lambda: Copy.empty(n, d, tile, integers, self.device)  # noqa: E731
        copy: Copy = self.room("part codes" if integers else "part", n, (d, tile), make)
        return copy

    def ladder(self, n: int, d: int, tile: int) -> LadderSpace:
        space: LadderSpace = self.room("ladder", n, (d, tile), lambda: LadderSpace(n, d, tile, self.device))
        return space

    def settling(self, n: int) -> SettleSpace:
        space: SettleSpace = self.room("settling", n, (), lambda: SettleSpace(n, self.device))
        return space

    def labels(self, n: int) -> Tensor:
        make = lambda: torch.empty(n, dtype=torch.int32, device=self.device)  # noqa: E731
        labels: Tensor = self.room("labels", n, (), make)
        return labels[:n]

    def moves(self, n: int, k: int) -> MoveSpace:
        space: MoveSpace = self.room("moves", n, (k,), lambda: MoveSpace(n, k, self.device))
        return space

    def updates(self, k: int) -> UpdateSpace:
        space: UpdateSpace = self.get("updates", (k,), lambda: UpdateSpace(k, self.device))
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
        place: Tensor = self.get(name, tuple(values.shape), make)
        return place.copy_(values)


def take_desk(kind: object, device: torch.device) -> Desk:
    """A desk that a fit of this kind has left, or an empty one. Nobody else gets it until it is left again."""
    return _waiting.pop(kind, None) or Desk(device)


def leave_desk(kind: object, desk: Desk) -> None:
    """For the next fit of this kind; those unused for longest give way."""
    _waiting[kind] = desk
    kept, n_bytes = 0, 0
    for other, waiting in reversed(list(_waiting.items())):  # a list at once: other threads take and leave meanwhile
        if waiting.device == desk.device:
            kept, n_bytes = kept + 1, n_bytes + waiting.n_bytes
            if kept > _DESKS or n_bytes > most_waiting(desk.device):
                _waiting.pop(other, None)


@functools.cache
def most_waiting(device: torch.device) -> int:
    """Bytes that the desks of a device may take while they wait."""
    if device.type != "cuda":
        return _ELSEWHERE
    n_bytes: int = torch.cuda.get_device_properties(device).total_memory
    return n_bytes // _PART


def clear_desks() -> None:
    """Give the memory of the desks that wait back."""
    _waiting.clear()

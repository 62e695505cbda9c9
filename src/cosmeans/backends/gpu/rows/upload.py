"""Sending rows of the host to a device: through pinned pieces that all cores fill, while earlier rows are worked on."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from cosmeans.backends.gpu.tuning import DEFAULT, Tuning
from cosmeans.data import Batch

GATHERED = -1  # `start` of a batch whose rows are not consecutive
_SLOTS = 2  # one is filled, one is on its way; with more, they don't stay in the processor's cache in between


class Event(Protocol):
    """A point in a queue of work."""

    def synchronize(self) -> None:
        """Return when the work before it is done."""


class Copies(Protocol):
    """A queue of copies of its own. The queue of work is torch's current stream."""

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Queue a copy. The source must stay as it is until `copied` has happened."""

    def copied(self) -> Event:
        """An event after the copies so far."""

    def join(self) -> None:
        """Work queued from now on waits for the copies so far."""

    def work_done(self) -> Event:
        """An event after the work so far."""

    def follow(self, event: Event) -> None:
        """Copies from now on wait for that work."""


class CopyStream:
    """A stream of its own on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream:
        """Most fits send nothing."""
        return torch.cuda.Stream(self._device)

    def copy(self, into: Tensor, source: Tensor) -> None:
        with torch.cuda.stream(self._stream):
            into.copy_(source, non_blocking=True)

    def copied(self) -> Event:
        event: Event = self._stream.record_event()
        return event

    def join(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def work_done(self) -> Event:
        event: Event = torch.cuda.current_stream(self._device).record_event()
        return event

    def follow(self, event: Event) -> None:
        self._stream.wait_event(event)  # type: ignore[arg-type]


class Immediate:
    """Where nothing is queued: the kernels run in Triton's interpreter."""

    def __init__(self, device: torch.device) -> None: ...

    def copy(self, into: Tensor, source: Tensor) -> None:
        into.copy_(source)

    def copied(self) -> Event:
        return self

    def join(self) -> None: ...

    def work_done(self) -> Event:
        return self

    def follow(self, event: Event) -> None: ...

    def synchronize(self) -> None: ...


@dataclass(slots=True)
class _Staging:
    """Two slots for rows that stay on the host: one is written while the other is read."""

    slots: Tensor
    done: list[Event | None] = field(default_factory=lambda: [None, None])
    side: int = 0


class Upload:
    """Sends rows of the host to one device. Nothing here waits for the device, except for a pinned piece."""

    def __init__(self, device: torch.device, tuning: Tuning = DEFAULT) -> None:
        self._device, self._piece = device, tuning.upload_piece
        make = tuning.copies or (CopyStream if device.type == "cuda" else Immediate)
        self._copies: Copies = make(device)
        self._pinned: Tensor | None = None
        self._sent: list[Event | None] = [None] * _SLOTS
        self._slot = 0
        self._staging: _Staging | None = None

    def make(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Device memory that rows can be sent to: whatever used it before is done with it when they arrive."""
        made = torch.empty(shape, dtype=dtype, device=self._device)
        self._copies.follow(self._copies.work_done())
        return made

    def send(self, rows: Tensor, into: Tensor, index: Tensor | None = None) -> None:
        """Rows of the host, or those of an index on the host, to device memory; later work finds them there."""
        try:
            if index is None and rows.is_pinned() and rows.is_contiguous():
                self._copies.copy(into, rows)
            else:
                self._send_pieces(rows, into, index)
        finally:  # memory that is freed by an error is written to no more when others work with it
            self._copies.join()

    def _send_pieces(self, rows: Tensor, into: Tensor, index: Tensor | None) -> None:
        for span in spans(len(into), into.shape[1] * into.element_size(), self._piece):
            place = self._pinned_piece(into[span])
            if index is None:
                place.copy_(rows[span])
            else:
                torch.index_select(rows, 0, index[span], out=place)
            self._copies.copy(into[span], place)
            self._sent[self._slot] = self._copies.copied()

    def fetch(self, batch: Batch, step: int, index: Tensor | None = None) -> Iterator[tuple[slice | Tensor, Batch]]:
        """The batch, or its rows of an index, with at most `step` rows at once on the device; and which those are.

        A batch that was handed out is overwritten when the next but one is asked for.
        """
        n = len(batch) if index is None else len(index)
        listed = None if index is None else index.cpu()
        for start in range(0, n, step):
            span = slice(start, min(start + step, n))
            rows = self._next_slot(step, batch.rows)[: span.stop - start]
            which = span if index is None else index[span]
            if listed is None:
                self.send(batch.rows[span], rows)
            else:
                self.send(batch.rows, rows, listed[span])
            facts = (None if fact is None else fact[which] for fact in (batch.norms, batch.keep, batch.weights))
            yield which, Batch(GATHERED if listed is not None else batch.start + start, rows, *facts)

    def _pinned_piece(self, like: Tensor) -> Tensor:
        """A pinned piece of this shape from which nothing is being sent."""
        pinned = self._pinned
        if pinned is None or pinned.shape[1] < like.nbytes:
            # pinning takes longer than sending, but torch keeps what was pinned for the next one in this process
            on_gpu, size = self._device.type == "cuda", max(self._piece, like.nbytes)
            self._pinned = pinned = torch.empty((_SLOTS, size), dtype=torch.uint8, device="cpu", pin_memory=on_gpu)
            self._sent = [None] * _SLOTS
        self._slot = (self._slot + 1) % _SLOTS
        sent = self._sent[self._slot]
        if sent is not None:
            sent.synchronize()
        return pinned[self._slot, : like.nbytes].view(like.dtype).view(like.shape)

    def _next_slot(self, n: int, like: Tensor) -> Tensor:
        """Device memory for n such rows. What was queued with the rows here before last is done when they arrive."""
        staging = self._staging
        if staging is None or staging.slots.dtype != like.dtype or staging.slots.shape[2] != like.shape[1]:
            staging = None
        if staging is None or staging.slots.shape[1] < n:
            self._staging = None  # before its successor is made
            staging = self._staging = _Staging(self.make(2, n, like.shape[1], dtype=like.dtype))
        staging.done[staging.side] = self._copies.work_done()
        staging.side ^= 1
        before = staging.done[staging.side]
        if before is not None:
            self._copies.follow(before)
        return staging.slots[staging.side]


def spans(n_rows: int, row_bytes: int, piece: int) -> Iterator[slice]:
    """The rows of each piece: of one size, since a small piece at the end would leave a slot unused."""
    n_pieces = -(-n_rows // max(1, piece // row_bytes))
    step = max(1, -(-n_rows // max(1, n_pieces)))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))

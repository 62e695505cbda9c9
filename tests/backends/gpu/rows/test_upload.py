"""Sending rows: pieces add up to the rows, whenever the copies are made; what is on its way is not overwritten."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from backends.gpu.standins import directions
from cosmeans.backends.gpu.rows.upload import GATHERED, Upload
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.data import Batch

CPU = torch.device("cpu")


class Late:
    """Copies are made when somebody waits for them, or when the work behind them begins."""

    def __init__(self) -> None:
        self.queue: list[tuple[Tensor, Tensor]] = []
        self.done = 0
        self.waited = 0

    def copy(self, into: Tensor, source: Tensor) -> None:
        self.queue.append((into, source))

    def copied(self) -> Any:
        copies, upto = self, len(self.queue)

        class Mark:
            def synchronize(self) -> None:
                copies.waited += 1
                copies.run(upto)

        return Mark()

    def join(self) -> None:
        self.run(len(self.queue))

    def run(self, upto: int) -> None:
        for into, source in self.queue[self.done : upto]:
            into[...] = source
        self.done = max(self.done, upto)

    def work_done(self) -> Any:
        return None

    def follow(self, event: Any) -> None: ...


class AtTheEnd(Late):
    """Nothing is copied before somebody waits for it."""

    def join(self) -> None: ...


def upload(copies: Late, **tuning: int) -> Upload:
    return Upload(CPU, Tuning(copies=lambda device: copies, **tuning))


@pytest.mark.parametrize("copies", [Late, AtTheEnd])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 9, 10, 30, 31, 100])
def test_pieces_add_up_to_the_rows(n: int, dtype: torch.dtype, copies: type[Late]) -> None:
    rows, late = directions(n, 3).to(dtype), copies()
    index = torch.randint(0, n, (2 * n,), generator=torch.Generator().manual_seed(n))
    sending = upload(late, upload_piece=10 * 3 * dtype.itemsize)
    whole, some = torch.empty(n, 3, dtype=dtype), torch.empty(2 * n, 3, dtype=dtype)

    sending.send(rows, whole)
    sending.send(rows, some, index)
    late.run(len(late.queue))

    assert torch.equal(whole, rows)
    assert torch.equal(some, rows[index])
    assert late.waited == -(-n // 10) + -(-2 * n // 10) - 2  # the first two pieces wait for nothing
    sizes = [len(into) for into, _ in late.queue][: -(-n // 10)]
    assert max(sizes) - min(sizes) < len(sizes)  # none is small, which would leave a slot unused


def test_a_row_larger_than_a_piece_is_sent() -> None:
    rows, sent = directions(5, 30), torch.empty(5, 30)

    upload(Late(), upload_piece=16).send(rows, sent)

    assert torch.equal(sent, rows)


@pytest.mark.parametrize("index", [None, torch.arange(49, -1, -1)], ids=["all", "an index"])
def test_two_batches_are_on_the_device_at_once(index: Tensor | None) -> None:
    rows = directions(50, 3)
    batch = Batch(7, rows, torch.arange(50.0).double(), torch.arange(50) % 3 > 0, None)
    batches = Upload(CPU).fetch(batch, 20, index)
    first_two = [next(batches), next(batches)]

    for (which, near), start in zip(first_two, (0, 20), strict=True):
        assert near.start == (7 + start if index is None else GATHERED)
        assert torch.equal(near.rows, rows[which])
        assert torch.equal(near.norms, batch.norms[which])
        assert torch.equal(near.keep, batch.keep[which])
        assert near.weights is None


def test_a_slot_is_filled_again_once_the_work_with_it_is_done() -> None:
    """Copies follow the work that was queued when the slot's rows had been handed out."""
    order: list[str] = []

    class Ordered(Late):
        def work_done(self) -> Any:
            order.append(f"work {len(self.queue)}")
            return len(self.queue)

        def follow(self, event: Any) -> None:
            order.append(f"follow {event}")

    list(upload(Ordered()).fetch(Batch(0, directions(50, 3)), 10))

    # made behind the work so far; then a slot waits for what was queued before the other one was filled
    assert order == [
        *("work 0", "follow 0", "work 0", "work 1", "follow 0"),
        *("work 2", "follow 1", "work 3", "follow 2", "work 4", "follow 3"),
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_sent_to_a_gpu_arrives() -> None:
    rows = directions(100_003, 300)  # four pieces
    sending = Upload(torch.device("cuda"))
    there = sending.make(100_003, 300, dtype=torch.float32)

    sending.send(rows, there)

    assert torch.equal(there.cpu(), rows)

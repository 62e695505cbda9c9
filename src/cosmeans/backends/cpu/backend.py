"""The CPU backend: every operation is a file of its own; `backends/reference.py` is the meaning of each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu import accumulate, assign, scores, update
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.rows import squared_norms
from cosmeans.backends.cpu.strategy import Pass, Strategy
from cosmeans.backends.session import Operations, PlainSession
from cosmeans.contracts import Group, RowSource
from cosmeans.data import Assignment, Batch, ClusterSums, Task
from cosmeans.epoch import Outcome
from cosmeans.observer import Log, Observer

_HOST = Host()


class CpuBackend:
    """Screens blocks of rows with cheap products, proves most labels, refines the rest (docs/algorithm.md).

    strategy      "auto" chooses before every pass from a sample; the other names force one (docs/cpu.md)
    memory_limit  bytes that may be kept of the rows between passes; None: 128 MiB or, if
                  more, a quarter of their size less 600 MiB, if twice as much is free
    host          what this computer can do; tests may describe another one
    """

    name = "cpu"

    def __init__(self, strategy: str = "auto", memory_limit: int | None = None, host: Host = _HOST) -> None:
        self.device = torch.device("cpu")
        self._options = strategy, memory_limit, host

    def session(self, source: RowSource, task: Task, group: Group, observer: Observer, log: Log) -> PlainSession:
        return PlainSession(self.operations(), source, task, self.device, group, observer)

    def operations(self) -> Operations:
        """The operations of one session: what is kept of its rows from pass to pass belongs to them."""
        strategy = Strategy(*self._options)
        return Operations(
            assign=self.assign,
            squared_norms=self.squared_norms,
            accumulate=self.accumulate,
            update=self.update,
            scores=self.scores,
            chords=self.chords,
            inertia_limbs=sphere.inertia_limbs,
            cosines=self.cosines,
            improve=self.improve,
            prepare=lambda centroids: strategy.next_pass(np.ascontiguousarray(centroids.numpy())),
            begin=strategy.begin,
            fresh=self.operations,
        )

    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(rows)

    def assign(self, batch: Batch, prepared: Pass, before: Tensor) -> Assignment:
        labels = torch.empty(len(batch), dtype=torch.int32, device="cpu")
        refined, work = assign.assign(batch, prepared, before.numpy(), labels.numpy())
        return Assignment(labels, refined, work)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
        return accumulate.accumulate(batch, before.numpy(), after.numpy(), into)

    def update(self, sums: ClusterSums, previous: Tensor, total: int, changed: int, settled: int) -> Outcome:
        return update.update(sums, previous, total, changed, settled)

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.scores(batch, centroids, labels)

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return scores.chords(batch, centroids, labels)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        scores.improve(batch, centroid, best)

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
from cosmeans.contracts import RowSource
from cosmeans.data import Assignment, Batch, ClusterSums

_HOST = Host()


class CpuBackend:
    """Screens blocks of rows with cheap products, proves most labels, refines the rest (docs/algorithm.md).

    strategy      "auto" chooses before every pass from a sample; the other names force one (docs/cpu.md)
    memory_limit  bytes that may be kept of the rows between passes; None: 128 MiB or, if
                  more, a quarter of their size less 600 MiB, if twice as much is free
    host          what this computer can do; tests may describe another one
    """

    name = "cpu"
    lookahead = 0

    def __init__(self, strategy: str = "auto", memory_limit: int | None = None, host: Host = _HOST) -> None:
        self.device = torch.device("cpu")
        self._strategy = Strategy(strategy, memory_limit, host)

    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(rows)

    def lengths(self, squared: Tensor) -> sphere.Lengths:
        return sphere.lengths(squared)

    def begin(self, rows: RowSource) -> None:
        self._strategy.begin(rows)

    def prepare(self, centroids: Tensor) -> Pass:
        return self._strategy.next_pass(np.ascontiguousarray(centroids.numpy()))

    def assign(self, batch: Batch, prepared: Pass, before: Tensor) -> Assignment:
        labels = torch.empty(len(batch), dtype=torch.int32, device="cpu")
        refined, work = assign.assign(batch, prepared, before.numpy(), labels.numpy())
        return Assignment(labels, refined, work)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
        return accumulate.accumulate(batch, before.numpy(), after.numpy(), into)

    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> sphere.Outcome:
        return update.update(sums, previous, total, int(changed), int(settled))

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        return scores.scores(batch, centroids, labels)

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return scores.chords(batch, centroids, labels)

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        return sphere.inertia_limbs(squared, weights)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        return scores.cosines(batch, centroids)

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        scores.improve(batch, centroid, best)

"""The CPU backend: every operation is a file of its own; `backends/reference.py` is the meaning of each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans.backends.cpu.accumulate import accumulate
from cosmeans.backends.cpu.assign import assign
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.rows import squared_norms, unit_rows
from cosmeans.backends.cpu.scores import chords, cosines, improve, inertia_limbs, scores
from cosmeans.backends.cpu.strategy import Strategy
from cosmeans.backends.cpu.update import update
from cosmeans.backends.session import Operations, PlainSession
from cosmeans.contracts import Group, RowSource
from cosmeans.data import Task
from cosmeans.observer import Log, Observer

_HOST = Host()


class CpuBackend:
    """Screens blocks of rows with cheap products, proves most labels, refines the rest (docs/proofs.md).

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
        return PlainSession(self.operations, source, task, self.device, group, observer)

    def operations(self) -> Operations:
        """The operations of one session: what is kept of its rows from pass to pass belongs to them."""
        strategy = Strategy(*self._options)
        return Operations(
            assign=assign,
            squared_norms=squared_norms,
            unit_rows=unit_rows,
            accumulate=accumulate,
            update=update,
            scores=scores,
            chords=chords,
            inertia_limbs=inertia_limbs,
            cosines=cosines,
            improve=improve,
            prepare=lambda centroids: strategy.next_pass(np.ascontiguousarray(centroids.numpy())),
            begin=strategy.begin,
            narrow=True,
        )

    def squared_norms(self, rows: Tensor) -> Tensor:
        return squared_norms(rows)

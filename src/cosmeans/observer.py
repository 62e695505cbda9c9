"""Who watches a fit: progress bars, tests, the interrupt of the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cosmeans.result import EpochCost, Iteration

Log = Callable[[str], None]
"""Called with one line for people; does nothing where they asked for silence."""


FINAL = 0
"""`of` of the last assignment, which no epoch follows and no stop breaks off."""


class Observer(Protocol):
    """What a fit tells, and what it asks: whether to stop."""

    @property
    def stop_requested(self) -> bool:
        """True: end after this batch, with the centroids of the last finished epoch."""

    def run(self, number: int, of: int) -> None:
        """One of several starts begins (1-based)."""

    def seeding(self, done: int, total: int) -> None:
        """First centroids found so far."""

    def reading(self, rows: int, total: int) -> None:
        """Rows inspected so far, before the first epoch (of total)."""

    def epoch(self, number: int, of: int) -> None:
        """An epoch begins (1-based). `of` = FINAL: the last assignment, whose labels are returned."""

    def batch(self, rows: int) -> None:
        """So many more rows were assigned."""

    def iteration(self, iteration: Iteration, cost: EpochCost) -> None:
        """An epoch ended; what it found, and what it cost."""

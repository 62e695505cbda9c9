"""The processes that share a fit."""

from __future__ import annotations

from cosmeans.data import ClusterSums


class Alone:
    """One process that holds all rows."""

    alone = True

    def sum(self, sums: ClusterSums) -> ClusterSums:
        return sums

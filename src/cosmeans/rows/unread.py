"""Rows before all of them are inspected: for first centroids that are found while others travel or are inspected."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Backend


class UnreadRows:
    """What a random start asks of rows without weights (`contracts.RowsByIndex`): only those taken are read, each once.

    A row is usable or not by itself, so a start drawn here is the one drawn from the inspected rows, if all rows that
    it took are `usable`. Otherwise some would have been passed over.
    """

    def __init__(self, rows: Tensor, backend: Backend) -> None:
        """backend: who finds lengths, and where rows that are taken shall lie."""
        self.n_rows = len(rows)
        self.scale = sphere.fixed_point_scale(self.n_rows)
        self.usable = True
        self._rows, self._backend = rows, backend
        self._taken = torch.empty((0, rows.shape[1]), dtype=torch.float32, device=backend.device)
        self._places: dict[int, int] = {}  # where in `_taken`, by index

    def take(self, indices: Tensor) -> Tensor:
        wanted = indices.tolist()
        fresh = [index for index in dict.fromkeys(wanted) if index not in self._places]
        if fresh:
            rows = self._rows[torch.tensor(fresh, dtype=torch.int64)].to(self._taken.device)
            found = self._backend.lengths(self._backend.squared_norms(rows))
            self.usable &= found.usable
            self._places.update({index: len(self._places) + i for i, index in enumerate(fresh)})
            self._taken = torch.cat([self._taken, sphere.unit_rows(rows, found.divisors)])
        if wanted == list(self._places):
            return self._taken
        places = torch.tensor([self._places[index] for index in wanted], dtype=torch.int64)
        return self._taken[places.to(self._taken.device)]

    def kept(self, index: int) -> bool:
        return True

    def masses(self) -> None:
        return None

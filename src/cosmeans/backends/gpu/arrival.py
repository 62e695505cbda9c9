"""What is found of rows before their source is made: in one pass, where they lie or on their way from the host."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cosmeans.backends.gpu.kernels.norms import Queued
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.memory import MemoryPlan
from cosmeans.contracts import RowSource


@dataclass(slots=True)
class Arrived:
    """Rows as their source will hold them. They are held here, too: nothing else can come to lie at their place.

    plan     of the memory of what follows
    squared  (N,) float64, their squared lengths; None: not found, or the source has them
    lengths  what these mean, on its way to the host; None: not found yet
    copy     of all of them; None: none was made
    source   the one that took them up: the first over all of these rows that a fit begins with, and no other
    """

    rows: Tensor
    plan: MemoryPlan
    squared: Tensor | None
    copy: Copy | None
    lengths: Queued | None = None
    source: RowSource | None = None

    @property
    def n_bytes(self) -> int:
        """Of what was found, or will be."""
        squared = 0 if self.squared is None else self.squared.nbytes
        return squared if self.copy is None else squared + self.copy.n_bytes

    def squared_of(self, rows: Tensor) -> Tensor | None:
        """Squared lengths of consecutive rows of these; None for any others."""
        start = self._place_of(rows)
        return None if self.squared is None or start is None else self.squared[start : start + len(rows)]

    def copy_of(self, rows: Tensor) -> tuple[Copy, int] | None:
        """The copy that holds consecutive rows of these, and where; None for any others."""
        start = self._place_of(rows)
        return None if self.copy is None or start is None else (self.copy, start)

    def are(self, rows: RowSource) -> bool:
        """Whether the source is over all of these rows, in their order, and nobody else's."""
        if self.source is None and rows.n_rows == len(self.rows) and self._begin_as(rows):
            self.source = rows
        return rows is self.source

    def _begin_as(self, rows: RowSource) -> bool:
        return next(iter(rows.batches())).rows.data_ptr() == self.rows.data_ptr()

    def _place_of(self, rows: Tensor) -> int | None:
        whole = self.rows
        if rows.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr() or rows.dtype != whole.dtype:
            return None
        if rows.stride() != whole.stride() or rows.shape[1] != whole.shape[1]:
            return None
        offset = int(rows.storage_offset()) - int(whole.storage_offset())
        start, beside = divmod(offset, max(1, int(whole.stride(0))))
        return start if not beside and 0 <= start <= len(whole) - len(rows) else None

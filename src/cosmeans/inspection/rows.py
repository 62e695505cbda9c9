"""Rows with what one pass over them found: lengths, weights, rows left out. Batches of them, and single rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import RowSource
from cosmeans.data import Batch, Task
from cosmeans.errors import InputError
from cosmeans.inspection.evenly import evenly
from cosmeans.inspection.heads import HasHeads, heads_of
from cosmeans.inspection.left_out import LeftOut
from cosmeans.inspection.weights import checked_scale, masses, prepare_weights, warn_of_range

_BATCH_BYTES = 64 << 20  # a float32 copy of one batch; larger batches gain nothing
_DECODED_BYTES = 16 << 20  # of rows that are made for every pass: several batches are in memory at once
_MEMORY_SHARE = 64  # and at most this part of the memory that is free
# a smaller batch saves no memory worth having, and starting its work costs more than the work
LEAST_BATCH_BYTES = {"cpu": 4 << 20, "cuda": 128 << 20}
_MOST_FETCHED = 1 / 2  # of the rows in one pass over heads: heads of rows that are as close together pay no longer
_DEVICE_ROWS = 1 << 25  # a GPU makes no float32 copy: its working memory is some 60 bytes a row


def choose_batch_size(n_rows: int, n_features: int, device: torch.device | str = "cpu") -> int:
    """Rows per batch such that a float32 copy of one stays small compared with the free memory."""
    if torch.device(device).type != "cpu":
        return min(n_rows, _DEVICE_ROWS)
    budget: int = min(_BATCH_BYTES, psutil.virtual_memory().available // _MEMORY_SHARE)
    return max(1, min(n_rows, max(1024, budget // (4 * n_features))))


def least_batch_size(n_features: int, device: torch.device | str = "cpu") -> int:
    """Rows that are taken together however small a batch was asked for."""
    return LEAST_BATCH_BYTES.get(torch.device(device).type, 0) // (4 * n_features)


def made_batch_size(n_features: int) -> int:
    """Rows of a batch at most, where each batch is decoded or converted in every pass."""
    return max(1, _DECODED_BYTES // (4 * n_features))


Inspect = Callable[[Batch], tuple[Tensor, sphere.Lengths]]
"""Squared lengths of the rows of a batch, (B,) float64, and what they mean."""


class Inspected:
    """The rows of a source. Those of unit length are neither copied nor changed; others keep 8 bytes a row.

    The first pass over `batches` inspects them, whatever it is made for; until its end, `kept` and `spread` know of no
    row that is left out, and there is no `total`.
    """

    total: int

    def __init__(
        self,
        source: RowSource,
        task: Task,
        inspect: Inspect,
        *,
        device: torch.device | None = None,
        batch_limit: int | None = None,
        inspect_limit: int | None = None,
        gather_limit: int | None = None,
        unit_rows: Callable[[Tensor, Tensor | None], Tensor] = sphere.unit_rows,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """
        device       where all else of the rows is kept, and what `take` returns; None: where the rows are
        batch_limit  rows of a batch at most, whatever the task asks for
        inspect_limit  ... of the pass that inspects them
        gather_limit  ... of a sample, of which each batch is a copy
        unit_rows    as `sphere.unit_rows`, and faster
        progress     called with (rows inspected, N)
        """
        self.source, self._unit_rows = source, unit_rows
        self.n_rows, self.n_features, self.n_bytes = source.n_rows, source.n_features, source.n_bytes
        self.device, self.rows_device, self.in_place = device or source.device, source.device, True
        wanted = max(
            int(task.batch_size or choose_batch_size(self.n_rows, self.n_features, self.device)),
            least_batch_size(self.n_features, self.device),
        )
        halved = isinstance(source, HasHeads) and source.halved
        made = halved or source.n_direct < source.n_rows
        if made and self.device.type == "cpu":  # the next batch is, while this one is there
            batch_limit = min(batch_limit or wanted, made_batch_size(self.n_features))
        self.batch_size = min(wanted, batch_limit or wanted)
        self._inspect_size = min(self.batch_size, inspect_limit or self.batch_size)
        self.gather_size = min(self.batch_size, gather_limit or self.batch_size)
        weights, self.exponent = prepare_weights(task.weights, self.n_rows)
        self.scale = checked_scale(weights, self.n_rows)
        warn_of_range(weights)
        self.weights = None if weights is None else weights.to(self.device)
        self.norms: Tensor | None = None
        self.keep: Tensor | None = None
        self._inspect, self._task, self._progress = inspect, task, progress
        self._inspected, self._fetched = False, 0  # singly, in the last pass over heads

    def inspect(self) -> None:
        """One pass over the rows that does nothing else; raises InputError for those that can't be clustered."""
        for _ in self.batches():
            pass

    def batches(self, narrow: bool = False) -> Iterator[Batch]:
        """Every row once, in order. Raises InputError while rows are inspected, which are exact then."""
        left = None if self._inspected else LeftOut(self._task, self.n_rows, self.source.where)
        narrow = narrow and left is None and self._fetched <= _MOST_FETCHED * self.n_rows
        if narrow:
            self._fetched = 0
        if left is not None:
            self.norms = self.keep = None  # a pass that was broken off is forgotten
        size = self.batch_size if left is None else self._inspect_size
        for start in range(0, self.n_rows, size):
            span = slice(start, min(start + size, self.n_rows))
            found = heads_of(self.source, span, _cut(self.norms, span), self._note_fetched) if narrow else None
            rows, lost = (self.source.read(span), None) if found is None else found
            if left is not None:
                self._note(Batch(start, rows), left)
            found_of_rows = (_cut(part, span) for part in (self.norms, self.keep, self.weights))
            yield Batch(start, rows, *found_of_rows, narrow=lost)
        if left is not None:
            left.report()
            self._inspected, self.total = True, _total(self.masses(), self.keep, self.n_rows, self.scale)

    def take(self, indices: Tensor) -> Tensor:
        return self.unit(self.source.gather(indices.to(self.source.device)), indices)

    def unit(self, rows: Tensor, indices: Tensor) -> Tensor:
        """What `take` returns, from these rows as they are stored."""
        here, rows = indices.to(self.device), rows.to(self.device)
        norms, keep = _cut(self.norms, here), _cut(self.keep, here)
        if not self._inspected:
            squared, found = self._inspect(Batch(0, rows))
            norms, keep = found.divisors, None if found.usable else sphere.usable(squared)
        unit = self._unit_rows(rows, norms)
        return unit if keep is None else torch.where(keep[:, None], unit, unit.new_zeros(()))

    def spread(self, size: int) -> Tensor:
        return evenly(self.taking_part, self.source.n_direct, size)

    def taking_part(self, at: slice | Tensor) -> Tensor | None:
        """Which of some rows have a direction and a weight above 0, bool; None: all of them."""
        keep = _cut(self.keep, at)
        if self.weights is None:
            return keep
        weighty = self.weights[at] > 0
        return weighty if keep is None else keep & weighty

    def kept(self, indices: Tensor) -> Tensor:
        part = self.taking_part(indices.to(self.device))
        return torch.ones(len(indices), dtype=torch.bool, device="cpu") if part is None else part.cpu()

    def masses(self) -> Tensor | None:
        return masses(self.weights, self.scale)

    def sample(self, indices: Tensor) -> Sampled:
        part = self.source.part(indices)
        here = indices if part is None else torch.arange(len(indices), device=part.device)
        return Sampled(self, indices, self.source if part is None else part, here)

    def need_weight(self) -> None:
        if not self._inspected:
            self.inspect()
        _need_weight(self.total, self.n_rows)

    def _note_fetched(self, n_rows: int) -> None:
        self._fetched += n_rows

    def _note(self, batch: Batch, left: LeftOut) -> None:
        """Keep the lengths of a batch's rows, and leave out those without direction."""
        squared, found = self._inspect(batch)
        if found.divisors is not None and len(batch) == self.n_rows:
            self.norms = found.divisors
        elif found.divisors is not None:
            if self.norms is None:
                self.norms = torch.ones(self.n_rows, dtype=torch.float64, device=self.device)
            self.norms[batch.span] = found.divisors
        if not found.usable:
            left.note(batch, squared)
            if self.keep is None:
                self.keep = torch.ones(self.n_rows, dtype=torch.bool, device=self.device)
            self.keep[batch.span] = sphere.usable(squared)
        if self._progress is not None:
            self._progress(batch.start + len(batch), self.n_rows)


class Sampled:
    """Some rows of a source, in the order of `indices`, gathered batch by batch: they are not copied as a whole.

    The scale is that of the whole, whose sums are larger.
    """

    def __init__(self, rows: Inspected, indices: Tensor, source: RowSource, at: Tensor) -> None:
        """indices: of the rows among all rows; at: among the rows of `source`, from which they are gathered."""
        self._rows, self._indices = rows, indices.to(rows.device)
        self._source, self._at = source, at.to(source.device)
        self.n_rows, self.n_features = len(indices), rows.n_features
        self.n_bytes = rows.n_bytes * len(indices) // max(1, rows.n_rows)
        self.device, self.rows_device, self.in_place = rows.device, rows.rows_device, False
        self.scale, self.exponent = rows.scale, rows.exponent
        self.total = _total(self.masses(), _cut(rows.keep, self._indices), self.n_rows, self.scale)

    def batches(self, narrow: bool = False) -> Iterator[Batch]:
        rows = self._rows
        for start in range(0, self.n_rows, rows.gather_size):
            span = slice(start, start + rows.gather_size)
            index = self._indices[span]
            taken = self._source.gather(self._at[span])
            yield Batch(start, taken, _cut(rows.norms, index), _cut(rows.keep, index), _cut(rows.weights, index))

    def take(self, indices: Tensor) -> Tensor:
        rows = self._source.gather(self._at[indices.to(self._source.device)])
        return self._rows.unit(rows, self._indices[indices.to(self.device)])

    def kept(self, indices: Tensor) -> Tensor:
        return self._rows.kept(self._indices[indices.to(self.device)])

    def spread(self, size: int) -> Tensor:
        return evenly(lambda span: self._rows.taking_part(self._indices[span]), self.n_rows, size)

    def masses(self) -> Tensor | None:
        return _cut(self._rows.masses(), self._indices)

    def sample(self, indices: Tensor) -> Sampled:
        at = self._at[indices.to(self._source.device)]
        return Sampled(self._rows, self._indices[indices.to(self.device)], self._source, at)

    def need_weight(self) -> None:
        _need_weight(self.total, self.n_rows)


def _total(masses: Tensor | None, keep: Tensor | None, n_rows: int, scale: int) -> int:
    """V of rule 4."""
    if masses is None:
        return (n_rows if keep is None else int(keep.sum())) << scale
    return int(masses.sum() if keep is None else masses[keep].sum())


def _need_weight(total: int, n_rows: int) -> None:
    if total == 0:
        raise InputError(
            f"None of the {n_rows} rows can be clustered: each is zero, skipped or of weight zero. "
            "At least one row needs a direction and a weight above zero."
        )


def _cut(values: Tensor | None, span: slice | Tensor) -> Tensor | None:
    return None if values is None else values[span]

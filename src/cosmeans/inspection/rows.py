"""Rows with what one pass over them found: lengths, weights, rows left out. Batches of them, and single rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.console import warn
from cosmeans.contracts import RowSource
from cosmeans.data import Batch, Task
from cosmeans.errors import InputError, SkippedRowsWarning, ZeroRowsWarning
from cosmeans.inspection.evenly import evenly
from cosmeans.inspection.weights import prepare_weights, too_heavy, total_weight, warn_of_range
from cosmeans.printable import sentence

_BATCH_BYTES = 64 << 20  # a float32 copy of one batch; larger batches gain nothing
_MEMORY_SHARE = 64  # and at most this part of the memory that is free
# a smaller batch saves no memory worth having, and starting its work costs more than the work
LEAST_BATCH_BYTES = {"cpu": 4 << 20, "cuda": 128 << 20}
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


Inspect = Callable[[Batch], tuple[Tensor, sphere.Lengths]]
"""Squared lengths of the rows of a batch, (B,) float64, and what they mean."""


class Inspected:
    """The rows of a source. Those of unit length are neither copied nor changed; others keep 8 bytes a row."""

    def __init__(
        self,
        source: RowSource,
        task: Task,
        inspect: Inspect,
        *,
        device: torch.device | None = None,
        batch_limit: int | None = None,
        unit_rows: Callable[[Tensor, Tensor | None], Tensor] = sphere.unit_rows,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Inspect all rows; raises InputError for those that can't be clustered.

        device       where all else of the rows is kept, and what `take` returns; None: where the rows are
        batch_limit  rows of a batch at most, whatever the task asks for
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
        self.batch_size = min(wanted, batch_limit or wanted)
        weights, self.exponent = prepare_weights(task.weights, self.n_rows)
        self.scale = _checked_scale(weights, self.n_rows)
        warn_of_range(weights)
        self.weights = None if weights is None else weights.to(self.device)
        self.norms: Tensor | None = None
        self.keep: Tensor | None = None
        self._inspect(inspect, task, progress)
        self.total = _total(self.masses(), self.keep, self.n_rows, self.scale)

    def batches(self) -> Iterator[Batch]:
        for start in range(0, self.n_rows, self.batch_size):
            span = slice(start, min(start + self.batch_size, self.n_rows))
            yield Batch(
                start,
                self.source.read(span),
                _cut(self.norms, span),
                _cut(self.keep, span),
                _cut(self.weights, span),
            )

    def take(self, indices: Tensor) -> Tensor:
        here = indices.to(self.device)
        rows = self.source.gather(indices.to(self.source.device)).to(self.device)
        unit = self._unit_rows(rows, _cut(self.norms, here))
        return unit if self.keep is None else torch.where(self.keep[here, None], unit, unit.new_zeros(()))

    def spread(self, size: int) -> Tensor:
        return evenly(self.taking_part, self.n_rows, size)

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
        if self.weights is None:
            return None
        unit = torch.full_like(self.weights, 2.0**self.scale).to(torch.int64)
        return sphere.term(self.weights, unit)

    def sample(self, indices: Tensor) -> Sampled:
        return Sampled(self, indices)

    def need_weight(self) -> None:
        _need_weight(self.total, self.n_rows)

    def _inspect(self, inspect: Inspect, task: Task, progress: Callable[[int, int], None] | None) -> None:
        """One pass over the rows; raises before any work is done."""
        bad, zero = _Left(), _Left()
        for batch in self.batches():
            squared, found = inspect(batch)
            self._note(batch, squared, found, bad, zero, task.nonfinite)
            if progress is not None:
                progress(batch.start + len(batch), self.n_rows)
        _report(bad, zero, task.zero_rows, self.n_rows, self.source.where)

    def _note(
        self, batch: Batch, squared: Tensor, found: sphere.Lengths, bad: _Left, zero: _Left, nonfinite: str
    ) -> None:
        """Keep the lengths of a batch's rows, and leave out those without direction."""
        if found.divisors is not None and len(batch) == self.n_rows:
            self.norms = found.divisors
        elif found.divisors is not None:
            if self.norms is None:
                self.norms = torch.ones(self.n_rows, dtype=torch.float64, device=self.device)
            self.norms[batch.span] = found.divisors
        if found.usable:
            return
        bad.add(~torch.isfinite(squared), batch.start)
        zero.add(squared == 0, batch.start)
        zero.add_tiny(batch.rows, squared == 0)
        if nonfinite == "error" and bad.count:
            raise InputError(
                f"{sentence(self.source.where(bad.first))} contains NaN or infinity (a null is NaN, and beyond "
                'float32\'s 3.4e38 is infinity). Remove such rows, or pass nonfinite="skip" to give them label -1.'
            )
        if self.keep is None:
            self.keep = torch.ones(self.n_rows, dtype=torch.bool, device=self.device)
        self.keep[batch.span] = sphere.usable(squared)


class Sampled:
    """Some rows of a source, in the order of `indices`, gathered batch by batch: they are not copied as a whole.

    The scale is that of the whole, whose sums are larger.
    """

    def __init__(self, rows: Inspected, indices: Tensor) -> None:
        self._rows, self._indices = rows, indices.to(rows.device)
        self.n_rows, self.n_features = len(indices), rows.n_features
        self.n_bytes = rows.n_bytes * len(indices) // max(1, rows.n_rows)
        self.device, self.rows_device, self.in_place = rows.device, rows.rows_device, False
        self.scale, self.exponent = rows.scale, rows.exponent
        self.total = _total(self.masses(), _cut(rows.keep, self._indices), self.n_rows, self.scale)

    def batches(self) -> Iterator[Batch]:
        rows = self._rows
        for start in range(0, self.n_rows, rows.batch_size):
            index = self._indices[start : start + rows.batch_size]
            taken = rows.source.gather(index.to(rows.source.device))
            yield Batch(start, taken, _cut(rows.norms, index), _cut(rows.keep, index), _cut(rows.weights, index))

    def take(self, indices: Tensor) -> Tensor:
        return self._rows.take(self._indices[indices.to(self.device)])

    def kept(self, indices: Tensor) -> Tensor:
        return self._rows.kept(self._indices[indices.to(self.device)])

    def spread(self, size: int) -> Tensor:
        return evenly(lambda span: self._rows.taking_part(self._indices[span]), self.n_rows, size)

    def masses(self) -> Tensor | None:
        return _cut(self._rows.masses(), self._indices)

    def sample(self, indices: Tensor) -> Sampled:
        return Sampled(self._rows, self._indices[indices.to(self.device)])

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


class _Left:
    """Rows left out for one reason: how many, and the first."""

    def __init__(self) -> None:
        self.count, self.first, self.tiny = 0, -1, 0

    def add(self, mask: Tensor, start: int) -> None:
        found = int(mask.sum())
        if found and not self.count:
            self.first = start + int(mask.to(torch.int8).argmax())
        self.count += found

    def add_tiny(self, rows: Tensor, mask: Tensor) -> None:
        """Count those of the rows that hold numbers, but none that float32 can tell from zero."""
        if bool(mask.any()):
            self.tiny += int((rows[mask.to(rows.device)] != 0).any(dim=1).sum())

    def zero(self, n_rows: int, where: Callable[[int], str]) -> str:
        """These rows in words, as zero rows."""
        tiny = f", {self.tiny} of them with numbers below float32's 1.2e-38" if self.tiny else ""
        advice = " Multiply such rows by a constant first." if self.tiny else ""
        which = f"(the first is {where(self.first)}{tiny})"
        return f"{self.count} of {n_rows} rows are zero {which} and have no direction.{advice}"


def _report(bad: _Left, zero: _Left, zero_rows: str, n_rows: int, where: Callable[[int], str]) -> None:
    if zero.count and zero_rows == "error":
        raise InputError(
            f'{zero.zero(n_rows, where)} Remove zero rows, or pass zero_rows="warn" or "skip" to give them label -1.'
        )
    if zero.count and zero_rows == "warn":
        warn(f"{zero.zero(n_rows, where)} They get label -1.", ZeroRowsWarning)
    if bad.count:
        warn(
            f"{bad.count} of {n_rows} rows contain NaN or infinity (the first is {where(bad.first)}) and are "
            "skipped: they get label -1.",
            SkippedRowsWarning,
        )


def _checked_scale(weights: Tensor | None, n_rows: int) -> int:
    total = total_weight(weights, n_rows)
    scale = sphere.fixed_point_scale(total)
    if scale < sphere.MIN_SCALE:
        raise InputError(too_heavy(weights, total))
    return scale


def _cut(values: Tensor | None, span: slice | Tensor) -> Tensor | None:
    return None if values is None else values[span]

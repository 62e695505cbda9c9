"""Rows that lie in memory, or in a file mapped into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.console import warn
from cosmeans.containers.converted import Rows
from cosmeans.data import Batch
from cosmeans.errors import InputError, SkippedRowsWarning, ZeroRowsWarning
from cosmeans.rows.kept import evenly
from cosmeans.rows.weights import prepare_weights, too_heavy, total_weight, warn_of_range

_BATCH_BYTES = 64 << 20  # a float32 copy of one batch; larger batches gain nothing
_MEMORY_SHARE = 64  # and at most this part of the memory that is free
# a smaller batch saves no memory worth having, and starting its work costs more than the work
LEAST_BATCH_BYTES = {"cpu": 4 << 20, "cuda": 128 << 20}
_DEVICE_ROWS = 1 << 25  # a GPU makes no float32 copy: its working memory is some 60 bytes a row


def choose_batch_size(n_rows: int, n_features: int, device: torch.device | str = "cpu") -> int:
    """Rows per batch such that a float32 copy of one stays small beside the free memory."""
    if torch.device(device).type != "cpu":
        return min(n_rows, _DEVICE_ROWS)
    budget: int = min(_BATCH_BYTES, psutil.virtual_memory().available // _MEMORY_SHARE)
    return max(1, min(n_rows, max(1024, budget // (4 * n_features))))


def least_batch_size(n_features: int, device: torch.device | str = "cpu") -> int:
    """Rows that are taken together however small a batch was asked for."""
    return LEAST_BATCH_BYTES.get(torch.device(device).type, 0) // (4 * n_features)


class MemoryRows:
    """N rows of one tensor. Rows of unit length are neither copied nor changed; others keep 8 bytes a row.

    squared_norms  the backend's function: one pass finds lengths, zero rows, NaN and infinity (rule 1)
    lengths        the backend's function: what these numbers mean
    device         where all else of the rows lies, and what `take` returns; None: where they lie
    batch_limit    rows of a batch at most, whatever was asked for
    zero_rows      "warn" | "skip" | "error"
    nonfinite      "error" | "skip"
    progress       called with (rows inspected, N)
    """

    def __init__(
        self,
        rows: Rows,
        *,
        squared_norms: Callable[[Tensor], Tensor],
        lengths: Callable[[Tensor], sphere.Lengths] = sphere.lengths,
        device: torch.device | None = None,
        batch_size: int | None = None,
        batch_limit: int | None = None,
        sample_weight: Any = None,
        zero_rows: str = "warn",
        nonfinite: str = "error",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.rows = rows
        self.n_rows, self.n_features = rows.shape
        self.n_bytes = rows.nbytes
        self.rows_device = rows.device
        self.device = device or rows.device
        wanted = max(
            int(batch_size or choose_batch_size(self.n_rows, self.n_features, self.device)),
            least_batch_size(self.n_features, self.device),
        )
        self.batch_size = min(wanted, batch_limit or wanted)
        weights, self.exponent = prepare_weights(sample_weight, self.n_rows)
        self.scale = _checked_scale(weights, self.n_rows)
        warn_of_range(weights)
        self.weights = None if weights is None else weights.to(self.device)
        self.norms: Tensor | None = None
        self.keep: Tensor | None = None
        self._inspect(squared_norms, lengths, zero_rows, nonfinite, progress)
        self.total = _total(self.masses(), self.keep, self.n_rows, self.scale)

    def batches(self) -> Iterator[Batch]:
        for start in range(0, self.n_rows, self.batch_size):
            span = slice(start, min(start + self.batch_size, self.n_rows))
            yield Batch(
                start,
                self.rows[span],
                _cut(self.norms, span),
                _cut(self.keep, span),
                _cut(self.weights, span),
            )

    def take(self, indices: Tensor) -> Tensor:
        rows, here = self.rows[indices.to(self.rows_device)].to(self.device), indices.to(self.device)
        unit = sphere.unit_rows(rows, _cut(self.norms, here))
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

    def sample(self, indices: Tensor) -> SampledRows:
        return SampledRows(self, indices)

    def need_weight(self) -> None:
        """Raise InputError if no row takes part."""
        if self.total == 0:
            raise InputError(
                f"None of the {self.n_rows} rows can be clustered: each is zero, skipped or of weight zero. "
                "At least one row needs a direction and a weight above zero."
            )

    def _inspect(
        self,
        squared_norms: Callable[[Tensor], Tensor],
        lengths: Callable[[Tensor], sphere.Lengths],
        zero_rows: str,
        nonfinite: str,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """One pass over the rows; raises before any work is done."""
        bad, zero = _Left(), _Left()
        for batch in self.batches():
            squared = squared_norms(batch.rows)
            self._note(batch, squared, lengths(squared), bad, zero, nonfinite)
            if progress is not None:
                progress(batch.start + len(batch), self.n_rows)
        _report(bad, zero, zero_rows, self.n_rows)

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
                f"Row {bad.first} contains NaN or infinity (a null is NaN, and beyond float32's 3.4e38 is infinity). "
                'Remove such rows, or pass nonfinite="skip" to give them label -1.'
            )
        if self.keep is None:
            self.keep = torch.ones(self.n_rows, dtype=torch.bool, device=self.device)
        self.keep[batch.span] = sphere.usable(squared)


class SampledRows:
    """Some rows of a source, in the order of `indices`, gathered batch by batch: no copy of them lies anywhere.

    The scale is that of the whole, whose sums are larger.
    """

    def __init__(self, rows: MemoryRows, indices: Tensor) -> None:
        self._rows, self._indices = rows, indices.to(rows.device)
        self.n_rows, self.n_features = len(indices), rows.n_features
        self.n_bytes = rows.n_bytes * len(indices) // max(1, rows.n_rows)
        self.device, self.rows_device = rows.device, rows.rows_device
        self.scale, self.exponent = rows.scale, rows.exponent
        self.total = _total(self.masses(), _cut(rows.keep, self._indices), self.n_rows, self.scale)

    def batches(self) -> Iterator[Batch]:
        rows = self._rows
        for start in range(0, self.n_rows, rows.batch_size):
            index = self._indices[start : start + rows.batch_size]
            taken = rows.rows[index.to(self.rows_device)]
            yield Batch(start, taken, _cut(rows.norms, index), _cut(rows.keep, index), _cut(rows.weights, index))

    def take(self, indices: Tensor) -> Tensor:
        return self._rows.take(self._indices[indices.to(self.device)])

    def kept(self, indices: Tensor) -> Tensor:
        return self._rows.kept(self._indices[indices.to(self.device)])

    def spread(self, size: int) -> Tensor:
        return evenly(lambda span: self._rows.taking_part(self._indices[span]), self.n_rows, size)

    def masses(self) -> Tensor | None:
        return _cut(self._rows.masses(), self._indices)

    def sample(self, indices: Tensor) -> SampledRows:
        return SampledRows(self._rows, self._indices[indices.to(self.device)])


def _total(masses: Tensor | None, keep: Tensor | None, n_rows: int, scale: int) -> int:
    """V of rule 4."""
    if masses is None:
        return (n_rows if keep is None else int(keep.sum())) << scale
    return int(masses.sum() if keep is None else masses[keep].sum())


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

    def zero(self, n_rows: int) -> str:
        """These rows in words, as zero rows."""
        tiny = f", {self.tiny} of them with numbers below float32's 1.2e-38" if self.tiny else ""
        advice = " Multiply such rows by a constant first." if self.tiny else ""
        which = f"(the first is row {self.first}{tiny})"
        return f"{self.count} of {n_rows} rows are zero {which} and have no direction.{advice}"


def _report(bad: _Left, zero: _Left, zero_rows: str, n_rows: int) -> None:
    if zero.count and zero_rows == "error":
        raise InputError(
            f'{zero.zero(n_rows)} Remove zero rows, or pass zero_rows="warn" or "skip" to give them label -1.'
        )
    if zero.count and zero_rows == "warn":
        warn(f"{zero.zero(n_rows)} They get label -1.", ZeroRowsWarning)
    if bad.count:
        warn(
            f"{bad.count} of {n_rows} rows contain NaN or infinity (the first is row {bad.first}) and are "
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

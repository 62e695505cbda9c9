"""Rows that take part in nothing, because they have no direction or aren't numbers: counted, and told once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans.console import warn
from cosmeans.data import Batch, Task
from cosmeans.errors import InputError, SkippedRowsWarning, ZeroRowsWarning
from cosmeans.printable import sentence


class LeftOut:
    """What one inspection of N rows leaves out, by the options of a task."""

    def __init__(self, task: Task, n_rows: int, where: Callable[[int], str]) -> None:
        """where: a row in words."""
        self._task, self._n_rows, self._where = task, n_rows, where
        self._bad, self._zero, self._tiny = _Rows(), _Rows(), 0

    def note(self, batch: Batch, squared: Tensor) -> None:
        """Rows of a batch whose squared length (B,) is zero or not finite. Raises InputError for NaN and infinity."""
        zero = squared == 0
        self._bad.add(~torch.isfinite(squared), batch.start)
        self._zero.add(zero, batch.start)
        if bool(zero.any()):  # those that hold numbers, but none that float32 can tell from zero
            self._tiny += int((batch.rows[zero.to(batch.rows.device)] != 0).any(dim=1).sum())
        if self._task.nonfinite == "error" and self._bad.count:
            raise InputError(
                f"{sentence(self._where(self._bad.first))} contains NaN or infinity (a null is NaN, and beyond "
                'float32\'s 3.4e38 is infinity). Remove such rows, or pass nonfinite="skip" to give them label -1.'
            )

    def report(self) -> None:
        """Say which rows were left out, all having been seen; raises InputError where that is an error."""
        bad, zero = self._bad, self._zero
        if zero.count and self._task.zero_rows == "error":
            raise InputError(
                f'{self._zero_words()} Remove zero rows, or pass zero_rows="warn" or "skip" to give them label -1.'
            )
        if zero.count and self._task.zero_rows == "warn":
            warn(f"{self._zero_words()} {zero.agree('It gets', 'They get')} label -1.", ZeroRowsWarning)
        if bad.count:
            warn(
                f"{bad.count} of {self._n_rows} rows {bad.agree('contains', 'contain')} NaN or infinity (the first is "
                f"{self._where(bad.first)}) and {bad.agree('is skipped: it gets', 'are skipped: they get')} label -1.",
                SkippedRowsWarning,
            )

    def _zero_words(self) -> str:
        tiny = f", {self._tiny} of them with numbers below float32's 1.2e-38" if self._tiny else ""
        advice = " Multiply such rows by a constant first." if self._tiny else ""
        which = f"(the first is {self._where(self._zero.first)}{tiny})"
        are, have = self._zero.agree("is", "are"), self._zero.agree("has", "have")
        return f"{self._zero.count} of {self._n_rows} rows {are} zero {which} and {have} no direction.{advice}"


class _Rows:
    """Rows left out for one reason: how many, and the first."""

    def __init__(self) -> None:
        self.count, self.first = 0, -1

    def agree(self, one: str, several: str) -> str:
        """The form of a verb that goes with the count."""
        return one if self.count == 1 else several

    def add(self, mask: Tensor, start: int) -> None:
        found = int(mask.sum())
        if found and not self.count:
            self.first = start + int(mask.to(torch.int8).argmax())
        self.count += found

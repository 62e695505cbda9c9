"""Heads of rows in place of the rows, with what they lost of unit length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cosmeans.contracts import RowSource
from cosmeans.data import Narrow

_MOST = 2.0**-8  # a head that lost more says nothing: no screen needs to bound what is so much longer than its row
_FEW = 1 / 64  # rows of a batch whose heads may say nothing: with more, the batch is read whole
_ROUNDED = 2.0**-22  # both quotients are rounded to float32: 2^-24 of lengths 1 and 1 + 2^-8, and some entries below it


@runtime_checkable
class HasHeads(Protocol):
    """A `RowSource` that may have its float32 rows in half of the bytes, too: heads, which are rounded to float16.

    halved  whether it has heads, or will have: `read` makes rows of both halves then
    """

    @property
    def halved(self) -> bool: ...

    def heads(self, span: slice) -> tuple[Tensor, Tensor] | None:
        """Heads (B, D), finite, and (B,) float32, no less than |row - head|; None: read the rows."""

    def joined(self, heads: Tensor, indices: Tensor) -> Tensor:
        """The rows of these indices (int64), whose heads are at hand, as they are stored."""


def heads_of(
    source: RowSource, span: slice, norms: Tensor | None, fetched: Callable[[int], None] = lambda n_rows: None
) -> tuple[Tensor, Narrow] | None:
    """Heads (B, D) of consecutive rows; None: they are not to be had, or say little.

    norms: (B,) float64, of rule 1. fetched: called with the number of rows that were asked for exactly
    """
    found = source.heads(span) if isinstance(source, HasHeads) else None
    if found is None:
        return None
    heads, lost = found

    def exact(index: Tensor) -> Tensor:
        assert isinstance(source, HasHeads)
        fetched(len(index))
        few = torch.from_numpy(heads.numpy()[index.numpy()])  # torch would wake its threads, which wait awake
        return source.joined(few, index + span.start)

    lost = lost_of_unit(lost, norms)
    nothing = int(np.isinf(lost.numpy()).sum())
    return None if nothing > _FEW * len(heads) else (heads, Narrow(lost, exact))


def lost_of_unit(lost: Tensor, norms: Tensor | None) -> Tensor:
    """`Narrow.lost` of heads that lost so much of rows as they are stored, (B,) float32."""
    found = lost.numpy()
    if norms is not None:
        divisors = norms.numpy()
        wide = found.astype(np.float64) / divisors * (1.0 + 2.0**-50) + np.where(divisors == 1.0, 0.0, _ROUNDED)
        found = np.where(found == 0.0, found, np.nextafter(wide.astype(np.float32), np.float32(np.inf)))
    return torch.from_numpy(np.where(found <= _MOST, found, np.float32(np.inf)))

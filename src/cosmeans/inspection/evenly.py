"""Rows that take part, spread evenly over a source: what is measured of rows is measured of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 20  # rows looked at together: their indices take 8 MB


def evenly(taking_part: Callable[[slice], Tensor | None], n_rows: int, size: int, *, block: int = _BLOCK) -> Tensor:
    """Indices of at most `size` rows that take part, (S,) int64 on the host, ascending, at even distances.

    The first and the last are among them. Fewer, or none, where so few take part.
    taking_part  (span) -> bool for each of its rows, or None: all of them
    block        rows of a span
    """
    spans = [slice(start, min(start + block, n_rows)) for start in range(0, n_rows, block)]
    counts = np.array([_count(taking_part(span), span) for span in spans], np.int64)
    ends = np.cumsum(counts)
    total = int(counts.sum())
    ranks = np.linspace(0, total - 1, min(size, total)).astype(np.int64)
    places = np.searchsorted(ends, ranks, side="right")
    parts = [torch.empty(0, dtype=torch.int64, device="cpu")]
    for place in np.unique(places).tolist():
        inside = torch.from_numpy(ranks[places == place] - (ends[place] - counts[place]))
        mask, start = taking_part(spans[place]), spans[place].start
        parts.append(start + (inside if mask is None else mask.nonzero()[:, 0].cpu()[inside]))
    return torch.cat(parts)


def _count(mask: Tensor | None, span: slice) -> int:
    return span.stop - span.start if mask is None else int(mask.sum())

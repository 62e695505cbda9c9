"""Scores of all rows of a session with their own centroids, one pass each; and rows in tiles, for more scores."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cosmeans.contracts import InspectedRows, Session
from cosmeans.data import Batch, OwnChords, store
from cosmeans.epoch import PendingChords

# cosines held at once, 4 to 24 bytes each with what is made of them; a device wants more work at a time
_CPU_TILE_VALUES, _DEVICE_TILE_VALUES = 1 << 21, 1 << 24


def own_scores(session: Session, centroids: Tensor, labels: Tensor) -> Tensor:
    """Canonical score of every row with its own centroid, (N,) float64; 0 for label -1."""
    own = torch.empty(session.rows.n_rows, dtype=torch.float64, device=session.device)
    for batch in session.rows.batches():
        store(session.scores(batch, centroids, labels[batch.span]), own[batch.span])
    return own


def own_chords(session: Session, centroids: Tensor, labels: Tensor) -> OwnChords:
    """The same, and the inertia: the sum of w times the squared chords, in the caller's weights (rule 11)."""
    own = PendingChords(session, session.rows.n_rows, session.device)
    for batch in session.rows.batches():
        own.add(batch, centroids, labels[batch.span])
    return own.joined(session.rows.exponent)


def tiles(rows: InspectedRows, n_columns: int) -> Iterator[Batch]:
    """Every row once, in batches small enough to hold n_columns cosines a row, and on the CPU a copy of the row."""
    if rows.device.type == "cpu":
        # rows of a tile are converted and gathered: neither they nor their cosines may be many
        step = max(1, _CPU_TILE_VALUES // max(n_columns, rows.n_features))
    else:
        step = max(1, _DEVICE_TILE_VALUES // n_columns)
    for batch in rows.batches():
        yield from batch.chunks(step)

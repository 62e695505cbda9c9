"""Scores of all rows of a session with their own centroids, one pass each."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Session
from cosmeans.data import OwnChords


def own_scores(session: Session, centroids: Tensor, labels: Tensor) -> Tensor:
    """Canonical score of every row with its own centroid, (N,) float64; 0 for label -1."""
    own = _empty(session)
    for batch in session.rows.batches():
        own[batch.span] = session.scores(batch, centroids, labels[batch.span])
    return own


def own_chords(session: Session, centroids: Tensor, labels: Tensor) -> OwnChords:
    """The same, and the inertia: the sum of w times the squared chords, in the caller's weights (rule 11)."""
    own = _empty(session)
    limbs = torch.zeros(4, dtype=torch.int64, device=session.device)
    for batch in session.rows.batches():
        own[batch.span], squared = session.chords(batch, centroids, labels[batch.span])
        limbs += session.inertia_limbs(squared, batch.weights)
    return OwnChords(own, sphere.joined_limbs(limbs.tolist(), session.rows.exponent))


def _empty(session: Session) -> Tensor:
    return torch.empty(session.rows.n_rows, dtype=torch.float64, device=session.device)

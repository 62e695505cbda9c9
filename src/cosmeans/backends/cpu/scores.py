"""Canonical scores of a batch, and what is made of them: chords, cosines, best scores so far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import canonical
from cosmeans.backends.cpu.kernels import scores as kernels
from cosmeans.backends.cpu.rows import check_labels, pieces, unit_block
from cosmeans.backends.cpu.threads import spread
from cosmeans.data import Batch

_TILE_BYTES = 8 << 20  # float64 products held at once
_TILE_ROWS = 64  # fewer rows make a product slow, however many centroids


def scores(batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
    """Canonical score of each row with the centroid of its label, (B,) float64; 0 for label -1."""
    out = torch.empty(len(batch), dtype=torch.float64, device="cpu")
    plain, used = _used(centroids.numpy(), labels.numpy())
    ordered = canonical.ordered(plain)
    for span in pieces(batch.rows, batch.norms):
        rows = unit_block(batch, span)
        spread(kernels.scores, rows, ordered, used[span], out[span].numpy(), size=len(rows))
    return out


def chords(batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`scores`, and squared chords from the same centroids (rule 11), (B,) float64 each; 0 for label -1."""
    found, squared = torch.empty((2, len(batch)), dtype=torch.float64, device="cpu")
    plain, used = _used(centroids.numpy(), labels.numpy())
    ordered = canonical.ordered(plain)
    for span in pieces(batch.rows, batch.norms):
        rows = unit_block(batch, span)
        given = (rows, ordered, plain, used[span], found[span].numpy(), squared[span].numpy())
        spread(kernels.chords, *given, size=len(rows))
    return found, squared


def inertia_limbs(squared: Tensor, weights: Tensor | None) -> Tensor:
    """`sphere.inertia_limbs`, by NumPy: torch would wake its threads for so little, and wait for them."""
    left = squared.numpy() if weights is None else weights.numpy() * squared.numpy()
    limbs = []
    for _ in range(3):
        whole = np.floor(left)
        limbs.append(int(whole.astype(np.int64).sum()))
        left = (left - whole) * 2.0**30  # both exact
    limbs.append(int(np.rint(left).astype(np.int64).sum()))
    return torch.tensor(limbs, dtype=torch.int64, device="cpu")


def cosines(batch: Batch, centroids: Tensor) -> Tensor:
    """Canonical scores with every centroid, rounded to float32, (B, K); 0 for rows not kept."""
    out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device="cpu")
    wide, plain = centroids.to(torch.float64), centroids.numpy()
    error = batch.rows.shape[1] * 2.0**-52
    tile = max(_TILE_ROWS, _TILE_BYTES // (8 * max(centroids.shape)))
    for start in range(0, len(batch), tile):
        rows = unit_block(batch, slice(start, start + tile))
        products = (torch.from_numpy(rows).to(torch.float64) @ wide.T).numpy()
        spread(
            kernels.cosines,
            *(products, rows, plain, error, out[start : start + tile].numpy()),
            size=len(rows),
        )
    if batch.keep is not None:
        out[~batch.keep] = 0.0
    return out


def improve(batch: Batch, centroid: Tensor, best: Tensor) -> None:
    """Raise best (B,) float64 to the canonical score with this centroid (D,) where that is larger."""
    slack = sphere.screen_error(batch.rows.shape[1])
    ordered = canonical.ordered(centroid.numpy()[None])[0]
    for span in pieces(batch.rows, batch.norms):
        rows = unit_block(batch, span)
        spread(kernels.improve, rows, centroid.numpy(), ordered, slack, best[span].numpy(), size=len(rows))


def _used(centroids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids and labels; of fewer rows than centroids, the centroids that they use, and labels that index those."""
    check_labels(labels, len(centroids))
    if len(labels) >= len(centroids):
        return centroids, labels
    used, inverse = np.unique(labels, return_inverse=True)
    first = int(np.searchsorted(used, 0))  # 1 where a label is -1
    return centroids[used[first:]], (inverse - first).astype(np.int32)

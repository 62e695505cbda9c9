"""Sums of clusters: rows whose label changed leave one sum and join another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans.backends.cpu.kernels.accumulate import accumulate as accumulate_rows
from cosmeans.backends.cpu.rows import check_labels, float32_rows, pieces
from cosmeans.backends.cpu.threads import spread
from cosmeans.data import Batch, ClusterSums

_AT_ONCE = 1 << 17  # rows whose labels are compared at once
_FEW = 64  # rows that are looked up one by one, wherever they are


def accumulate(batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
    """Move the rows of a batch whose label changed, and write their labels into `before`. Returns how many."""
    return _accumulate(batch, before.numpy(), after.numpy(), into)


def _accumulate(batch: Batch, before: np.ndarray, after: np.ndarray, into: ClusterSums) -> int:
    moved = 0
    for start in range(0, len(before), _AT_ONCE):
        changed = np.flatnonzero(before[start : start + _AT_ONCE] != after[start : start + _AT_ONCE]) + start
        if len(changed):
            for labels in (before[changed], after[changed]):
                check_labels(labels, len(into.count))
            _move(batch, changed, before, after, into)
            before[changed] = after[changed]
            moved += len(changed)
    return moved


def _move(batch: Batch, changed: np.ndarray, before: np.ndarray, after: np.ndarray, into: ClusterSums) -> None:
    """Take some rows of a batch out of the sums of their old labels and add them to those of their new ones."""
    spans = pieces(batch.rows) if len(changed) > _FEW else [slice(0, len(batch))]
    for span in spans:
        first, last = np.searchsorted(changed, (span.start, span.stop))
        if first == last:
            continue
        part = changed[first:last]
        rows, at, norms, weights = _changed_rows(batch, part)
        spread(
            accumulate_rows,
            *(rows, at, norms, weights, part, before, after, into.scale, into.direction.numpy()),
            size=rows.shape[1],
            smallest=16,
        )
    count = into.count.numpy()
    for labels, sign in ((before[changed], -1), (after[changed], 1)):
        count += sign * np.bincount(labels[labels >= 0], minlength=len(count))


def _changed_rows(batch: Batch, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """float32 rows, the index of each changed one among them, their norms and weights. Copies nothing it needn't."""
    index = torch.from_numpy(changed)
    rows, at = batch.rows, changed
    if batch.narrow is not None:
        rows, at = batch.narrow.exact(index), np.arange(len(changed))
    elif rows.dtype is not torch.float32 or not rows.is_contiguous():
        rows, at = rows[index], np.arange(len(changed))
    ones = np.ones(len(changed))
    norms = ones if batch.norms is None else batch.norms[index].numpy()
    weights = ones if batch.weights is None else batch.weights[index].numpy()
    return float32_rows(rows), at, norms, weights

"""The centroids that follow an epoch's sums, and what the epoch found."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu.kernels.update import update as update_centroids
from cosmeans.backends.cpu.threads import spread
from cosmeans.data import ClusterSums
from cosmeans.epoch import Outcome, finished


def update(sums: ClusterSums, previous: Tensor, total: int, changed: int, settled: int) -> Outcome:
    """`epoch.outcome`."""
    centroids, degenerate = torch.empty_like(previous), torch.empty(len(previous), dtype=torch.bool, device="cpu")
    own, shift = torch.empty((2, len(previous)), dtype=torch.float64, device="cpu")
    spread(
        update_centroids,
        *(sums.direction.numpy(), previous.numpy(), centroids.numpy(), degenerate.numpy(), own.numpy(), shift.numpy()),
        size=len(previous),
    )
    made = sphere.Update(centroids, degenerate)
    similarity = float(sphere.mean_of(own, total))
    return finished(made, previous, similarity, float(shift.max()), sums.count, changed, settled)

"""The first pass ahead of its time: labels of rows while others travel, or lengths are read (docs/gpu.md, section 6).

It is only ever a cache. A label is a function of its row and of the centroids, whatever is done when; what was found
under centroids of other bits is dropped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans.backends.gpu.choice import CLOSE
from cosmeans.backends.gpu.desk import Desk
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.refine import settle
from cosmeans.backends.gpu.kernels.select import Screens
from cosmeans.data import Assignment, Batch


class Ahead:
    """Labels of N rows under these centroids, as far as the rows have arrived. Nothing waits for the device.

    All memory is that of the desk where the fit works: labels lie where its first pass leaves them.

    counts  (4,) int32: `Doubtful.counts`, added up over the rows
    """

    def __init__(self, centroids: Tensor, n_rows: int, desk: Desk, screens: Screens) -> None:
        k, d = centroids.shape
        # a copy: what the fit begins with is compared with what rows were labelled under
        own = centroids.clone(memory_format=torch.contiguous_format)
        self._given, self._version = centroids, centroids._version
        self._columns = desk.centroids(k, d, screens.column_tile(k, d)).quantise(own)
        self._space, self._screens = desk.settling(n_rows), screens
        self._labels = desk.labels(n_rows)
        numbers = torch.zeros(5, dtype=torch.int32, device=own.device)
        self.counts, self._settled = numbers[:4], numbers[4:]

    def label(self, near: Batch, copy: Copy, scaled: Tensor) -> None:
        """Queue the labels of rows that are there, with their norms. `copy` is of all rows.

        scaled: int32, not 0 if one of the norms is not 1
        """
        space, columns, labels = self._space, self._columns, self._labels[near.span]
        space.doubtful.counts.zero_()
        errors = self._screens.screen(copy, near.start, columns, labels, space.doubtful, close=CLOSE)
        settle(space, copy, near.start, near, columns, labels, errors, self._screens.programs, scaled)
        self._settled += space.n_settled
        self.counts += space.doubtful.counts

    def is_under(self, centroids: Tensor) -> bool:
        """Whether these have the bits of the centroids that rows were labelled under.

        Waits for the device, unless they are the same tensor, in which nothing was written since.
        """
        if centroids is self._given and centroids._version == self._version:
            return True
        return torch.equal(centroids.view(torch.int32), self._columns.centroids.view(torch.int32))

    def assignment(self, batch: Batch) -> Assignment:
        """That of a batch of these rows. All that were settled count with the first one."""
        return Assignment(self._labels[batch.span], 0 if batch.start else self._settled)

"""Labels of rows: a screen, in float16 or in 8 bits first, and canonical scores for the rows that it can't certify.

Meaning: `backends/reference.py`, `assign`. Nothing here waits for the device: lists have their lengths in its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.cascade import CascadeWorkspace, compare, gather
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.refine import RefineWorkspace, refine
from cosmeans.backends.gpu.kernels.screen import Errors, GatherList, Uncertified, accumulation_error, screen
from cosmeans.backends.gpu.tuning import describe, tile_for
from cosmeans.data import Batch
from cosmeans.errors import BackendUnavailableError


class Screens:
    """The screen of one device: which one runs there, the portable or the Hopper one, and how it is launched.

    programs  its multiprocessors
    tile      of the portable screen
    reason    why the portable screen runs on a Hopper GPU; None: it doesn't, or was asked for
    """

    def __init__(self, device: torch.device, wanted: str, log: Callable[[str], None] = lambda _: None) -> None:
        """wanted: "portable", "hopper", or "auto": the fastest that runs here. log: is told `reason` in one line."""
        self.device, self._wanted, self._log = device, wanted, log
        self.reason: str | None = None
        self._hopper: bool | None = None  # not known before the shape of the centroids is
        self._chip, shared, self.programs = describe(device)
        self.tile = tile_for(self._chip, shared)
        self._decided: dict[tuple[int, int, bool], tuple[screen_hopper.Shape | None, Errors]] = {}

    def shape(self, n_clusters: int, n_features: int, integers: bool = False) -> screen_hopper.Shape | None:
        """How the Hopper screen is cut for these centroids, once it is built; None: the portable one runs."""
        if self._hopper is None:
            self._hopper = self._choose(n_clusters, n_features)
        return screen_hopper.shape_for(n_clusters, n_features, integers) if self._hopper else None

    def expected(self, n_clusters: int, n_features: int, integers: bool = False) -> screen_hopper.Shape | None:
        """`shape` if building does not fail; nothing is built."""
        runs = self._hopper
        if runs is None:
            runs = self._wanted != "portable" and screen_hopper.why_not(self.device) is None
        return screen_hopper.shape_for(n_clusters, n_features, integers) if runs else None

    def row_tile(self, n_clusters: int, n_features: int) -> int:
        """Rows of one swizzled tile of a copy; 0: row-major."""
        return screen_hopper.ROW_TILE if self.shape(n_clusters, n_features) else 0

    def column_tile(self, n_clusters: int, n_features: int, integers: bool = False) -> int:
        """Centroids of one swizzled tile; 0: row-major."""
        shape = self.shape(n_clusters, n_features, integers)
        return shape.columns if shape else 0

    def screen(
        self,
        copy: QuantizedRows,
        start: int,
        centroids: QuantizedCentroids,
        labels: Tensor,
        uncertified: Uncertified,
        listed: GatherList | None = None,
        close: float = 0.0,
    ) -> Errors:
        """`screen.screen` or `screen_hopper.screen`, whose arguments these are; returns the errors it may have made."""
        k, d = centroids.centroids.shape
        shape, errors = self._decide(k, d, copy.integers)
        task = (copy, start, centroids, labels, uncertified, errors)
        if shape is not None:
            screen_hopper.screen(shape, *task, self.programs, listed, close)
        else:
            screen(*task, self.tile, listed)
        return errors

    def _decide(self, n_clusters: int, n_features: int, integers: bool) -> tuple[screen_hopper.Shape | None, Errors]:
        """The shape of the Hopper screen, if it runs, and the errors of the screen: the same in every pass."""
        kind = (n_clusters, n_features, integers)
        if kind not in self._decided:
            shape = self.shape(*kind)
            accumulation = 0.0 if integers else accumulation_error(n_features, self.device)
            errors = Errors(accumulation, screen_hopper.rounding(integers) if integers or shape is not None else 0.0)
            self._decided[kind] = shape, errors
        return self._decided[kind]

    def _choose(self, n_clusters: int, n_features: int) -> bool:
        """Whether the Hopper screen runs. Raises BackendUnavailableError if it was asked for and can't."""
        if self._wanted == "portable":
            return False
        reason = screen_hopper.why_not(self.device)
        if reason is None:
            try:
                screen_hopper.build(screen_hopper.shape_for(n_clusters, n_features), self.device)
            except BackendUnavailableError as error:
                reason = str(error)
        if reason is not None and self._wanted == "hopper":
            raise BackendUnavailableError(f"The Hopper screen can't run on {self.device}: {reason}.")
        if reason is not None and self._chip == "sm_90":
            self.reason = reason
            self._log(f"the portable screen runs instead of the Hopper one: {reason}")
        return reason is None


class Narrow(NamedTuple):
    """Quantised rows that hold a batch, and where in them it starts."""

    rows: QuantizedRows
    start: int


class FirstStage(NamedTuple):
    """What a pass that begins in 8 bits needs: the codes of the batch, and memory."""

    codes: Narrow
    space: CascadeWorkspace


def certify(
    screens: Screens,
    space: RefineWorkspace,
    copy: Narrow,
    columns: QuantizedCentroids,
    labels: Tensor,
    *,
    first: FirstStage | None = None,
    close: float = 0.0,
) -> Errors:
    """Write preliminary labels (B,) and list the rows that lack proof; returns the errors of the screen.

    copy    the batch in float16
    first   what screens it before, in 8 bits; None: float16 alone, where scores that are `close` are counted
    """
    space.uncertified.counts.zero_()
    if first is None:
        return screens.screen(*copy, columns, labels, space.uncertified, close=close)
    assert columns.codes is not None
    left, found, programs = space.uncertified, first.space, screens.programs
    found.uncertified.counts.zero_()
    errors = screens.screen(*first.codes, columns.codes, labels, found.uncertified)
    compare(*copy, columns.centroids, found.uncertified, labels, left, programs)
    gather(*copy, *first.codes, columns.codes.bounds, errors.rounding, found, left, programs)
    return screens.screen(found.gathered, 0, columns, labels, left, found.listed)


def assign(
    screens: Screens,
    space: RefineWorkspace,
    batch: Batch,
    copy: Narrow,
    columns: QuantizedCentroids,
    labels: Tensor,
    *,
    first: FirstStage | None = None,
    close: float = 0.0,
    scaled: Tensor | None = None,
) -> Tensor:
    """Write the labels (B,) of a batch. Returns how many rows were refined, (1,): the next call overwrites it.

    The arguments are those of `certify` and of `refine`.
    """
    errors = certify(screens, space, copy, columns, labels, first=first, close=close)
    refine(space, *copy, batch, columns, labels, errors, screens.programs, scaled)
    return space.n_refined

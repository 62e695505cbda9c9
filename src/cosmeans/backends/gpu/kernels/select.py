"""Which screen runs on a device, the portable or the Hopper one, and how it is launched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans.backends.gpu.chips import describe, tile_for
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.screen import Errors, GatherList, Uncertified, accumulation_error, screen
from cosmeans.errors import BackendUnavailableError


class Screens:
    """The screen of one device.

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

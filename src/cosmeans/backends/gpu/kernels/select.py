"""Which screen runs on a device, the portable or the Hopper one, and how it is started."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans.backends.gpu.chips import describe, tile_for
from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.columns import Quantised
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.screen import Doubtful, Errors, Listed, accumulation_error, screen
from cosmeans.console import say
from cosmeans.errors import BackendUnavailableError


class Screens:
    """The screen of one device. programs: its multiprocessors."""

    def __init__(self, device: torch.device, wanted: str) -> None:
        """wanted: "portable", "hopper", or "auto": the fastest that runs here."""
        self.device, self._wanted = device, wanted
        self._hopper: bool | None = None  # known with the shape of the centroids
        self._chip, shared, self.programs = describe(device)
        self.tile = tile_for(self._chip, shared)  # of the portable screen
        self._cuts: dict[tuple[int, int, bool], tuple[screen_hopper.Shape | None, Errors]] = {}

    def shape(self, n_clusters: int, n_features: int, integers: bool = False) -> screen_hopper.Shape | None:
        """How the Hopper screen is cut for these centroids; None: the portable one runs."""
        if self._hopper is None:
            self._hopper = self._choose(n_clusters, n_features)
        return screen_hopper.shape_for(n_clusters, n_features, integers) if self._hopper else None

    def expected(self, n_clusters: int, n_features: int, integers: bool = False) -> screen_hopper.Shape | None:
        """`shape` if nothing fails: nothing is built."""
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
        copy: Copy,
        start: int,
        centroids: Quantised,
        labels: Tensor,
        doubtful: Doubtful,
        listed: Listed | None = None,
        close: float = 0.0,
    ) -> Errors:
        """`screen.screen` or `screen_hopper.screen`, whose arguments these are; returns what it may have lost."""
        k, d = centroids.centroids.shape
        shape, errors = self._cut(k, d, copy.integers)
        task = (copy, start, centroids, labels, doubtful, errors)
        if shape is not None:
            screen_hopper.screen(shape, *task, self.programs, listed, close)
        else:
            screen(*task, self.tile, listed)
        return errors

    def _cut(self, n_clusters: int, n_features: int, integers: bool) -> tuple[screen_hopper.Shape | None, Errors]:
        """The Hopper screen's shape, and what the screen may lose: the same in every pass."""
        kind = (n_clusters, n_features, integers)
        if kind not in self._cuts:
            shape = self.shape(*kind)
            accumulation = 0.0 if integers else accumulation_error(n_features, self.device)
            errors = Errors(accumulation, screen_hopper.rounding(integers) if integers or shape is not None else 0.0)
            self._cuts[kind] = shape, errors
        return self._cuts[kind]

    def _choose(self, n_clusters: int, n_features: int) -> bool:
        """Whether the Hopper screen runs; without it on a Hopper GPU one line says why."""
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
            say(f"cosmeans: the portable screen runs in place of the Hopper one: {reason}")
        return reason is None

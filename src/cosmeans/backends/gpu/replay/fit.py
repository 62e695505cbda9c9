"""A fit whose epochs are captured and replayed, and the memory that it works in (`graph.py` says why)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.quantize import quantize_rows
from cosmeans.backends.gpu.kernels.update import OutputRing
from cosmeans.backends.gpu.replay.graph import CapturedEpochs
from cosmeans.backends.gpu.rows.memory import NO_EPOCH, FitState, Workspace
from cosmeans.backends.gpu.rows.plans import plan_resident
from cosmeans.backends.gpu.rows.resident import ResidentRows
from cosmeans.backends.gpu.tuning import ANY, ResidencyPlan, pooled_bytes
from cosmeans.contracts import InspectedRows
from cosmeans.data import Batch
from cosmeans.epoch import Outcome

LOOKAHEAD = 3  # epochs queued while one is read, where a pass takes the device less time than the host


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """A fit whose epochs can be captured.

    kind    what decides which kernels they start with which numbers
    batch   all rows
    pooled  whether the workspace is small enough to be kept for the next fit; rows are copied into such a one only
    plain   epochs that are started kernel by kernel, for the device to have work while the next one is captured
    """

    kind: tuple[object, ...]
    batch: Batch
    pooled: bool
    plain: int

    @property
    def lookahead(self) -> int:
        """Epochs queued beyond the one that is read: enough that the device never waits for the host."""
        return 1 if self.plain else LOOKAHEAD

    @classmethod
    def of(cls, rows: InspectedRows, k: int, screen: object, state: DeviceState) -> ReplayPlan | None:
        """None if capturing can't be done or would not pay. screen: which kernel."""
        n, d, device = rows.n_rows, rows.n_features, rows.device
        if not state.captures(n, k, d):
            return None
        batch = next(iter(rows.batches())) if rows.in_place and rows.rows_device == device else None
        if batch is None or len(batch) < n or batch.rows.stride(1) != 1:
            return None
        parts = (batch.rows, batch.norms, batch.keep, batch.weights)
        dtypes = tuple(None if part is None else part.dtype for part in parts)
        kind = (device, _stream(device), n, k, d, screen, rows.scale, rows.total, *dtypes)
        pooled = state.pools(n, k, d, batch.rows.element_size())
        return cls(kind, batch, pooled, state.plain_epochs(n, k, d))

    def copied_to(self, workspace: Workspace) -> ReplayPlan:
        """With its rows copied there."""
        rows = workspace.copy("rows", self.batch.rows)
        assert rows is not None
        facts = (workspace.copy(name, getattr(self.batch, name)) for name in ("norms", "keep", "weights"))
        return replace(self, batch=Batch(self.batch.start, rows, *facts))


def _stream(device: torch.device) -> int:
    """Work on one stream is in order, so a workspace serves the fits of one stream."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


class ReplayedFit:
    """One fit by a plan. Memory that captured work uses is made before, and belongs to the workspace."""

    def __init__(self, plan: ReplayPlan, resident: ResidentRows, rows: InspectedRows, k: int) -> None:
        (n, d), workspace = plan.batch.rows.shape, resident.workspace
        self.plan, self._resident, self._rows = plan, resident, rows
        self._plain = 0  # epochs that were started kernel by kernel
        if resident.integers:
            resident.codes = workspace.resident(n, d, resident.screens.row_tile(k, d), integers=True)
        make = functools.partial(FitState.for_replay, n, k, d, rows.scale, resident.device)
        self.fit: FitState = workspace.get("fit state", (), make)
        if workspace.captured is None:
            resident.make_workspace(n, d, k)
            workspace.number(float(rows.total), torch.float64)

    def begin(self) -> None:
        """No row has a label, and no epoch was replayed."""
        workspace = self._resident.workspace
        workspace.columns_for = NO_EPOCH
        captured: CapturedEpochs | None = workspace.captured
        if captured is None or not self.plan.pooled:
            self._reset()
        if captured is not None:
            captured.begin()

    def ready(self, kind: bool, work: Callable[[bool, OutputRing], None]) -> bool:
        """Whether an epoch of this kind (in 8 bits first, or not) can be replayed; work(kind, ring) is captured for it.

        Kernels are loaded when they are first started, which must not happen in a capture. Long first epochs are
        started kernel by kernel in any case: the device is busy while the others are captured.
        """
        workspace, state = self._resident.workspace, self._resident.state
        captured: CapturedEpochs | None = workspace.captured
        if captured is not None and captured.has(kind):
            return True
        loaded = state.largest(("loaded", self.plan.kind, kind))
        if not loaded or (captured is None and self._plain < self.plan.plain):
            return False
        self._make_memory(kind)
        ring = self.fit.ring
        assert ring is not None
        if captured is None:
            captured = CapturedEpochs(ring, state, self._reset if self.plan.pooled else None)
        captured.capture(kind, functools.partial(work, kind, ring))
        workspace.captured = captured
        return True

    def started(self, kind: bool) -> None:
        """An epoch of this kind was started kernel by kernel."""
        self._plain += 1
        self._resident.state.note(("loaded", self.plan.kind, kind))

    def replay(self, number: int, centroids: Tensor, kind: bool) -> Outcome:
        """Epoch `number` from these centroids, which is `ready`."""
        n, d = self.plan.batch.rows.shape
        workspace = self._resident.workspace
        captured: CapturedEpochs = workspace.captured
        if workspace.columns_for != number:  # one epoch leaves its centroids, and their columns, to the next
            self._resident.columns_space(*centroids.shape).quantize(captured.start_from(centroids))
        outcome = captured.replay(kind)
        workspace.columns_for = number + 1
        self._resident.note(n, d, kind)
        return outcome

    def disturb(self) -> None:
        """The next epoch starts from other centroids than those that the one replayed last has left."""
        self._resident.workspace.columns_for = NO_EPOCH

    def _make_memory(self, kind: bool) -> None:
        """The memory of an epoch of this kind."""
        resident = self._resident
        if kind and resident.copy is not None and self.fit.ring is not None:
            k, d = self.fit.ring.start.shape
            resident.make_codes(self._rows, k)
            resident.workspace.integers(k, d, resident.screens.column_tile(k, d, integers=True))
            resident.workspace.cascade(len(self.plan.batch), d, resident.copy.tile)

    def _reset(self) -> None:
        """What a fit begins with; in a pooled workspace it is captured, too."""
        self.fit.reset()
        for copy, wanted in ((self._resident.copy, self.plan.pooled), (self._resident.codes, True)):
            if copy is not None and wanted:
                quantize_rows(self.plan.batch, copy, 0)


def in_pooled_workspace(plan: ReplayPlan, resident: ResidentRows, k: int) -> ReplayPlan:
    """The plan with its rows copied to a pooled workspace; where they are if there is no room for that."""
    (n, d), state = plan.batch.rows.shape, resident.state
    workspace = state.acquire(plan.kind) or Workspace(state.device, state.tuning)
    residency = ResidencyPlan(copied=True, chunk=n)
    if workspace.captured is None:  # otherwise it has all its memory
        residency = plan_resident(n, d, k, ANY, state.device, state.tuning)
        if not residency.copied:  # no epoch is captured then, so nothing would fill the copy there
            return replace(plan, pooled=False)
        needed = residency.n_bytes + plan.batch.rows.nbytes
        if state.free_bytes(needed) < needed:
            state.clear()
            if state.free_bytes(needed) < needed:
                return replace(plan, pooled=False)
    workspace.n_bytes = pooled_bytes(n, k, d, plan.batch.rows.element_size())
    resident.workspace, resident.plan = workspace, residency
    resident.copy = workspace.resident(n, d, resident.screens.row_tile(k, d))
    return plan.copied_to(workspace)

"""The backend of whole fits: many work at desks, and epochs are recorded and played back (docs/design-gpu.md, 5)."""

from __future__ import annotations

import weakref
from dataclasses import replace

import torch
from torch import Tensor

from cosmeans.backends.gpu import record
from cosmeans.backends.gpu.desk import Desk, clear_desks, leave_desk, take_desk
from cosmeans.backends.gpu.kernels.quantize import copy_rows
from cosmeans.backends.gpu.memory import ANY, MemoryPlan, plan_memory
from cosmeans.backends.gpu.passes import Passes, there
from cosmeans.backends.gpu.record import Plan, Recording, Standing, Work
from cosmeans.contracts import Loan, Observer, RowSource
from cosmeans.sphere import Outcome


class GpuBackend(Passes):
    """`contracts.Backend` and `contracts.Recorder`."""

    def __init__(self, device: torch.device | str = "cuda", screen: str = "auto", integers: bool | None = None) -> None:
        super().__init__(device, screen, integers)
        self._leave: weakref.finalize[..., GpuBackend] | None = None  # leaves the desk, as the backend's end does
        self._plan: Plan | None = None  # of the fit that works at the desk
        self._standing: Standing | None = None
        self._kind: bool | None = None  # whether the epoch that is being started begins in 8 bits
        self._started = 0  # epochs of the fit at the desk that were started kernel by kernel

    def _climbs(self, k: int, d: int) -> bool:
        if self._kind is not None:
            return self._kind
        # at a desk that waits all epochs are of one kind
        one_kind = self._plan is not None and self._plan.waits
        return bool(self._integers) if one_kind else super()._climbs(k, d)

    @there
    def lend(self, rows: RowSource, centroids: Tensor) -> Loan | None:
        """`contracts.Recorder`: a fit with short passes works at a desk where all memory of its epochs is made."""
        (k, d), n = centroids.shape, rows.n_rows
        tile = self._screens.row_tile(k, d)
        plan = Plan.of(rows, centroids, (tile, self._integers))
        if self._plan is not None or (plan is not None and plan.waits):
            self._give_back()
        if plan is None:
            return None
        if plan.waits:
            plan = self._at_a_desk(plan, k)
        if not plan.waits:
            self._ready(k, d)  # rows stay where they lie, and so does a copy that they have
        desk = self._desk
        assert self._memory is not None
        if not self._memory.resident:
            return None
        if plan.waits:
            self._resident = desk.resident(n, d, tile)
        if self._integers:
            self._codes = desk.resident(n, d, tile, True)
        self._plan, self.lookahead, self._started = plan, plan.lookahead, 0
        stand = lambda: Standing.empty(n, k, d, rows.scale, self.device)  # noqa: E731
        self._standing = standing = desk.get("standing", (), stand)
        if desk.recording is None:
            self._ready(k, d), desk.settling(n), desk.labels(n), desk.moves(n, k), desk.updates(k)
            desk.number(float(rows.total), torch.float64)
            self._lay_out()
        else:
            desk.recording.begin()
        return Loan(record.lying_at(rows, plan.batch), standing.labels, standing.sums)

    def _at_a_desk(self, plan: Plan, k: int) -> Plan:
        """With its rows copied to a desk that waits for the next fit; where they lie if there is no room for one."""
        n, d = plan.batch.rows.shape
        desk, memory = take_desk(plan.kind, self.device), MemoryPlan(True, n, 0)
        if desk.recording is None:  # otherwise it has all its memory
            memory = plan_memory(n, d, k, ANY, self.device)
            memory = replace(memory, n_bytes=memory.n_bytes + plan.batch.rows.nbytes)
            if self._room(memory.n_bytes) < memory.n_bytes:
                clear_desks()
                if self._room(memory.n_bytes) < memory.n_bytes:
                    return replace(plan, waits=False)
        desk.n_bytes = record.desk_bytes(n, k, d, plan.batch.rows.element_size())
        self._desk, self._memory = desk, memory
        self._leave = weakref.finalize(self, leave_desk, plan.kind, desk)
        self._leave.atexit = False
        return replace(plan, batch=record.copied(plan.batch, desk))

    def _give_back(self) -> None:
        """The desk goes to others, and what this backend knows of it is forgotten."""
        if self._leave is not None:
            self._leave()
        self._leave, self._plan, self._standing = None, None, None
        self._desk, self._memory, self._resident, self._codes = Desk(self.device), None, None, None
        self.lookahead = 1

    def _lay_out(self) -> None:
        """What a fit at the desk begins with."""
        assert self._plan is not None
        assert self._standing is not None
        assert self._resident is not None
        self._standing.clear()
        if self._plan.waits:
            copy_rows(self._plan.batch, self._resident, 0)
        if self._codes is not None:
            copy_rows(self._plan.batch, self._codes, 0)

    @there
    def repeat(self, work: Work, centroids: Tensor, observer: Observer) -> Outcome | None:
        """`contracts.Recorder`: epochs are recorded once their kernels are loaded, and played from then on.

        Long first epochs are started kernel by kernel in any case: the device is busy while the others are recorded.
        """
        assert self._plan is not None  # a fit at a desk
        self._kind = kind = self._climbs(*centroids.shape)
        try:
            recording = self._desk.recording
            if recording is None or not recording.has(kind):
                known = (self._plan.kind, kind) in record.STARTED
                if not known or (recording is None and self._started < self._plan.started):
                    self._started += 1
                    outcome = work(centroids)
                    if outcome is not None:
                        record.STARTED.add((self._plan.kind, kind))
                    return outcome
                recording = self._recorded(kind, work)
                if recording is None:
                    return None
        finally:
            self._kind = None
        n, d = self._plan.batch.rows.shape
        observer.batch(n)
        if not recording.goes_on(centroids):
            self._ready(*centroids.shape).quantise(recording.start_from(centroids))
        outcome = recording.play(kind)
        if self._resident is not None:
            space = self._desk.ladder(n, d, self._resident.tile) if kind else self._desk.settling(n)
            self._note(space.doubtful.counts, kind)
        return outcome

    def _recorded(self, kind: bool, work: Work) -> Recording | None:
        """With an epoch of this kind; None if a stop was requested meanwhile."""
        assert self._standing is not None
        assert self._plan is not None
        if kind and self._resident is not None:  # memory that recorded work uses is made before
            k, d = self._standing.places.start.shape
            self._make_codes(k, d)
            self._desk.integers(k, d, self._screens.column_tile(k, d, True))
            self._desk.ladder(len(self._plan.batch), d, self._resident.tile)
        self._places = self._standing.places
        try:
            recording = self._desk.recording
            if recording is None:
                recording = Recording(self._standing, self._lay_out if self._plan.waits else None)
            if not recording.record(kind, work):
                return None
            self._desk.recording = recording
            return recording
        finally:
            self._places = None

"""One fit on a GPU: epochs are queued ahead of the one that is read, and replayed where starting kernels is slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import on_device
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.update import OutputRing
from cosmeans.backends.gpu.replay.fit import ReplayedFit, ReplayPlan, in_pooled_workspace
from cosmeans.backends.gpu.rows.ingest import Ingest, PrefetchedLabels
from cosmeans.backends.gpu.rows.inspected import inspected_rows
from cosmeans.backends.gpu.rows.memory import NO_EPOCH, FitState, Workspace
from cosmeans.backends.gpu.rows.placed import PlacedRows
from cosmeans.backends.gpu.tuning import ResidencyPlan
from cosmeans.contracts import Group, InspectedRows, RowSource
from cosmeans.data import NO_LABEL, Batch, CostCounters, Labelled, Task
from cosmeans.epoch import Epoch, PendingChords
from cosmeans.observer import FINAL, Log, Observer

_Counts = tuple[int | Tensor, int | Tensor, CostCounters | None]  # rows that changed, that were refined; what it cost


class _Pass(NamedTuple):
    """What a pass is for.

    final  whether it continues whatever stop is requested
    own    where scores with own centroids go
    told   whether the observer hears of each batch
    """

    final: bool = False
    own: PendingChords | None = None
    told: bool = True


class GpuSession:
    """`contracts.Session`. Reading the numbers of an epoch waits for the device, so the next ones are queued before."""

    rows: InspectedRows
    _found: tuple[ResidencyPlan | None, QuantizedRows | None]  # what is known of the rows: a fit begins with it
    _fit: FitState
    _ahead: deque[Epoch]  # queued, and not yet yielded; beyond the one that is read, `_depth` of them may be
    _depth: int
    _yielded: int  # the number of the epoch yielded last
    _next: Tensor  # the centroids that the epoch after it starts from
    _last: Epoch | None  # whose labels are in place, and its number: `NO_EPOCH` after a pass that was broken off
    _labelled: int
    _speculation: Callable[[], bool] | None  # whether the first labels stand, which were found while rows were read
    _streams: bool = False  # whether the rows stay on the host
    _ready: Epoch | None = None  # the first epoch, if it was made while the rows were read

    def __init__(
        self,
        state: DeviceState,
        screens: Screens,
        integers: bool | None,
        source: RowSource | None,
        task: Task,
        group: Group,
        observer: Observer,
        log: Log,
    ) -> None:
        """integers: whether passes begin in 8 bits; None: where that pays. source: None where rows are given later."""
        self.device, self._state, self._screens, self._integers = state.device, state, screens, integers
        self._source, self._task, self._group, self._observer, self._log = source, task, group, observer, log
        self._placed = placed = PlacedRows(state, screens, integers)
        self._resident = placed.resident
        self.scores, self.chords, self.inertia_limbs = placed.scores, placed.chords, placed.inertia_limbs
        self.cosines, self.improve = placed.cosines, placed.improve
        self._ingest: Ingest | None = None
        self._prefetched: PrefetchedLabels | None = None
        self._replay: ReplayedFit | None = None  # the fit that runs; None: its epochs are not captured

    @on_device
    def __enter__(self) -> Self:
        if self._source is not None:
            self._ingest = Ingest(self._source, self._task, self._resident, self._placed.upload, self._log)
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()

    @property
    def labels_while_reading(self) -> bool:
        return self._ingest is not None and self._ingest.labels_while_reading

    @on_device
    def read(self, first: Tensor | None = None) -> None:
        assert self._ingest is not None  # entered
        assert self._source is not None
        found, self._ingest = self._ingest.read(first, self._observer.reading), None
        plan = found.plan
        self._prefetched, self._streams = found.prefetched, plan is not None and plan.fetched > 0
        known = plan is not None and (found.copy is not None or not plan.copied)
        self._found = (plan, found.copy) if known else (None, None)
        self._resident.plan, self._resident.copy = self._found
        self.rows = rows = inspected_rows(found, self._source, self._task, self._placed, self._observer.reading)
        if not self._streams or (first is None and self._task.fit):
            rows.inspect()
        elif first is not None and self._task.fit:  # the first epoch inspects them
            self._begin_fit(first)
            self._ready = self._launch(1, first, _Pass(told=False))
            if self._ready is None:
                raise KeyboardInterrupt

    def subset(self, indices: Tensor, observer: Observer) -> GpuSession:
        source, log = None, self._log
        part = GpuSession(self._state, self._screens, self._integers, source, self._task, self._group, observer, log)
        part.rows, part._found = self.rows.sample(indices), (None, None)
        return part

    # -------------------------------------------------------------------- a fit

    def epochs(self, centroids: Tensor, limit: int) -> Iterator[Epoch]:
        ready, self._ready = self._ready, None
        if ready is not None and limit and torch.equal(ready.centroids, centroids):
            self._observer.epoch(1, limit)
            self._observer.batch(self.rows.n_rows)
            self._ahead.append(ready)
        else:
            self._begin_fit(centroids)
        lookahead = self._depth
        while self._yielded < limit:
            self._queue(limit)
            if not self._ahead:
                return
            if not self._confirmed():
                self._start(centroids)
                continue
            epoch = self._ahead.popleft()
            self._yielded, self._next = epoch.number, epoch.update.centroids
            self._depth = min(self._depth + 1, lookahead)
            yield epoch

    @on_device
    def labels(self, epoch: Epoch) -> Tensor:
        if self._labelled != epoch.number:  # others were queued since: back to the labels of this one
            self._ahead.clear()
            self._pass(epoch.centroids, bool(self._integers), _Pass(final=True))
            self._labelled, self._last = epoch.number, epoch
        return self._fit.labels

    def restart(self, centroids: Tensor) -> None:
        self._ahead.clear()
        # clusters that are relocated once tend to be again, and what was queued is lost each time
        self._next, self._depth = centroids, 0
        if self._replay is not None:
            self._replay.disturb()
        if self._labelled > self._yielded:
            self._labelled = NO_EPOCH

    @on_device
    def finish(self, centroids: Tensor, at_rest: bool = False) -> Labelled:
        number, own = self._yielded + 1, None
        if self._labelled != number and not (at_rest and self._labelled != NO_EPOCH):
            self._observer.epoch(number, FINAL)
            own = PendingChords(self, self.rows.n_rows, self.device) if self._streams else None
            self._launch(number, centroids, _Pass(final=True, own=own))
        last, sums = self._last, self._group.sum(self._fit.sums)
        assert last is not None  # a final pass is not broken off
        chords = None if own is None else own.joined(self.rows.exponent)
        found = Labelled(last.centroids, self._fit.labels, sums.count, last.stats().similarity, chords)
        return found if self._replay is None else found.clone()  # a pooled workspace serves other fits next

    @on_device
    def _begin_fit(self, centroids: Tensor) -> None:
        self._release()
        (k, d), resident = centroids.shape, self._resident
        screen = (self._screens.row_tile(k, d), self._integers)
        plan = ReplayPlan.of(self.rows, k, screen, self._state) if self._group.alone else None
        if plan is not None and plan.pooled:
            plan = in_pooled_workspace(plan, resident, k)
        if plan is None or not plan.pooled:
            self._placed.begin(self.rows, k)
        if plan is not None and resident.plan is not None and resident.plan.copied:
            self._replay = ReplayedFit(plan, resident, self.rows, k)
        self._start(centroids)

    def _start(self, centroids: Tensor) -> None:
        """Nothing is queued, no row has a label, and the first epoch starts from these centroids."""
        (k, d), replay, rows = centroids.shape, self._replay, self.rows
        self._fit = FitState.plain(rows.n_rows, k, d, rows.scale, self.device) if replay is None else replay.fit
        # what the device misses between two epochs is little beside a pass over rows of the host that is for nothing
        self._depth = 0 if self._streams else 1 if replay is None else replay.plan.lookahead
        self._ahead, self._next, self._last = deque(), centroids, None
        self._yielded, self._labelled = 0, NO_EPOCH
        self._speculation = self._ready = None
        if replay is not None:
            replay.begin()

    def _confirmed(self) -> bool:
        """Whether the epochs that are queued stand: not where the first labels were those under other centroids."""
        speculation, self._speculation = self._speculation, None
        return speculation is None or speculation()

    def _release(self) -> None:
        """A pooled workspace goes to others; the next fit begins with what is known of the rows."""
        replay, resident = self._replay, self._resident
        if replay is not None:
            if replay.plan.pooled:
                self._state.release(replay.plan.kind, resident.workspace)
            resident.workspace, resident.codes = Workspace(self.device), None
            resident.plan, resident.copy = self._found
        self._replay = None

    # ------------------------------------------------------------------- epochs

    @on_device
    def _queue(self, limit: int) -> None:
        """Queue epochs until enough are ahead of the one that is read. The final pass is like one more."""
        start = self._ahead[-1].update.centroids if self._ahead else self._next
        while len(self._ahead) <= self._depth and (number := self._yielded + len(self._ahead) + 1) <= limit + 1:
            self._observer.epoch(number, limit if number <= limit else FINAL)
            epoch = self._launch(number, start)
            if epoch is None:
                return
            self._ahead.append(epoch)
            start = epoch.update.centroids

    def _launch(self, number: int, centroids: Tensor, how: _Pass | None = None) -> Epoch | None:
        """Queue one pass and the update after it; None if a stop was requested before its last batch."""
        how = how or _Pass()
        if self._observer.stop_requested and not how.final:
            return None
        self._labelled, self._last = NO_EPOCH, None
        replay = self._replay
        one_kind = replay is not None and replay.plan.pooled
        kind = bool(self._integers) if one_kind else self._resident.begins_in_8_bits()
        if replay is not None and replay.ready(kind, self._capture):
            self._observer.batch(self.rows.n_rows)
            outcome, counters = replay.replay(number, centroids, kind), None
        else:
            found = self._pass(centroids, kind, how, first=number == 1)
            if found is None:
                return None
            changed, settled, counters = found
            sums = self._group.sum(self._fit.sums)
            outcome = self._resident.update(sums, centroids, self.rows.total, changed, settled)
            if replay is not None:
                replay.started(kind)
        self._labelled, self._last = number, Epoch(number, centroids, outcome.update, outcome.stats, counters)
        return self._last

    def _capture(self, kind: bool, ring: OutputRing) -> None:
        """One epoch, while it is captured: the columns of its centroids are there, its outcome goes to the ring."""
        assert self._replay is not None
        batch, labels = self._replay.plan.batch, self._resident.workspace.labels(self.rows.n_rows)
        columns = self._resident.columns(ring.start, kind, made=True)
        refined, _ = self._placed.assign(batch, columns, labels)
        changed = self._placed.accumulate(batch, self._fit.labels, labels, self._fit.sums)
        sums = self._group.sum(self._fit.sums)
        self._resident.update(sums, ring.start, self.rows.total, changed, refined, ring)

    def _pass(self, centroids: Tensor, integers: bool, how: _Pass, *, first: bool = False) -> _Counts | None:
        """Assign every batch and move the rows that changed.

        None: a stop was requested, and some batches keep the labels of the pass before.
        """
        prefetched, columns = self._take_prefetched(centroids) if first else None, None
        if prefetched is None:
            if integers:
                self._resident.make_codes(self.rows, len(centroids))
            columns = self._resident.columns(centroids, integers)
        changed: int | Tensor = 0
        settled: int | Tensor = 0
        counters: CostCounters | None = None
        for batch in self.rows.batches() if self._replay is None else (self._replay.plan.batch,):
            if self._observer.stop_requested and not how.final:
                return None
            whole, before = len(batch) == self.rows.n_rows, self._fit.labels[batch.span]
            labels, refined, counted = self._assigned(batch, columns, prefetched, note=whole)
            moved = self._placed.accumulate(batch, before, labels, self._fit.sums)
            # the numbers of one batch are overwritten by the next
            changed, settled = (moved, refined) if whole else (changed + moved, settled + refined)
            counters = counted if counters is None or counted is None else counters + counted
            if how.own is not None:
                how.own.add(batch, centroids, labels)
            if how.told:
                self._observer.batch(len(batch))
        return changed, settled, counters

    def _assigned(
        self, batch: Batch, columns: QuantizedCentroids | None, prefetched: PrefetchedLabels | None, *, note: bool
    ) -> tuple[Tensor, int | Tensor, CostCounters | None]:
        """Labels of a batch, how many rows were refined, and what that cost."""
        if prefetched is not None:
            if batch.start == 0:
                self._resident.note_counts(prefetched.counts)
            return prefetched.labels[batch.span], 0 if batch.start else prefetched.settled, None
        assert columns is not None
        labels = self._resident.workspace.labels(len(batch))
        return labels, *self._placed.assign(batch, columns, labels, note=note)

    def _take_prefetched(self, centroids: Tensor) -> PrefetchedLabels | None:
        """Labels that were found while rows were read, once. Whether they are those under these centroids is read late,
        since that waits for the device."""
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None:
            self._speculation = prefetched.are_under(centroids)
        return prefetched

    # ----------------------------------------------------------------- one pass

    @on_device
    def assign(self, centroids: Tensor) -> Tensor:
        labels = torch.full((self.rows.n_rows,), NO_LABEL, dtype=torch.int32, device=self.device)
        columns = self._resident.columns(centroids, bool(self._integers))
        self._observer.epoch(1, FINAL)
        for batch in self.rows.batches():
            self._placed.assign(batch, columns, labels[batch.span])
            self._observer.batch(len(batch))
        return labels

    def measure(self, centroids: Tensor) -> Labelled:
        self._release()
        self._start(centroids)
        return self.finish(centroids)

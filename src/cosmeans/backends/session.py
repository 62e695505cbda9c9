"""The plain session: pass by pass, batch by batch. A backend gives it what it does with one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import Group, InspectedRows, RowSource
from cosmeans.data import NO_LABEL, Assignment, Batch, ClusterSums, CostCounters, Labelled, Task
from cosmeans.epoch import Epoch, Outcome, PendingChords
from cosmeans.inspection.rows import Inspected, made_batch_size
from cosmeans.memory_rows import MemoryRows, on_device
from cosmeans.observer import FINAL, Observer


@dataclass(frozen=True, slots=True)
class Operations:
    """What a backend does with a batch; `backends/reference.py` has the meaning of each, under the same name.

    A new backend is `replace(reference.OPERATIONS, assign=...)`, and more where it is faster.

    assign     (batch, prepared, labels of the pass before) -> `Assignment`
    unit_rows  (rows, divisors) -> unit rows: `sphere.unit_rows`
    prepare    whatever a pass needs to know of its centroids; handed to `assign` with every batch
    begin      a fit over these rows starts: state of each row may be kept from pass to pass
    narrow     whether `assign` and `accumulate` take heads in place of rows (`Batch.narrow`)
    """

    assign: Callable[[Batch, Any, Tensor], Assignment]
    squared_norms: Callable[[Tensor], Tensor]
    unit_rows: Callable[[Tensor, Tensor | None], Tensor]
    accumulate: Callable[[Batch, Tensor, Tensor, ClusterSums], int]
    update: Callable[[ClusterSums, Tensor, int, int, int], Outcome]
    scores: Callable[[Batch, Tensor, Tensor], Tensor]
    chords: Callable[[Batch, Tensor, Tensor], tuple[Tensor, Tensor]]
    inertia_limbs: Callable[[Tensor, Tensor | None], Tensor]
    cosines: Callable[[Batch, Tensor], Tensor]
    improve: Callable[[Batch, Tensor, Tensor], None]
    prepare: Callable[[Tensor], Any] = lambda centroids: centroids
    begin: Callable[[InspectedRows], None] = lambda rows: None
    narrow: bool = False


class PlainSession:
    """`contracts.Session` of a backend that computes as soon as it is asked to."""

    rows: InspectedRows
    _labels: Tensor
    _sums: ClusterSums  # of the rows here
    _total: ClusterSums  # of the rows of all processes, in the last epoch
    _next: Tensor
    _last: Epoch | None
    _ready: Epoch | None = None  # the first epoch, if it was made while the rows were read

    def __init__(
        self,
        operations: Callable[[], Operations],
        source: RowSource,
        task: Task,
        device: torch.device,
        group: Group,
        observer: Observer,
    ) -> None:
        """operations: makes those of one session; what they keep of rows is never taken for that of others."""
        self.device, self._operations, self._ops = device, operations, operations()
        self._source, self._task, self._group, self._observer = source, task, group, observer
        self.scores, self.chords, self.cosines = self._ops.scores, self._ops.chords, self._ops.cosines
        self.improve, self.inertia_limbs = self._ops.improve, self._ops.inertia_limbs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing here outlives a session."""

    @property
    def labels_while_reading(self) -> bool:
        return self._task.fit and not isinstance(self._source, MemoryRows)

    def read(self, first: Tensor | None = None) -> None:
        squared_norms = self._ops.squared_norms  # not by way of self: the rows would outlive the session

        def inspect(batch: Batch) -> tuple[Tensor, sphere.Lengths]:
            squared = squared_norms(batch.rows)
            return squared, sphere.lengths(squared)

        source = on_device(self._source, self.device)
        progress, unit_rows = self._observer.reading, self._ops.unit_rows
        converts = isinstance(source, MemoryRows) and source.converts
        most = made_batch_size(source.n_features) if converts else None
        self.rows = Inspected(source, self._task, inspect, batch_limit=most, unit_rows=unit_rows, progress=progress)
        if first is None or not self.labels_while_reading:
            self.rows.inspect()
            return
        self._begin(first)
        found = self._pass(first, told=None)
        if found is None:
            raise KeyboardInterrupt
        self._ready = self._ended(1, first, found)

    def subset(self, indices: Tensor, observer: Observer) -> PlainSession:
        part = PlainSession(self._operations, self._source, self._task, self.device, self._group, observer)
        part.rows = self.rows.sample(indices)
        return part

    def epochs(self, centroids: Tensor, limit: int) -> Iterator[Epoch]:
        ready, self._ready = self._ready, None
        if ready is None or not limit or not torch.equal(ready.centroids, centroids):
            ready = None
            self._begin(centroids)
        for number in range(1, limit + 1):
            self._observer.epoch(number, limit)
            if ready is not None:
                epoch, ready = ready, None
                self._observer.batch(self.rows.n_rows)
            else:
                found = self._pass(self._next, told=self._observer.batch)
                if found is None:
                    return
                epoch = self._ended(number, self._next, found)
            self._next, self._last = epoch.update.centroids, epoch
            yield epoch

    def labels(self, epoch: Epoch) -> Tensor:
        return self._labels

    def restart(self, centroids: Tensor) -> None:
        self._next = centroids

    def finish(self, centroids: Tensor, at_rest: bool = False) -> Labelled:
        last, own = self._last, None
        if not at_rest:
            number = 1 if last is None else last.number + 1
            self._observer.epoch(number, FINAL)
            own = PendingChords(self._ops, self.rows.n_rows, self.device)
            found = self._pass(centroids, told=self._observer.batch, own=own)
            assert found is not None  # a final pass continues whatever stop is requested
            last = self._ended(number, centroids, found)
        assert last is not None  # an epoch after which no centroid moved
        chords = None if own is None else own.joined(self.rows.exponent)
        return Labelled(last.centroids, self._labels, self._total.count, last.stats().similarity, chords)

    def assign(self, centroids: Tensor) -> Tensor:
        labels = self._no_labels()
        prepared = self._ops.prepare(centroids)
        self._observer.epoch(1, FINAL)
        for batch in self.rows.batches():
            before = labels[batch.span]
            self._ops.assign(batch, prepared, before).write(into=before)
            self._observer.batch(len(batch))
        return labels

    def measure(self, centroids: Tensor) -> Labelled:
        self._start(centroids)
        return self.finish(centroids)

    def _begin(self, centroids: Tensor) -> None:
        """A fit starts from these centroids."""
        self._ops.begin(self.rows)
        self._start(centroids)

    def _start(self, centroids: Tensor) -> None:
        """No row has a label, and the first epoch starts from these centroids."""
        n_clusters, n_features = centroids.shape
        self._labels = self._no_labels()
        self._sums = ClusterSums.zeros(n_clusters, n_features, self.rows.scale, self.device)
        self._next, self._last, self._ready = centroids, None, None

    def _no_labels(self) -> Tensor:
        return torch.full((self.rows.n_rows,), NO_LABEL, dtype=torch.int32, device=self.device)

    def _pass(
        self, centroids: Tensor, told: Callable[[int], None] | None, own: PendingChords | None = None
    ) -> _Counts | None:
        """Assign every batch and move the rows that changed. None if a stop was requested before the last batch.

        told  called with the rows of each batch
        own   where scores with own centroids go: of a last pass, which no stop breaks off
        """
        prepared = self._ops.prepare(centroids)
        changed, settled, counters = 0, 0, None
        for batch in self.rows.batches(narrow=self._ops.narrow and own is None):
            if self._observer.stop_requested and own is None:
                return None
            before = self._labels[batch.span]
            found = self._ops.assign(batch, prepared, before)
            changed += self._ops.accumulate(batch, before, found.labels, self._sums)
            settled += int(found.settled)
            if found.counters is not None:
                counters = found.counters if counters is None else counters + found.counters
            if own is not None:
                own.add(batch, centroids, found.labels)
            if told is not None:
                told(len(batch))
        return _Counts(changed, settled, counters)

    def _ended(self, number: int, centroids: Tensor, found: _Counts) -> Epoch:
        """The epoch that a pass completes: the sums of all processes, and the update."""
        self._total = self._group.sum(self._sums)
        outcome = self._ops.update(self._total, centroids, self.rows.total, found.changed, found.settled)
        return Epoch(number, centroids, outcome.update, outcome.stats, found.counters)


class _Counts(NamedTuple):
    """Rows that changed, rows that were settled, and what a pass cost."""

    changed: int
    settled: int
    counters: CostCounters | None

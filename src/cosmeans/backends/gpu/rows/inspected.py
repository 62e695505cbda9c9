"""The rows that a session works on, after they were planned for and sent, or left on the host."""

from __future__ import annotations

from collections.abc import Callable

from cosmeans.backends.gpu.rows.ingest import Ingested
from cosmeans.backends.gpu.rows.placed import PlacedRows
from cosmeans.backends.gpu.rows.plans import rows_per_fetch
from cosmeans.contracts import RowSource
from cosmeans.data import Task
from cosmeans.inspection.rows import Inspected
from cosmeans.memory_rows import MemoryRows


def inspected_rows(
    found: Ingested, source: RowSource, task: Task, placed: PlacedRows, progress: Callable[[int, int], None]
) -> Inspected:
    """Rows on the device, inspected already; or those of the source, which the first pass over them inspects."""
    gathered = rows_per_fetch(found.rows[:1].nbytes, placed.resident.state.tuning)  # whose memory nothing plans
    plan = found.plan
    if plan is None or not plan.fetched:
        there = MemoryRows(found.rows, source.where)
        return Inspected(there, task, found.inspect, device=placed.device, gather_limit=gathered, progress=progress)
    return Inspected(
        source,
        task,
        placed.inspect,
        device=placed.device,
        batch_limit=plan.chunk if source.n_direct == source.n_rows else plan.fetched,
        inspect_limit=plan.fetched,
        gather_limit=gathered,
        progress=progress,
    )

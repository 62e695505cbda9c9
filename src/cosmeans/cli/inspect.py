"""Facts about a model or a file of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cosmeans import sphere
from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.tables import show_facts
from cosmeans.model_file import load_model

_BATCH_VALUES = 1 << 22


def model_facts(folder: Path) -> dict[str, Any]:
    """Shape, sizes, seed and outcome of a saved model."""
    state = load_model(folder)
    counts = [0] if state.counts is None else state.counts.tolist()
    return {
        "model": str(folder),
        "clusters": state.centroids.shape[0],
        "features": state.centroids.shape[1],
        "rows": sum(counts),
        "smallest_cluster": min(counts),
        "largest_cluster": max(counts),
        "similarity": state.similarity,
        "epochs": len(state.history),
        "stop_reason": "not fitted" if state.stop_reason is None else state.stop_reason.value,
        "seed": state.seed,
        "cosmeans": state.library,
    }


def row_facts(files: RowFiles) -> dict[str, Any]:
    """Shape and dtype of the rows, and how many are of unit length, zero, or hold NaN or infinity."""
    rows = files.open()
    unit = zero = bad = 0
    step = max(1, _BATCH_VALUES // rows.n_features)
    for start in range(0, len(rows), step):
        squared = sphere.squared_norms(rows.read(slice(start, min(start + step, len(rows)))))
        unit += int(((squared - 1.0).abs() <= sphere.UNIT_TOLERANCE).sum())
        zero += int((squared == 0).sum())
        bad += int((~torch.isfinite(squared)).sum())
    return {
        "embeddings": " ".join(files.paths),
        "rows": rows.shape[0],
        "features": rows.shape[1],
        "dtype": str(rows.dtype).removeprefix("torch."),
        "bytes": rows.n_bytes,
        "unit_rows": unit,
        "zero_rows": zero,
        "nonfinite_rows": bad,
    }


def show(facts: dict[str, Any]) -> None:
    """The facts as a table on stdout."""
    whole = {name: value for name, value in facts.items() if isinstance(value, int) and name != "seed"}
    show_facts({name: whole.get(name, str(value)) for name, value in facts.items()})

"""Which fit a checkpoint belongs to: its rows, options, seed and first centroids, as plain values."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmeans.checkpoint import Checkpoint, Identity
from cosmeans.containers.converted import floating
from cosmeans.contracts import RowSource
from cosmeans.digests import centroids_digest, label_digest
from cosmeans.distinct import fingerprints
from cosmeans.label_files.naming import below_common_folder
from cosmeans.observer import Log
from cosmeans.options import FitOptions
from cosmeans.paths import is_url
from cosmeans.reading import fingerprint
from cosmeans.rows.files import FileRows

_OF_THE_ANSWER = ("n_clusters", "epochs", "n_init", "tol", "zero_rows", "nonfinite", "empty_clusters")
_AT_ONCE = 1 << 24  # entries of rows that are hashed together


def checkpoint_of(
    options: FitOptions, init: Any, first: Tensor | None, source: RowSource, weights: Tensor | None, log: Log,
    *, seed: int, drawn: bool,
) -> Checkpoint:  # fmt: skip
    """The checkpoint that a fit of these options keeps.

    first  first centroids that were given
    drawn  whether nobody asked for this seed, so that that of a checkpoint takes its place
    """
    told = {name: getattr(options, name) for name in _OF_THE_ANSWER}
    told["init"] = (
        "given" if first is not None else init if isinstance(init, str) else getattr(init, "__qualname__", "")
    )
    told["sample_weight"] = None if weights is None else hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()
    mine = Identity(
        identity_of(source), told, None if drawn else seed, None if first is None else centroids_digest(first)
    )
    return Checkpoint(Path(options.checkpoint), mine, seed, options.resume, options.checkpoint_seconds, log)


def identity_of(source: RowSource) -> dict[str, Any]:
    """What tells these rows from others, in JSON: facts of local files, or one pass over rows of any other kind."""
    shape = {"rows": source.n_rows, "features": source.n_features}
    if isinstance(source, FileRows) and not any(map(is_url, source.names)):
        parts = source.parts()
        names = below_common_folder([part.name for part in parts])
        found = [
            [name, *fingerprint(Path(part.name)), part.stop - part.start]
            for name, part in zip(names, parts, strict=True)
        ]
        return shape | {"files": found, "read": asdict(source.wanted)}
    return shape | {"digest": rows_digest(source)}


def rows_digest(source: RowSource) -> str:
    """A digest of the bits of rows as float32 and of their numbers, in any order of batches."""
    step, total = max(1, _AT_ONCE // source.n_features), 0
    for start in range(0, source.n_rows, step):
        rows = floating(source.read(slice(start, min(start + step, source.n_rows)))).to(torch.float32)
        total += int(label_digest(fingerprints(rows), first_row=start), 16)
    return f"{total % 2**128:032x}"

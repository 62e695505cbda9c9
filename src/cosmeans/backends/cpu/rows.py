"""Rows of batches as loops take them: float32, of unit length, a few megabytes at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu.kernels import norms as kernels
from cosmeans.backends.cpu.threads import spread
from cosmeans.data import NO_LABEL, Batch
from cosmeans.errors import InternalError

BLOCK_BYTES = 4 << 20  # float32 rows of one block
_LEAST_ROWS = 256


def check_labels(labels: np.ndarray, n_clusters: int) -> None:
    """Before labels index anything: raises InternalError unless each is -1 or below n_clusters."""
    if len(labels) and not (labels.min() >= NO_LABEL and labels.max() < n_clusters):
        bad = labels[(labels < NO_LABEL) | (labels >= n_clusters)]
        raise InternalError(
            f"{len(bad)} of {len(labels)} labels are out of range (the first is {bad[0]}); labels of {n_clusters} "
            'clusters run from -1 to one less. Nothing was read or written by them. Try backend="reference", and '
            "please report this."
        )


def squared_norms(rows: Tensor) -> Tensor:
    """`sphere.squared_norms`, (N,) float64."""
    out = torch.empty(rows.shape[0], dtype=torch.float64, device="cpu")
    for span in pieces(rows):
        part = float32_rows(rows[span])
        spread(kernels.squared_norms, part, out[span].numpy(), size=len(part))
    return out


def pieces(rows: Tensor, norms: Tensor | None = None) -> list[slice]:
    """Spans of rows that are looked at one after another: those that are copied as float32 never are so all at once."""
    plain = norms is None and rows.dtype is torch.float32 and rows.is_contiguous()
    piece_bytes = max(BLOCK_BYTES * torch.get_num_threads(), rows.nbytes if plain else 0)
    step = max(_LEAST_ROWS, piece_bytes // (4 * rows.shape[1]))
    return [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]


def float32_rows(rows: Tensor) -> np.ndarray:
    """float32 rows with unit stride along D; a view where they are that already."""
    return rows.to(torch.float32).contiguous().numpy()


def unit_rows(rows: Tensor, divisors: Tensor | None) -> Tensor:
    """`sphere.unit_rows`, (N, D) float32."""
    if divisors is None:
        return sphere.unit_rows(rows, None)
    return torch.from_numpy(_divided(float32_rows(rows), divisors))


def unit_block(batch: Batch, span: slice) -> np.ndarray:
    """Unit rows of a span (subnormal entries left in: only canonical scores see them, and they clean)."""
    rows = float32_rows(batch.rows[span])
    return rows if batch.norms is None else _divided(rows, batch.norms[span])


def _divided(rows: np.ndarray, divisors: Tensor) -> np.ndarray:
    out = np.empty_like(rows)
    spread(kernels.unit_rows, rows, divisors.numpy(), out, size=len(rows))
    return out


def keep_of(batch: Batch, span: slice) -> np.ndarray:
    if batch.keep is None:
        return np.ones(len(batch.rows[span]), np.bool_)
    return batch.keep[span].numpy()

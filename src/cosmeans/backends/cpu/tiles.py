"""One batch, block by block: bounds, then a screen for the rows they don't settle, then the decision."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from threading import local
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cosmeans.backends.cpu import decide, fused, kernels
from cosmeans.backends.cpu.gemm import tile_rows
from cosmeans.backends.cpu.passes import Pass
from cosmeans.backends.cpu.screens import Codes, Screen, product
from cosmeans.backends.cpu.threads import each, spread
from cosmeans.calls import usable_threads
from cosmeans.data import NO_LABEL, Batch, Work
from cosmeans.errors import InternalError

_BLOCK_BYTES = 4 << 20  # float32 rows of one block
_BLOCK_ROWS = (256, 4096)
_SINGLE = 1024  # a batch up to this size is one block: sharing it out costs more than it brings
_SAMPLE = 64
_LAST_PARTS = 4  # of a block, where a batch ends
_memory = local()


def assign_blocks(batch: Batch, chosen: Pass, before: np.ndarray, labels: np.ndarray) -> tuple[int, Work]:
    """Labels (B,) int32 of a batch. Returns (rows settled canonically, the work)."""
    size = len(batch)
    if len(chosen.targets.ids) == 1:
        keep = keep_of(batch, slice(None))
        labels[:] = np.where(keep, chosen.targets.ids[0], NO_LABEL)
        chosen.remember(batch.span, labels)
        return 0, Work(0, int(keep.sum()) * len(chosen.targets.centroids), chosen.kept_bytes, "one centroid")
    chosen.make_screen(size, partial(_sample, batch))
    spans = _spans(size, batch.rows.shape[1])

    def work(span: slice) -> _Counts:
        return _assign_block(batch, span, chosen, before[span], labels[span])

    in_turn = len(spans) == 1 or (chosen.columns.panels is None and chosen.screen.product.all_cores)
    counts = [work(span) for span in spans] if in_turn else each(work, spans)
    check_labels(labels, len(chosen.targets.centroids))
    chosen.remember(batch.span, labels)
    settled, dots, skipped = (sum(part) for part in zip(*counts, strict=True))
    return settled, Work(dots, skipped, chosen.kept_bytes, chosen.strategy)


def check_labels(labels: np.ndarray, n_clusters: int) -> None:
    """Before labels index anything: raises InternalError unless each is -1 or below n_clusters."""
    if len(labels) and not (labels.min() >= NO_LABEL and labels.max() < n_clusters):
        bad = labels[(labels < NO_LABEL) | (labels >= n_clusters)]
        raise InternalError(
            f"{len(bad)} of {len(labels)} labels are out of range (the first is {bad[0]}); labels of {n_clusters} "
            'clusters run from -1 to one less. Nothing was read or written by them. Try backend="reference", and '
            "please report this."
        )


def _sample(batch: Batch) -> np.ndarray:
    """A few rows of a batch, unit rows (S, D) float32, evenly spread over it."""
    chosen = np.linspace(0, len(batch) - 1, _SAMPLE).astype(np.int64)
    chosen = chosen[keep_of(batch, slice(None))[chosen]]
    index = torch.from_numpy(chosen)
    norms = None if batch.norms is None else batch.norms[index]
    rows = unit_rows(Batch(0, batch.rows[index], norms), slice(None))
    return rows[np.isfinite(rows).all(axis=1)]


class _Counts(NamedTuple):
    settled: int
    dots: int
    skipped: int


def _assign_block(batch: Batch, span: slice, chosen: Pass, before: np.ndarray, labels: np.ndarray) -> _Counts:
    rows, keep = unit_rows(batch, span), keep_of(batch, span)
    size = len(rows)
    start = batch.start + span.start
    bound = chosen.bounds(slice(start, start + size), before)
    column = np.where(before >= 0, chosen.column[before], NO_LABEL).astype(np.int32)
    own, rest, verdict = np.empty(size), np.empty(size, np.float32), np.empty(size, np.uint8)
    spread(
        decide.scan,
        *(rows, keep, column, chosen.targets.shifted, chosen.targets.ids, chosen.targets.error),
        *(chosen.split.farthest, chosen.split.heavy, own, rest, bound, verdict, labels),
        size=size,
    )
    settled, dots = 0, int((column >= 0).sum())
    skipped = int(keep.sum()) * len(chosen.targets.centroids)
    codes: Codes | None = None
    for kind, width in ((decide.FULL, len(chosen.targets.ids)), (decide.LIGHT, chosen.split.heavy)):
        which = np.flatnonzero(verdict == kind).astype(np.int32)
        if len(which) == 0:
            continue
        if codes is None:
            codes = chosen.screen.rows(rows, keep, start, chosen.columns)
        dots += len(which) * width
        skipped -= len(which) * width
        encoded = (*chosen.factors(width), codes.scale, codes.tail, codes.slack)
        given = (rows, column, own, rest, encoded, chosen.targets, labels, bound)
        for counts in _decided(chosen, codes, which, width, given):
            settled += counts[0]
            dots += counts[1]
    return _Counts(settled, dots, skipped)


def _decided(
    chosen: Pass, codes: Codes, which: np.ndarray, width: int, given: tuple[Any, ...]
) -> list[tuple[int, int]]:
    """Multiplies some rows of a block with the first columns and decides them; what `decide.decide` returned."""
    columns = chosen.columns
    if columns.panels is not None:
        kernels_of = {1: fused.decide_bytes, 2: fused.decide_shorts, 4: fused.decide_floats}
        kernel = kernels_of[codes.codes.itemsize]
        return spread(kernel, codes.codes, columns.panels, width, which, *given, size=len(which))
    counts: list[tuple[int, int]] = []
    for part in _tiles(which, width, chosen.screen.product.tile_bytes):
        values = _screened(chosen.screen, codes, part, columns.codes[:width])
        counts += spread(decide.decide, values, width, chosen.screen.lowest, part, *given, size=len(part))
    return counts


def _screened(screen: Screen, codes: Codes, which: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Products of some rows of a block with columns; rows that follow one another aren't copied."""
    first, last = int(which[0]), int(which[-1])
    chosen = codes.codes[first : last + 1] if last - first + 1 == len(which) else codes.codes[which]
    return product(screen, chosen, columns, _scratch(len(which) * len(columns)))


def _tiles(which: np.ndarray, width: int, tile_bytes: int) -> list[np.ndarray]:
    parts = max(1, round(len(which) / tile_rows(tile_bytes, width)))
    return np.array_split(which, parts)


def _block_rows(size: int, n_features: int) -> int:
    """Rows of a block: a few megabytes, and enough blocks to go round."""
    fewest, most = _BLOCK_ROWS
    rows = min(most, max(fewest, _BLOCK_BYTES // (4 * n_features)))
    shares = -(-size // rows)
    return -(-size // max(shares, min(2 * usable_threads(), size // fewest)))


def _spans(size: int, n_features: int) -> list[slice]:
    """Blocks of a batch; the last ones are smaller, so that the threads end together."""
    if size <= _SINGLE:
        return [slice(0, size)]
    step = _block_rows(size, n_features)
    large = max(0, size // step - usable_threads()) * step
    starts = [*range(0, large, step), *range(large, size, -(-step // _LAST_PARTS)), size]
    return [slice(*pair) for pair in pairwise(starts)]


def _scratch(values: int) -> np.ndarray:
    """Memory of this thread, used again and again: 4 bytes a value."""
    if getattr(_memory, "values", np.empty(0)).size < values:
        _memory.values = np.empty(values, np.float32)
    held: np.ndarray = _memory.values
    return held


def pieces(rows: Tensor, norms: Tensor | None = None) -> list[slice]:
    """Spans of rows that are looked at one after another: those that are copied as float32 never are so all at once."""
    plain = norms is None and rows.dtype is torch.float32 and rows.is_contiguous()
    piece_bytes = max(_BLOCK_BYTES * torch.get_num_threads(), rows.nbytes if plain else 0)
    step = max(_BLOCK_ROWS[0], piece_bytes // (4 * rows.shape[1]))
    return [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]


def float32_rows(rows: Tensor) -> np.ndarray:
    """float32 rows with unit stride along D; a view where they are that already."""
    return rows.to(torch.float32).contiguous().numpy()


def unit_rows(batch: Batch, span: slice) -> np.ndarray:
    """Unit rows of a span (subnormal entries left in: only canonical scores see them, and they clean)."""
    rows = float32_rows(batch.rows[span])
    if batch.norms is None:
        return rows
    norms = batch.norms[span].numpy()
    out = np.empty_like(rows)
    spread(kernels.unit_rows, rows, norms, out, size=len(rows))
    return out


def keep_of(batch: Batch, span: slice) -> np.ndarray:
    if batch.keep is None:
        return np.ones(len(batch.rows[span]), np.bool_)
    return batch.keep[span].numpy()

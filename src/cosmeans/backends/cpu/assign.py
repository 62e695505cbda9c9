"""One batch, block by block: bounds, then a screen for the rows they leave open, then labels that are proved.

Of rows that come as heads (`data.Narrow`), those whose labels the heads don't prove are fetched and labelled apart.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cosmeans.backends.cpu.kernels import bounds, certify, fused
from cosmeans.backends.cpu.kernels.certify import OPEN
from cosmeans.backends.cpu.kernels.gemm import tile_rows
from cosmeans.backends.cpu.kernels.types import Block
from cosmeans.backends.cpu.rows import BLOCK_BYTES, check_labels, keep_of, unit_block
from cosmeans.backends.cpu.screens.screen import Codes, Screen, looser, product
from cosmeans.backends.cpu.strategy import Pass
from cosmeans.backends.cpu.targets import Targets
from cosmeans.backends.cpu.threads import each, scratch, spread
from cosmeans.calls import usable_threads
from cosmeans.data import NO_LABEL, Assignment, Batch, CostCounters

_BLOCK_ROWS = (256, 4096)
_SINGLE = 1024  # a batch up to this size is one block: sharing it out costs more than it brings
_SAMPLE = 64
_LAST_PARTS = 4  # of a block, where a batch ends
_FUSED = {1: fused.certify_bytes, 2: fused.certify_shorts, 4: fused.certify_floats}  # by bytes of a code


def assign(batch: Batch, chosen: Pass, before: Tensor) -> Assignment:
    """Label of every row by a screen, proved; canonical scores where it proves none."""
    labels = torch.empty(len(batch), dtype=torch.int32, device="cpu")
    refined, work = _assign(batch, chosen, before.numpy(), labels.numpy())
    return Assignment(labels, refined, work)


def _assign(batch: Batch, chosen: Pass, before: np.ndarray, labels: np.ndarray) -> tuple[int, CostCounters]:
    """Writes labels (B,) int32. Returns (rows that canonical scores decided, the work)."""
    size = len(batch)
    if len(chosen.targets.ids) == 1:
        keep = keep_of(batch, slice(None))
        labels[:] = np.where(keep, chosen.targets.ids[0], NO_LABEL)
        chosen.remember(batch.span, labels)
        return 0, CostCounters(0, int(keep.sum()) * chosen.n_clusters, chosen.kept_bytes, "one centroid")
    chosen.make_screen(size, partial(_sample, batch))
    spans = _spans(size, batch.rows.shape[1])

    def work(span: slice) -> _Counts:
        return _assign_block(batch, span, chosen, before[span], labels[span])

    in_turn = len(spans) == 1 or (chosen.columns.panels is None and chosen.screen.product.all_cores)
    counts = [work(span) for span in spans] if in_turn else each(work, spans)
    if batch.narrow is not None:
        counts.append(_fetched(batch, chosen, labels))
    check_labels(labels, chosen.n_clusters)
    chosen.remember(batch.span, labels)
    refined, dots, skipped = (sum(part) for part in zip(*counts, strict=True))
    return refined, CostCounters(dots, skipped, chosen.kept_bytes, chosen.strategy)


def _fetched(batch: Batch, chosen: Pass, labels: np.ndarray) -> _Counts:
    """Labels of the rows that heads left open, from the rows themselves; their bounds stay infinite."""
    assert batch.narrow is not None
    left = np.flatnonzero(labels == OPEN)
    if len(left) == 0:
        return _Counts(0, 0, 0)
    index, found = torch.from_numpy(left), np.empty(len(left), np.int32)
    norms = None if batch.norms is None else batch.norms[index]
    nothing = np.full(len(left), NO_LABEL, np.int32)
    refined, work = _assign(Batch(0, batch.narrow.exact(index), norms), chosen.of_few(), nothing, found)
    labels[left] = found
    return _Counts(refined, work.dots, 0)


def _sample(batch: Batch) -> np.ndarray:
    """A few rows of a batch, unit rows (S, D) float32, evenly spread over it."""
    chosen = np.linspace(0, len(batch) - 1, _SAMPLE).astype(np.int64)
    chosen = chosen[keep_of(batch, slice(None))[chosen]]
    index = torch.from_numpy(chosen)
    norms = None if batch.norms is None else batch.norms[index]
    rows = unit_block(Batch(0, batch.rows[index], norms), slice(None))
    finite: np.ndarray = rows[np.isfinite(rows).all(axis=1)]
    return finite


class _Counts(NamedTuple):
    refined: int
    dots: int
    skipped: int


def _assign_block(batch: Batch, span: slice, chosen: Pass, before: np.ndarray, labels: np.ndarray) -> _Counts:
    rows, keep = unit_block(batch, span), keep_of(batch, span)
    size, start = len(rows), batch.start + span.start
    bound = chosen.bounds(slice(start, start + size), before)
    column = np.where(before >= 0, chosen.column[before], NO_LABEL).astype(np.int32)
    lost = None if batch.narrow is None else batch.narrow.lost[span].numpy()
    block = Block(
        rows, _off(lost, size, chosen.targets), column, np.empty(size), np.empty(size, np.float32), labels, bound
    )
    verdict = np.empty(size, np.uint8)
    split = chosen.split
    spread(bounds.scan, keep, block, chosen.targets, split.farthest, split.heavy, verdict, size=size)
    refined, dots = 0, int((column >= 0).sum())
    skipped = int(keep.sum()) * chosen.n_clusters
    codes: Codes | None = None
    for kind, width in ((bounds.FULL, len(chosen.targets.ids)), (bounds.LIGHT, split.heavy)):
        which = np.flatnonzero(verdict == kind).astype(np.int32)
        if len(which) == 0:
            continue
        if codes is None:
            codes = chosen.screen.rows(rows, keep, start, chosen.columns, lost)
        dots += len(which) * width
        skipped -= len(which) * width
        for counts in _certified(chosen, codes, which, width, block):
            refined += counts[0]
            dots += counts[1]
    return _Counts(refined, dots, skipped)


def _off(lost: np.ndarray | None, size: int, targets: Targets) -> np.ndarray:
    """`types.Block.lost`: lost |c - g|, and what a float32 product loses of a head that is longer than its row."""
    return looser(np.zeros(size, np.float32), lost, targets.longest + targets.error)


def _certified(chosen: Pass, codes: Codes, which: np.ndarray, width: int, block: Block) -> list[tuple[int, int]]:
    """Multiplies some rows of a block with the first columns and certifies them; what `certify` returned."""
    columns, targets = chosen.columns, chosen.targets
    screened = chosen.screened(codes, width)
    if columns.panels is not None:
        kernel = _FUSED[codes.codes.itemsize]
        given = (codes.codes, columns.panels, width, which, block, screened, targets)
        return spread(kernel, *given, size=len(which))
    counts: list[tuple[int, int]] = []
    for part in _tiles(which, width, chosen.screen.product.tile_bytes):
        values = _screened(chosen.screen, codes, part, columns.codes[:width])
        lowest = chosen.screen.lowest
        counts += spread(certify.certify, values, width, lowest, part, block, screened, targets, size=len(part))
    return counts


def _screened(screen: Screen, codes: Codes, which: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Products of some rows of a block with columns; rows that follow one another aren't copied."""
    first, last = int(which[0]), int(which[-1])
    chosen = codes.codes[first : last + 1] if last - first + 1 == len(which) else codes.codes[which]
    return product(screen, chosen, columns, scratch(len(which) * len(columns)))


def _tiles(which: np.ndarray, width: int, tile_bytes: int) -> list[np.ndarray]:
    parts = max(1, round(len(which) / tile_rows(tile_bytes, width)))
    return np.array_split(which, parts)


def _block_rows(size: int, n_features: int) -> int:
    """Rows of a block: a few megabytes, and enough blocks to go round."""
    fewest, most = _BLOCK_ROWS
    rows = min(most, max(fewest, BLOCK_BYTES // (4 * n_features)))
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

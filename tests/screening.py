"""Parts of the CPU backend put together by hand, so that tests can choose every number that it works with."""

from dataclasses import replace

import numpy as np
import torch

from cosmeans.backends.cpu.kernels.certify import certify
from cosmeans.backends.cpu.kernels.types import Block, Screened
from cosmeans.backends.cpu.targets import Targets


def columns_of(centroids, origin=None):
    """Every centroid a column, around `origin`, or 0."""
    origin = np.zeros(centroids.shape[1], np.float32) if origin is None else origin
    return Targets.of(centroids, np.arange(len(centroids), dtype=np.int32), origin)


def plain(size, slack):
    """What is known of products that are t themselves, up to a slack (a number, or one for each row)."""
    return Screened(
        None, None, None, np.ones(size, np.float32), np.zeros(size, np.float32),
        np.broadcast_to(np.float32(slack), size).copy(),
    )  # fmt: skip


def certified(values, x, screened, targets, column=None, assigned=None, lost=0.0):
    """Labels, bounds, and (rows refined, products and chords) of `certify` alone; no row is assigned before."""
    size = len(x)
    column = np.full(size, -1, np.int32) if column is None else column
    assigned = np.full(size, -np.inf) if assigned is None else assigned
    labels, bound = np.full(size, 99, np.int32), np.zeros(size, np.float32)
    lost = np.broadcast_to(np.float32(lost), size).copy()
    block = Block(x, lost, column, assigned, np.full(size, -np.inf, np.float32), labels, bound)
    which = np.arange(size, dtype=np.int32)
    width = len(targets.ids)
    counts = certify(values.copy(), width, np.float32(-np.inf), which, block, screened, targets, 0, size)
    return labels, bound, counts


def assigned_by(backend, rows, passes, spoil=lambda prepared: None, narrow=()):
    """Labels after each pass, one pass for each of some centroids, and what each was prepared and how it went.

    spoil(prepared) may change what a pass works with before it begins. narrow: passes, from 0, that are given heads
    """
    operations = backend.operations()
    operations.begin(rows)
    labels = torch.full((rows.n_rows,), -1, dtype=torch.int32)
    for number, centroids in enumerate(passes):
        prepared = operations.prepare(torch.from_numpy(centroids))
        spoil(prepared)
        found = [
            (batch, operations.assign(batch, prepared, labels[batch.span])) for batch in rows.batches(number in narrow)
        ]
        for batch, assignment in found:
            labels[batch.span] = assignment.labels
        yield labels.numpy().copy(), prepared, [assignment for _, assignment in found]


class Slackless:
    """A screen whose bounds lack what products and copies lose."""

    def __init__(self, screen):
        self.screen = screen

    def __getattr__(self, name):
        return getattr(self.screen, name)

    def rows(self, *given):
        codes = self.screen.rows(*given)
        return replace(codes, slack=0 * codes.slack, tail=0 * codes.tail)


def without_slack(prepared):
    """Spoil a pass: its screen claims to be exact."""
    choose = prepared.choose
    prepared.choose = lambda *given: Slackless(choose(*given))

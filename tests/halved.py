"""Rows in memory with heads that a test may choose, and what these truly lost: `HasHeads` without files."""

import numpy as np
import torch

import truth
from cosmeans.memory_rows import MemoryRows
from generators import normal, unit_rows


class Headed(MemoryRows):
    """heads: (N, D) float16; None: the rows, rounded. claimed: what heads say that they lost, as a part of the truth.

    asked: (what, number of rows) of every question
    """

    halved = True

    def __init__(self, x, heads=None, claimed=1.0):
        super().__init__(torch.from_numpy(x))
        self.x = x
        self.given = np.clip(x, -65504, 65504).astype(np.float16) if heads is None else heads
        length = np.sqrt(((x.astype(np.float64) - self.given) ** 2).sum(axis=1)) * (1 + 1e-12)
        outward = np.nextafter((claimed * length).astype(np.float32), np.float32(np.inf))
        self.lost = np.where(length > 0, outward, np.float32(0))
        self.asked = []

    def read(self, span):
        self.asked.append(("read", span.stop - span.start))
        return super().read(span)

    def heads(self, span):
        self.asked.append(("heads", span.stop - span.start))
        return torch.from_numpy(self.given[span]), torch.from_numpy(self.lost[span])

    def joined(self, heads, indices):
        self.asked.append(("joined", len(indices)))
        assert np.array_equal(heads.numpy(), self.given[indices.numpy()])
        return torch.from_numpy(self.x[indices.numpy()])


def towards(x, centroids, by):
    """Heads that lie, within what they lost: each row has moved by so much towards the centroid of its index."""
    aim = centroids[by] - x
    aim -= (aim * x).sum(axis=1, keepdims=True) * x
    aim /= np.maximum(np.linalg.norm(aim, axis=1, keepdims=True), 1e-12)
    return (x + 4e-4 * aim).astype(np.float16)


def between():
    """Rows near the middle of two centroids; heads that lie towards the one that scores less."""
    centroids = unit_rows(40, 64, 1)
    pairs = np.random.default_rng(2).permuted(np.tile(np.arange(40), (1500, 1)), axis=1)[:, :2]
    x = truth.unit(centroids[pairs].sum(axis=1) + 1e-3 * normal(1500, 64, 3))[0]
    return x, centroids, towards(x, centroids, truth.scores(x, centroids).argsort(axis=1)[:, -2])


def opposite():
    """Rows at right angles to two opposite centroids, near to no other; heads that lie away from their centroid.

    In a second pass, the two have turned by so little that some labels change; heads lie towards those of the first.
    """
    rows = 0.05 * normal(1500, 32, 4)
    rows[:, 1] += 1.0
    rows[:, 0] = 2e-5 * normal(1500, 1, 5)[:, 0]
    x = truth.unit(rows)[0]
    centroids = np.zeros((40, 32), np.float32)
    centroids[0, 0], centroids[1, 0] = 1.0, -1.0
    centroids[2:] = 0.1 * normal(38, 32, 6)
    centroids[2:, 1] -= 1.0
    turned = centroids.copy()
    turned[0, 1], turned[1, 1] = 1e-5, -1e-5
    return x, truth.unit(centroids)[0], truth.unit(turned)[0]

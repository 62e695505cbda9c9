"""The numbers of one epoch: those of the definition, in the order of their names, before any relocation and after."""

import numpy as np
import torch

import truth
from cosmeans import epoch, sphere
from cosmeans.epoch import Epoch, EpochStats
from generators import unit_rows

SCALE = 40


def sums_of(x, labels, k):
    return truth.sums(truth.terms(x, [1.0] * len(x), SCALE), labels, k)


def tensor(direction):
    return torch.from_numpy(direction.astype(np.int64))


def case():
    """40 rows of 3 clusters; the fourth has none, the fifth has two that cancel."""
    x = np.concatenate([unit_rows(40, 6), unit_rows(1, 6, 2), -unit_rows(1, 6, 2)])
    labels = np.r_[np.arange(40) % 3, 4, 4]
    return x, labels, unit_rows(5, 6, 1)


def test_an_outcome_has_the_numbers_of_the_definition():
    x, labels, previous = case()
    direction, count = sums_of(x, labels, 5), np.bincount(labels, minlength=5)
    total = len(x) << SCALE

    found = epoch.outcome(tensor(direction), torch.from_numpy(count), torch.from_numpy(previous), total, 17, 4)

    new = truth.update(direction, previous)
    assert found.update.centroids.numpy().tobytes() == new.tobytes()
    assert found.update.degenerate.tolist() == [False, False, False, True, True]
    assert found.stats() == EpochStats(
        similarity=truth.similarity(direction, previous, total),
        squared_shift=float(truth.tree((new - previous).astype(np.float64) ** 2).max()),
        squared_sizes=float((count**2).sum()),
        assigned=42,
        largest=14,
        empty=1,
        degenerate=2,
        moved=True,
        changed=17,
        settled=4,
    )


def test_centroids_that_stay_did_not_move():
    x = unit_rows(3, 6)
    direction, count = tensor(sums_of(x, np.arange(3), 3)), torch.ones(3, dtype=torch.int64)
    rest = sphere.update_centroids(direction, torch.from_numpy(x)).centroids
    stats = epoch.outcome(direction, count, rest, 3 << SCALE, 0, 0).stats()
    assert (stats.moved, stats.squared_shift, stats.changed) == (False, 0.0, 0)
    rest[1, 2] = torch.nextafter(rest[1, 2], torch.tensor(2.0))
    assert epoch.outcome(direction, count, rest, 3 << SCALE, 0, 0).stats().moved


def test_an_epoch_without_rows_has_numbers_too():
    first = torch.from_numpy(unit_rows(3, 6))
    nothing = torch.zeros((3, 6), dtype=torch.int64)
    stats = epoch.outcome(nothing, torch.zeros(3, dtype=torch.int64), first, 0, 0, 0).stats()
    assert np.isnan(stats.similarity)
    assert (stats.assigned, stats.largest, stats.empty, stats.degenerate, stats.moved) == (0, 0, 3, 3, False)


def test_numbers_go_through_float64_in_the_order_of_their_names():
    numbers = [0.1, 2.0**-60, 2.0**60 + 2.0**20, 2.0**41, 2.0**40, 3.0, 2.0, 1.0, 7.0, 5.0]
    stats = EpochStats.of(numbers)
    assert [getattr(stats, name) for name in EpochStats.names()] == numbers
    assert stats.moved is True
    assert isinstance(stats.assigned, int)


def test_stats_after_a_relocation_have_its_shift():
    stats = EpochStats.of([0.5, 0.25, 9.0, 3, 3, 1, 1, True, 2, 0])
    before = torch.from_numpy(unit_rows(4, 6))
    after = before.clone()
    after[2] = torch.from_numpy(unit_rows(1, 6, 9)[0])
    moved = stats.ending_with(after, before)
    expected = truth.tree((after - before).numpy().astype(np.float64) ** 2).max()
    assert (moved.squared_shift, moved.moved) == (expected, True)
    assert (moved.similarity, moved.changed, moved.degenerate) == (0.5, 2, 1)
    rest = stats.ending_with(before, before)
    assert (rest.squared_shift, rest.moved) == (0.0, False)


def test_an_epoch_counts_nothing_unless_it_is_told():
    x, labels, previous = case()
    count = torch.from_numpy(np.bincount(labels, minlength=5))
    start = torch.from_numpy(previous)
    found = epoch.outcome(tensor(sums_of(x, labels, 5)), count, start, 1, 0, 0)
    assert Epoch(1, start, found.update, found.stats).counters is None

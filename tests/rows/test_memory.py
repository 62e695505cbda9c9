"""Rows in memory: how many make a batch."""

import torch

from cosmeans.backends.reference import ReferenceBackend
from cosmeans.rows import memory
from cosmeans.rows.memory import MemoryRows, choose_batch_size


def sizes(n, d, batch_size):
    rows = MemoryRows(torch.ones((n, d)), squared_norms=ReferenceBackend().squared_norms, batch_size=batch_size)
    return [len(batch) for batch in rows.batches()]


def test_batches_are_as_large_as_asked_for():
    assert sizes(1000, 4, 300) == [300, 300, 300, 100]
    assert sizes(10, 4, 1000) == [10]


def test_very_small_batches_are_merged(monkeypatch):
    monkeypatch.setattr(memory, "LEAST_BATCH_BYTES", {"cpu": 4000})
    assert sizes(600, 4, 1) == [250, 250, 100]
    assert sizes(600, 4, 400) == [400, 200]


def test_a_batch_chosen_by_memory_is_a_small_part_of_it():
    assert 1024 <= choose_batch_size(10**9, 768) <= (64 << 20) // (4 * 768)
    assert choose_batch_size(100, 768) == 100

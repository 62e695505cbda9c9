"""Rows in memory are read as they are stored, and nothing is copied of those that are where they are wanted."""

import numpy as np
import pytest
import torch

from cosmeans.containers.read import read_numbers
from cosmeans.memory_rows import MemoryRows, on_device, whole

CPU = torch.device("cpu")


def tensor(kind):
    rows = torch.arange(60, dtype=torch.float64).reshape(12, 5)
    return rows.T.contiguous().T if kind == "columns" else rows.to(getattr(torch, kind))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "columns"])
def test_rows_are_read_as_they_are_stored_and_where_they_are(kind):
    x = tensor(kind)
    rows = MemoryRows(x)
    assert (rows.n_rows, rows.n_features, rows.dtype, rows.device) == (12, 5, x.dtype, CPU)
    assert rows.n_bytes == 60 * x.element_size()
    part = rows.read(slice(3, 9))
    assert torch.equal(part, x[3:9])
    assert part.data_ptr() == x[3:9].data_ptr()
    index = torch.tensor([7, 0, 7, 11])
    assert torch.equal(rows.gather(index), x[index])
    assert whole(rows).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("kind", ["int64", "uint8", ">f4", "longdouble"])
def test_rows_that_are_converted_are_converted_a_batch_at_a_time(kind):
    given = np.arange(60).reshape(12, 5).astype(kind)
    rows = MemoryRows(read_numbers(given, "X", np.float32)[0])
    expected = torch.from_numpy(given.astype(np.float64))
    assert (rows.n_rows, rows.n_features, rows.device) == (12, 5, CPU)
    assert torch.equal(rows.read(slice(3, 9)).double(), expected[3:9])
    index = torch.tensor([7, 0, 7, 11])
    assert torch.equal(rows.gather(index).double(), expected[index])
    assert torch.equal(whole(rows).double(), expected)


def test_rows_that_are_on_the_device_are_not_sent():
    rows = MemoryRows(tensor("float32"))
    assert on_device(rows, CPU) is rows


def test_rows_are_sent_to_another_device_as_numbers_that_it_can_compute_with():
    sent = on_device(MemoryRows(read_numbers(np.arange(60).reshape(12, 5), "X", np.float32)[0]), torch.device("meta"))
    assert (sent.device, sent.n_rows, sent.n_features) == (torch.device("meta"), 12, 5)
    assert sent.dtype.is_floating_point

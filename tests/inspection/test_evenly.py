"""Rows to measure: which of those that take part, at even distances."""

import numpy as np
import pytest
import torch

from cosmeans.backends.reference import ReferenceBackend
from cosmeans.inspection import evenly
from generators import rows_left_out


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
def test_rows_to_measure_take_part_and_lie_at_even_distances(open_session):
    x, part, weights = rows_left_out()
    rows = open_session(x, ReferenceBackend(), weights, nonfinite="skip").rows
    index, odd = np.flatnonzero(part), rows.sample(torch.arange(1, 60, 2))
    for size in (1, 2, 9, len(index), 1000):
        wanted = index[np.linspace(0, len(index) - 1, min(size, len(index))).astype(int)]
        np.testing.assert_array_equal(rows.spread(size).numpy(), wanted)
        for block in (1, 7, 59, 60):
            found = evenly.evenly(lambda span: torch.from_numpy(part[span]), 60, size, block=block)
            np.testing.assert_array_equal(found.numpy(), wanted)
        assert part[1 + 2 * odd.spread(size).numpy()].all()
    np.testing.assert_array_equal(odd.spread(60).numpy(), np.flatnonzero(part[1::2]))


def test_few_or_no_rows_to_measure():
    found = evenly.evenly(lambda span: torch.zeros(span.stop - span.start, dtype=torch.bool), 10, 4)
    assert found.tolist() == []
    assert evenly.evenly(lambda span: torch.arange(span.start, span.stop) == 3, 10, 4).tolist() == [3]
    assert evenly.evenly(lambda span: None, 10, 4).tolist() == [0, 3, 6, 9]
    assert evenly.evenly(lambda span: None, 0, 4).tolist() == []
    assert evenly.evenly(lambda span: None, 10, 4).dtype is torch.int64

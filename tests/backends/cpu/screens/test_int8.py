"""8-bit copies of rows are kept as far as memory goes."""

import numpy as np
import pytest

from cosmeans.backends.cpu.screens.int8 import Int8Rows, int8_bytes


def scarce(limit):
    """`numpy.empty` on a machine with so many bytes."""

    def empty(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > limit:
            raise MemoryError
        return np.empty(shape, dtype)

    return empty


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (24 * 300, 250), (24 * 1000, 1000), (1 << 30, 2000)])
def test_fewer_rows_are_kept_where_memory_ends(limit, kept):
    rows = Int8Rows(2000, 24, scarce(limit))
    assert rows.n_bytes == kept * int8_bytes(24)
    assert rows.codes.shape == (kept, 24)

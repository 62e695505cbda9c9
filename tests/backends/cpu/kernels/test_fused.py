"""Products in registers: right for every shape, exact where they are of integers."""

import numpy as np
import pytest
from numba import njit

from cosmeans.backends.cpu.kernels import encode, fused, registers
from generators import normal

bytes_needed = pytest.mark.skipif(not fused.multiplies_bytes(384), reason="needs AVX-512 VNNI")
shorts_needed = pytest.mark.skipif(not fused.multiplies_shorts(384), reason="needs AVX2")
floats_needed = pytest.mark.skipif(not fused.multiplies_floats(), reason="needs AVX2 and FMA")
COLUMNS = [1, 15, 16, 17, 33, 48, 64, 65, 130, 1000]
WHICH = ([3], [39, 0, 1], [0, 1, 2, 3, 4, 5], [7, 9, 9, 20, 21, 22, 38])


@njit
def multiply_bytes(rows, packed, which, width, values):
    fused.multiply_bytes(rows, packed, which, width, values)


@njit
def multiply_shorts(rows, packed, which, width, values):
    fused.multiply_shorts(rows, packed, which, width, values)


@njit
def multiply_floats(rows, packed, which, width, values):
    fused.multiply_floats(rows, packed, which, width, values)


def products(multiply, rows, columns, which, width, dtype):
    """The first `width` columns, in memory that held something else."""
    values = np.full((-(-len(which) // 6) * 6, -(-width // 16) * 16), 12345, dtype)
    multiply(rows, fused.panels(columns), np.array(which, np.int32), width, values)
    return values[: len(which), :width]


@bytes_needed
@pytest.mark.parametrize("d", [4, 8, 100, 384, 1024])
@pytest.mark.parametrize("n_columns", COLUMNS)
def test_products_of_bytes_are_exact_for_every_shape(d, n_columns):
    rng = np.random.default_rng(d)
    rows = rng.choice(np.array([-127, 126, 127], np.int8), (40, d))
    columns = rng.integers(-127, 128, (n_columns, d), np.int8)
    columns[::3] = 127
    exact = rows.astype(np.int64) @ columns.astype(np.int64).T
    for which in WHICH:
        values = products(multiply_bytes, rows, columns, which, n_columns, np.int32)
        np.testing.assert_array_equal(values, exact[which])


@shorts_needed
@pytest.mark.parametrize("d", [2, 6, 144, 1000])
@pytest.mark.parametrize("n_columns", COLUMNS)
def test_products_of_shorts_are_exact_for_every_shape(d, n_columns):
    """As long as a screen makes them: the largest sums there are, of either sign, and one product alone."""
    rng = np.random.default_rng(d)
    length = encode.LONGEST / d**0.5
    rows = np.rint(length * rng.choice([-1.0, 1.0], (40, d))).astype(np.int16)
    columns = np.rint(length * rng.choice([-1.0, 1.0], (n_columns, d))).astype(np.int16)
    columns[0], rows[7] = rows[3], 0
    rows[7, 1] = encode.LONGEST
    exact = rows.astype(np.int64) @ columns.astype(np.int64).T
    for which in WHICH:
        values = products(multiply_shorts, rows, columns, which, n_columns, np.int32)
        np.testing.assert_array_equal(values, exact[which])


@floats_needed
@pytest.mark.parametrize("d", [1, 2, 7, 100, 384, 769])
@pytest.mark.parametrize("n_columns", COLUMNS)
def test_products_of_floats_are_within_the_bound_for_every_shape(d, n_columns):
    rows, columns = normal(40, d, 1), normal(n_columns, d, 2)
    exact = rows.astype(np.float64) @ columns.astype(np.float64).T
    sizes = np.abs(rows).astype(np.float64) @ np.abs(columns).astype(np.float64).T
    for which in WHICH:
        values = products(multiply_floats, rows, columns, which, n_columns, np.float32)
        assert (np.abs(values - exact[which]) <= d * 2.0**-24 * sizes[which]).all()


@bytes_needed
def test_the_first_columns_alone_are_multiplied_alike():
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(-127, 128, (12, 64), np.int8), rng.integers(-127, 128, (200, 64), np.int8)
    exact = rows.astype(np.int64) @ columns.astype(np.int64).T
    which = np.arange(12)
    for width in (16, 48, 80, 112, 144, 199):
        np.testing.assert_array_equal(products(multiply_bytes, rows, columns, which, width, np.int32), exact[:, :width])
        wide = rows.astype(np.float32), columns.astype(np.float32)  # exact, too: all sums fit 24 bits
        np.testing.assert_array_equal(products(multiply_floats, *wide, which, width, np.float32), exact[:, :width])


def test_bytes_are_taken_by_four():
    assert not fused.multiplies_bytes(2)
    assert not fused.multiplies_bytes(385)
    assert not fused.multiplies_bytes((1 << 16) + 4)  # sums might not fit
    assert not fused.multiplies_shorts(383)


@pytest.mark.parametrize("features", ["", "+avx2", "+avx512f,-avx512vnni,-fma,+avx512bw"])
def test_what_numba_may_use_is_asked(features):
    assert not registers.has("avx512f", "avx512bw", "avx512vnni", features=features)
    assert not registers.has("avx2", "fma", features=features)
    assert registers.has("avx2", features=features) == (features == "+avx2")

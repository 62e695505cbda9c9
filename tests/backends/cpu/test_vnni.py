"""8-bit products in registers: exact for every shape, and the same answers as with torch's product."""

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd
from cosmeans.backends.cpu import CpuBackend, vnni
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import text_rows

needed = pytest.mark.skipif(not vnni.available(), reason="needs AVX-512 VNNI")


@needed
@pytest.mark.parametrize("d", [4, 8, 100, 384, 1024])
@pytest.mark.parametrize("n_columns", [1, 15, 16, 17, 33, 48, 64, 65, 130, 1000])
def test_products_are_exact_for_every_shape(d, n_columns):
    rng = np.random.default_rng(d)
    rows = rng.choice(np.array([-127, 126, 127], np.int8), (40, d))
    columns = rng.integers(-127, 128, (n_columns, d), np.int8)
    columns[::3] = 127
    exact = rows.astype(np.int64) @ columns.astype(np.int64).T
    for which in ([3], [39, 0, 1], [0, 1, 2, 3, 4, 5], [7, 9, 9, 20, 21, 22, 38]):
        values = np.full((-(-len(which) // 6) * 6, -(-n_columns // 16) * 16), 12345, np.int32)
        vnni.multiply(rows, vnni.panels(columns), np.array(which, np.int32), n_columns, values)
        np.testing.assert_array_equal(values[: len(which), :n_columns], exact[which])


@needed
def test_the_first_columns_alone_are_multiplied_alike():
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(-127, 128, (12, 64), np.int8), rng.integers(-127, 128, (200, 64), np.int8)
    which = np.arange(12, dtype=np.int32)
    for width in (16, 48, 80, 112, 144, 199):
        values = np.empty((12, -(-width // 16) * 16), np.int32)
        vnni.multiply(rows, vnni.panels(columns), which, width, values)
        exact = rows.astype(np.int64) @ columns[:width].astype(np.int64).T
        np.testing.assert_array_equal(values[:, :width], exact)


def test_features_are_taken_by_four():
    assert not vnni.usable(2)
    assert not vnni.usable(385)
    assert vnni.usable(384) == vnni.available()
    assert not vnni.usable((1 << 16) + 4)  # sums might not fit


@pytest.mark.parametrize("told", ["", "+avx2,+fma", "+avx512f,-avx512vnni,+avx512bw"])
def test_what_numba_may_use_is_asked(told, monkeypatch):
    monkeypatch.setattr(vnni.numba.config, "CPU_FEATURES", told)
    vnni.available.cache_clear()
    try:
        assert not vnni.available()
    finally:
        monkeypatch.undo()
        vnni.available.cache_clear()


@pytest.mark.parametrize("here", [True, False])
def test_labels_and_work_are_those_of_any_integer_product(here, monkeypatch, open_rows):
    """Both ways, whatever this processor has."""
    if here and not vnni.available():
        pytest.skip("needs AVX-512 VNNI")
    if not here:
        monkeypatch.setattr(vnni, "usable", lambda n_features: False)
    called = []
    whole = vnni.decide_products
    monkeypatch.setattr(vnni, "decide_products", lambda *task: called.append(1) or whole(*task))
    x = truth.unit(text_rows(3000))[0]
    backend = CpuBackend("int8", 1 << 30)
    rows = open_rows(x, backend, batch_size=700)
    options = FitOptions(n_clusters=70, epochs=6)
    result = lloyd.fit(rows, torch.from_numpy(x[:70].copy()), options, backend, Alone(), Silent())
    np.testing.assert_array_equal(result.labels.numpy(), truth.labels(x, result.centroids.numpy()))
    assert bool(called) == here

"""Products are used only where they are exact, and tried as rarely as can be."""

import numpy as np
import pytest
import torch

from cosmeans.backends.cpu import trials
from cosmeans.backends.cpu.kernels import gemm
from cosmeans.backends.cpu.kernels.gemm import FLOAT32, Product
from cosmeans.errors import PrecisionError


@pytest.mark.parametrize("d", [1, 2, 3, 17, 64, 129, 384])
def test_integer_products_are_exact_for_every_shape(d):
    rng = np.random.default_rng(d)
    for b, k in [(1, 1), (1, 7), (3, 1), (2, 2), (16, 16), (17, 5), (130, 65), (33, 100), (257, 1000)]:
        rows, columns = (
            rng.choice(np.array([-127, 126, 127], np.int8), (b, d)),
            rng.integers(-127, 128, (k, d), np.int8),
        )
        out = np.empty((b, k), np.int32)
        gemm.int8_gemm(rows, columns, out)
        np.testing.assert_array_equal(out, rows.astype(np.int64) @ columns.astype(np.int64).T)


def test_integers_that_saturate_are_noticed():
    def saturating(rows, centroids, out):
        out[:] = np.clip(rows.astype(np.int32) @ centroids.astype(np.int32).T, -32768, 32767)

    assert gemm.int8_is_exact(gemm.int8_gemm, 64)
    assert not gemm.int8_is_exact(saturating, 64)


def test_centroids_that_become_equal_make_no_new_trial_of_integers():
    assert {trials.columns_of_trial(n_clusters) for n_clusters in range(961, 5000)} == {1024}


def test_a_product_that_loses_bits_is_refused():
    def bfloat16(rows, centroids, out):
        out[:] = (torch.from_numpy(rows).bfloat16() @ torch.from_numpy(centroids).bfloat16().T).float().numpy()

    lossy = Product(bfloat16, 1 << 20, all_cores=False)
    assert trials.choose_gemm(8, 16, products=(lossy, FLOAT32[1])) is FLOAT32[1]
    with pytest.raises(PrecisionError, match="lose bits"):
        trials.choose_gemm(8, 16, products=(lossy, lossy))

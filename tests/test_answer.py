"""One answer: the same hash over labels and centroid bits, whatever the machine is told to do in between."""

import numpy as np
import pytest
import torch

from cosmeans import KMeans
from generators import normal, text_rows

K, EPOCHS = 16, 4
STRATEGIES = ["auto", "float32", "split", "pca", "int8"]
# of the carried sample, K = 60, 8 epochs, random_state=0: found by the reference backend, the same for every machine
ON_EVERY_MACHINE = "a005e536cea26952b285ad5005b5aedf5296f546f25c7e53adfac829f06a4d71"


def grid(n=300, d=40):
    """Rows of small integers, which float16, bfloat16, float32 and float64 hold alike; some twice, some opposite."""
    rows = np.rint(2.5 * normal(n, d, 3)).astype(np.float32)
    rows[100:130], rows[200:230] = rows[:30], -rows[30:60]
    return rows


def fitted(rows, digest, **options):
    options = {"epochs": EPOCHS, "random_state": 5, "verbose": 0, "backend": "cpu"} | options
    kmeans = KMeans(options.pop("n_clusters", K), **options).fit(rows)
    return digest(torch.as_tensor(kmeans.labels_), torch.as_tensor(kmeans.cluster_centers_))


@pytest.fixture
def expected(digest):
    return fitted(grid(), digest, backend="reference", batch_size=97)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("batch_size", [1, 7, 64, 4096, None])
def test_batch_sizes_and_strategies(batch_size, strategy, digest, expected):
    assert fitted(grid(), digest, batch_size=batch_size, strategy=strategy) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads(n_threads, strategy, threads, digest, expected):
    threads(n_threads)
    assert fitted(grid(), digest, strategy=strategy) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_types_that_hold_the_same_values(dtype, backend, digest, expected):
    assert fitted(torch.from_numpy(grid()).to(dtype), digest, backend=backend) == expected


def test_memory_layouts_and_files(tmp_path, digest, expected):
    rows = grid()
    np.save(tmp_path / "rows.npy", rows)
    assert fitted(np.load(tmp_path / "rows.npy", mmap_mode="r"), digest) == expected
    assert fitted(np.asfortranarray(rows), digest) == expected
    assert fitted(np.repeat(rows, 2, axis=1)[:, ::2], digest) == expected
    assert fitted(rows.tolist(), digest) == expected
    assert fitted(16.0 * rows, digest) == expected


SETTINGS = {
    "subnormals flushed": (torch.set_flush_denormal, True, False),
    "float32 products of medium precision": (torch.set_float32_matmul_precision, "medium", "highest"),
    "default type float64": (torch.set_default_dtype, torch.float64, torch.float32),
    "deterministic algorithms": (torch.use_deterministic_algorithms, True, False),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("strategy", ["float32", "int8"])
def test_global_settings(setting, strategy, digest):
    """Also on rows that have entries below float32's smallest normal number."""
    rows = grid()
    rows[:, 7] *= np.float32(2.0**-128)
    want = fitted(rows, digest, backend="reference")
    change, value, usual = SETTINGS[setting]
    change(value)
    try:
        got = fitted(rows, digest, strategy=strategy)
        reference = fitted(rows, digest, backend="reference")
    finally:
        change(usual)
    assert got == reference == want


@pytest.mark.parametrize("around", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_surroundings(around, backend, digest, expected):
    with around():
        assert fitted(grid(), digest, backend=backend) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_parts_of_a_fit_make_the_whole(strategy, digest):
    rows = grid()
    kmeans = KMeans(K, epochs=2, random_state=5, verbose=0, backend="cpu", strategy=strategy).fit(rows)
    kmeans.set_params(epochs=3, batch_size=50).fit(rows)
    whole = KMeans(K, epochs=5, random_state=5, verbose=0, backend="reference").fit(rows)
    assert digest(kmeans.labels_, kmeans.cluster_centers_) == digest(whole.labels_, whole.cluster_centers_)
    assert kmeans.similarities == whole.similarities


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_in_another_order_give_their_labels_and_the_same_centroids(strategy):
    rows, order = grid(), np.random.default_rng(0).permutation(300)
    first = rows[[3, 9, 81, 90, 140, 233, 291]]
    options = {"init": first, "epochs": EPOCHS, "verbose": 0, "backend": "cpu", "strategy": strategy}
    one = KMeans(len(first), **options).fit(rows)
    other = KMeans(len(first), **options).fit(rows[order])
    assert one.cluster_centers_.tobytes() == other.cluster_centers_.tobytes()
    np.testing.assert_array_equal(one.labels_[order], other.labels_)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_row_is_labelled_alike_alone_in_a_slice_and_in_any_order(strategy):
    rows = text_rows(700)
    kmeans = KMeans(40, epochs=4, random_state=0, verbose=0, backend="cpu", strategy=strategy).fit(rows)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_array_equal(kmeans.predict(rows), kmeans.labels_)
    np.testing.assert_array_equal(kmeans.predict(rows[order]), kmeans.labels_[order])
    np.testing.assert_array_equal(kmeans.predict(rows[101:350:3]), kmeans.labels_[101:350:3])
    np.testing.assert_array_equal([kmeans.predict(row[None])[0] for row in rows[:12]], kmeans.labels_[:12])


def test_real_rows_on_every_machine(digest):
    rows = text_rows(6000)
    assert fitted(rows, digest, n_clusters=60, epochs=8, random_state=0) == ON_EVERY_MACHINE
    assert fitted(rows, digest, n_clusters=60, epochs=8, random_state=1) != ON_EVERY_MACHINE

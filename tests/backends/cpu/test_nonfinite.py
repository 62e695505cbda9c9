"""NaN proves nothing: not in rows left out, not in bounds, not in centroids; and no label out of range is used."""

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends.cpu import CpuBackend, decide, fused
from cosmeans.backends.cpu.gemm import Product, torch_gemm
from cosmeans.backends.cpu.pca import Basis, PcaScreen
from cosmeans.backends.cpu.screens import CentredScreen, Int8Screen, middle_of
from cosmeans.backends.cpu.targets import Targets
from cosmeans.data import Batch, ClusterSums
from cosmeans.errors import InputError, InternalError
from cosmeans.rows.memory import MemoryRows
from generators import unit_rows

STRATEGIES = ["auto", "float32", "split", "pca", "int8"]
BAD = [np.nan, -np.nan, np.inf, -np.inf]
SCREENS = {
    "int8": lambda x: Int8Screen(x[1:].mean(axis=0), len(x)),
    "centred": lambda x: CentredScreen(Product(torch_gemm, 2 << 20, False), x[1:].mean(axis=0)),
    "int8, kept of none": lambda x: Int8Screen(x[1:].mean(axis=0), 0),
    "pca": lambda x: PcaScreen(Product(torch_gemm, 2 << 20, False), Basis.of(x[1:]), len(x)),
}


def columns_of(centroids):
    """Every centroid a column, around 0."""
    return Targets.of(centroids, np.arange(len(centroids), dtype=np.int32), np.zeros(centroids.shape[1], np.float32))


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("bad", BAD)
def test_what_is_encoded_of_rows_left_out_is_finite(screen, bad):
    x, keep = unit_rows(40, 32), np.ones(40, bool)
    clean = SCREENS[screen](x)
    columns = clean.columns(columns_of(x[1:7].copy()))
    expected = clean.rows(x, keep, 0, columns)
    made = SCREENS[screen](x)
    x[0], x[17, 3], keep[[0, 17]] = bad, bad, False
    codes = made.rows(x, keep, 0, columns)
    for part, good in zip(
        (codes.scale, codes.tail, codes.slack), (expected.scale, expected.tail, expected.slack), strict=True
    ):
        assert np.isfinite(part).all()
        np.testing.assert_array_equal(part[keep], good[keep])
    assert not codes.codes[~keep].any()
    np.testing.assert_array_equal(codes.codes[keep], expected.codes[keep])


def test_the_middle_of_no_rows_is_as_good_as_any():
    np.testing.assert_array_equal(middle_of(np.empty((0, 3), np.float32)), np.zeros(3, np.float32))


def unknown(x):
    """A source that takes all rows for good ones: what was found of them is no longer so."""
    rows = MemoryRows(torch.from_numpy(unit_rows(*x.shape)), squared_norms=CpuBackend().squared_norms)
    rows.rows = torch.from_numpy(x)
    return rows


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("library", [False, True])
def test_rows_that_become_bad_under_a_fit_spoil_their_own_label_only(strategy, bad, k, library, monkeypatch):
    """Numbers that are NaN are uncertain: labels of other rows are right, and these are labels of a cluster."""
    if library:
        for name in ("multiplies_bytes", "multiplies_shorts"):
            monkeypatch.setattr(fused, name, lambda n_features: False)
        monkeypatch.setattr(fused, "multiplies_floats", lambda: False)
    x, centroids = unit_rows(200, 32), unit_rows(k, 32, 1)
    good = np.ones(200, bool)
    good[[3, 70, 199]] = False
    expected = truth.labels(x, centroids)
    source = unknown(x)
    backend = CpuBackend(strategy, 1 << 30)
    backend.begin(source)
    labels = torch.full((200,), -1, dtype=torch.int32)
    for row, d in ((3, slice(None)), (70, 5), (199, 31)):
        chosen = backend.prepare(torch.from_numpy(centroids))
        source.rows[row, d] = bad
        (batch,) = source.batches()
        labels = backend.assign(batch, chosen, labels).labels
        np.testing.assert_array_equal(labels.numpy()[good], expected[good])
        assert (labels >= 0).all()
        assert (labels < k).all()


@pytest.mark.parametrize("spoiled", ["scale", "tail", "slack", "own"])
@pytest.mark.parametrize("bad", BAD[:2])
def test_a_bound_that_is_not_a_number_means_the_full_row(spoiled, bad):
    rng = np.random.default_rng(0)
    rows, centroids = unit_rows(30, 16), unit_rows(12, 16, 1)
    numbers = {name: np.full(30, value, np.float32) for name, value in (("scale", 1), ("tail", 0), ("slack", 1e-5))}
    column = rng.integers(0, 12, 30).astype(np.int32)
    own = (rows * centroids[column]).sum(axis=1).astype(np.float64)
    spoil = own if spoiled == "own" else numbers[spoiled]
    spoil[:] = bad
    values = np.ascontiguousarray(rows @ centroids.T)
    labels, bound = np.full(30, 99, np.int32), np.zeros(30, np.float32)
    nothing = np.zeros(12, np.float32)
    screen = (np.ones(12, np.float32), nothing, nothing, *numbers.values())
    decide.decide(
        values, 12, np.float32(-np.inf), np.arange(30, dtype=np.int32), rows, column, own,
        np.full(30, -np.inf, np.float32), screen, columns_of(centroids), labels, bound, 0, 30,
    )  # fmt: skip
    np.testing.assert_array_equal(labels, truth.labels(rows, centroids))
    assert (bound == np.inf).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_centroids_that_are_not_finite_are_refused(strategy):
    centroids = unit_rows(5, 16, 1)
    centroids[3, 2] = np.nan
    with pytest.raises(InputError, match="Centroid 3 contains NaN or infinity"):
        CpuBackend(strategy, 1 << 30).prepare(torch.from_numpy(centroids))


@pytest.mark.parametrize("bad", [-2, 5, 2**31 - 1, -(2**31)])
def test_labels_out_of_range_index_nothing(bad, monkeypatch):
    backend, x, centroids = CpuBackend(), torch.from_numpy(unit_rows(50, 16)), torch.from_numpy(unit_rows(5, 16, 1))
    labels, batch = torch.zeros(50, dtype=torch.int32), Batch(0, x)
    labels[20] = bad
    sums = ClusterSums.zeros(5, 16, 40, "cpu")
    with pytest.raises(InternalError, match=f"out of range .the first is {bad}."):
        backend.scores(batch, centroids, labels)
    for before, after in ((labels, torch.zeros_like(labels)), (torch.zeros_like(labels), labels)):
        with pytest.raises(InternalError, match="out of range"):
            backend.accumulate(batch, before.clone(), after, sums)
    assert not sums.direction.any()

    def wrong(*task):
        labels, start, stop = task[-4], *task[-2:]
        labels[20 if start <= 20 < stop else slice(0)] = bad
        return 0, 0

    for module, name in ((decide, "decide"), *((fused, f"decide_{kind}") for kind in ("bytes", "shorts", "floats"))):
        monkeypatch.setattr(module, name, wrong)
    with pytest.raises(InternalError, match="out of range"):
        backend.assign(batch, backend.prepare(centroids), torch.full_like(labels, -1))

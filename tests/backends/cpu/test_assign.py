"""Labels of whole passes: NaN proves nothing, no label out of range is used, and products of libraries do as well."""

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.kernels import fused
from cosmeans.data import Batch, ClusterSums
from cosmeans.errors import InputError, InternalError
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import text_rows, unit_rows

STRATEGIES = ["auto", "float32", "split", "pca", "int8"]


BAD = [np.nan, -np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("library", [False, True])
def test_rows_that_become_bad_under_a_fit_spoil_their_own_label_only(strategy, bad, k, library, open_session):
    """Numbers that are NaN are uncertain: labels of other rows are right, and these are labels of a cluster."""
    host = Host(pack=lambda columns: None) if library else Host()
    x, centroids = unit_rows(200, 32), unit_rows(k, 32, 1)
    good = np.ones(200, bool)
    good[[3, 70, 199]] = False
    expected = truth.labels(x, centroids)
    backend = CpuBackend(strategy, 1 << 30, host)
    operations, rows = backend.operations(), open_session(x, backend).rows  # of the same memory, inspected now
    operations.begin(rows)
    labels = torch.full((200,), -1, dtype=torch.int32)
    for row, d in ((3, slice(None)), (70, 5), (199, 31)):
        chosen = operations.prepare(torch.from_numpy(centroids))
        x[row, d] = bad
        (batch,) = rows.batches()
        labels = operations.assign(batch, chosen, labels).labels
        np.testing.assert_array_equal(labels.numpy()[good], expected[good])
        assert (labels >= 0).all()
        assert (labels < k).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_centroids_that_are_not_finite_are_refused(strategy):
    centroids = unit_rows(5, 16, 1)
    centroids[3, 2] = np.nan
    with pytest.raises(InputError, match="Centroid 3 contains NaN or infinity"):
        CpuBackend(strategy, 1 << 30).operations().prepare(torch.from_numpy(centroids))


@pytest.mark.parametrize("bad", [-2, 5, 2**31 - 1, -(2**31)])
def test_labels_out_of_range_index_nothing(bad):
    x, centroids = torch.from_numpy(unit_rows(50, 16)), torch.from_numpy(unit_rows(5, 16, 1))
    operations = CpuBackend().operations()
    labels, batch = torch.zeros(50, dtype=torch.int32), Batch(0, x)
    labels[20] = bad
    sums = ClusterSums.zeros(5, 16, 40, "cpu")
    with pytest.raises(InternalError, match=f"out of range .the first is {bad}."):
        operations.scores(batch, centroids, labels)
    for before, after in ((labels, torch.zeros_like(labels)), (torch.zeros_like(labels), labels)):
        with pytest.raises(InternalError, match="out of range"):
            operations.accumulate(batch, before.clone(), after, sums)
    assert not sums.direction.any()


def test_labels_out_of_range_leave_no_pass():
    """A loop that errs is noticed before its labels index anything."""
    x, centroids = torch.from_numpy(unit_rows(50, 16)), torch.from_numpy(unit_rows(5, 16, 1))
    operations = CpuBackend().operations()
    prepared = operations.prepare(centroids)
    prepared.column = prepared.column[:2]  # as if there were two clusters
    with pytest.raises(InternalError, match="out of range"):
        operations.assign(Batch(0, x), prepared, torch.full((50,), -1, dtype=torch.int32))


@pytest.mark.parametrize("strategy", ["float32", "pca", "int8"])
@pytest.mark.parametrize("here", [True, False])
def test_labels_are_the_same_with_the_products_of_libraries(strategy, here, open_session):
    """Both ways, whatever this processor has."""
    needed = {"int8": fused.multiplies_bytes(384), "pca": fused.multiplies_shorts(144)}
    if here and not needed.get(strategy, fused.multiplies_floats()):
        pytest.skip("this processor lacks the instructions")
    x = truth.unit(text_rows(3000))[0]
    backend = CpuBackend(strategy, 1 << 30, Host() if here else Host(pack=lambda columns: None))
    session = open_session(x, backend, batch_size=700)
    options = FitOptions(n_clusters=70, epochs=6)
    result = lloyd.fit(session, torch.from_numpy(x[:70].copy()), options, Silent())
    np.testing.assert_array_equal(result.labels.numpy(), truth.labels(x, result.centroids.numpy()))
    # by the same operations: what they have of these rows decides
    (batch, *_), operations = session.rows.batches(), backend.operations()
    operations.begin(session.rows)
    prepared = operations.prepare(result.centroids)
    operations.assign(batch, prepared, torch.full((len(batch),), -1, dtype=torch.int32))
    assert (prepared.columns.panels is not None) == here

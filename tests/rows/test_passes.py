"""How often the files are read: E + 1 times for E epochs, and what a start adds."""

from functools import partial

import numpy as np
import pytest

from cosmeans import KMeans, open_rows
from cosmeans.rows.files import FileRows
from cosmeans.rows.formats import open_reader
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from files_of import KINDS
from generators import text_rows

X = text_rows(4000)
K, EPOCHS = 12, 4


class Counted(JoinedRows):
    """The rows of one file, which count how many were asked for in spans, and how many one by one."""

    def __init__(self, readers, name):
        super().__init__(readers, name)
        self.in_spans = self.singly = 0

    def read(self, start, stop):
        self.in_spans += stop - start
        return super().read(start, stop)

    def gather(self, indices):
        self.singly += len(indices)
        return super().gather(indices)


def counted(path):
    reader = Counted([open_reader(Place(path), Wanted())], str(path))
    return FileRows(reader, partial(open_rows, path)), reader


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "a.npy", X)
    return counted(tmp_path / "a.npy")


def assert_same(found, **options):
    expected = KMeans(K, epochs=EPOCHS, random_state=0, verbose=0, **options).fit(X)
    assert found.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert np.array_equal(found.labels_, expected.labels_)
    assert found.similarity_.tobytes() == expected.similarity_.tobytes()
    assert (found.inertia_, found.similarities) == (expected.inertia_, expected.similarities)
    assert found.history_ == expected.history_


WEIGHTS = np.random.default_rng(0).integers(0, 4, len(X))


@pytest.mark.parametrize("init", ["random", X[:K]], ids=["random", "given"])
@pytest.mark.parametrize("strategy", ["auto", "float32", "int8", "split"])
def test_a_fit_of_mapped_rows_reads_them_once_an_epoch_and_once_for_labels(mapped, init, strategy):
    rows, count = mapped
    kmeans = KMeans(K, epochs=EPOCHS, init=init, random_state=0, verbose=0, strategy=strategy).fit(rows)

    assert kmeans.n_iter_ == EPOCHS
    assert count.in_spans == (EPOCHS + 1) * len(X)
    assert count.singly <= 4 * K + 1024, "a start and a sample"
    assert_same(kmeans, init=init)


def test_weights_cost_no_reading(mapped):
    rows, count = mapped
    kmeans = KMeans(K, epochs=EPOCHS, random_state=0, verbose=0).fit(rows, sample_weight=WEIGHTS)

    assert count.in_spans == (EPOCHS + 1) * len(X)
    expected = KMeans(K, epochs=EPOCHS, random_state=0, verbose=0).fit(X, sample_weight=WEIGHTS)
    assert kmeans.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert kmeans.inertia_ == expected.inertia_


def test_a_nested_start_gathers_its_rows_once(mapped):
    rows, count = mapped
    kmeans = KMeans(K, epochs=EPOCHS, init="nested", random_state=0, verbose=0).fit(rows)

    assert count.in_spans == (EPOCHS + 2) * len(X), "lengths first: a start needs them"
    assert count.singly <= len(X) // 4 + 4 * K + 2048
    assert_same(kmeans, init="nested")


def test_a_fixed_point_needs_no_last_labels(mapped):
    rows, count = mapped
    kmeans = KMeans(2, epochs=100, random_state=0, verbose=0).fit(rows)

    assert kmeans.stop_reason_.value == "fixed point"
    assert count.in_spans == (kmeans.n_iter_ + 1) * len(X)


@pytest.mark.parametrize("init", ["random", X[:K], "nested"], ids=["random", "given", "nested"])
@pytest.mark.parametrize("room", [True, False])
def test_rows_that_are_decoded(tmp_path, init, room):
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", X)
    rows, count = counted(tmp_path / "a.parquet")
    limit = None if room else 0
    kmeans = KMeans(K, epochs=EPOCHS, init=init, random_state=0, verbose=0, batch_size=500, memory_limit=limit)
    kmeans.fit(rows)

    once = EPOCHS + 1 + (0 if not isinstance(init, str) else {"random": 1, "nested": 2}[init])
    assert count.in_spans <= (1 if room else once) * len(X)
    assert count.singly <= (0 if room else K)
    assert_same(kmeans, init=init)


def test_predict_and_score_read_once(mapped):
    rows, count = mapped
    kmeans = KMeans(K, epochs=EPOCHS, random_state=0, verbose=0).fit(X)
    labels = kmeans.predict(rows)
    assert count.in_spans <= 2 * len(X)
    assert np.array_equal(labels, kmeans.predict(X))

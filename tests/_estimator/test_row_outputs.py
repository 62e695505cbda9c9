"""Results that are as long as the rows: in memory for few rows of files, mapped from a file for many."""

import copy
import errno
import os
import pickle
import tempfile

import numpy as np
import pytest
import torch
from pyarrow import parquet

from beginnings import no_work
from cosmeans import KMeans
from cosmeans.analysis.matching import reorder
from cosmeans.errors import NoFitError, OutputExistsError, WriteError

N = (1 << 22) + 5  # 16 bytes a row of results: a little more than 64 MiB
FIRST = np.eye(2, dtype=np.float32)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A file of many rows on a circle, some of them zero, and their rows."""
    angles = np.random.default_rng(0).random(N)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    rows[[7, N - 1]] = 0
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, rows)
    return path, rows


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The system's folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(folder))
    return folder


def new(**options):
    return KMeans(2, epochs=1, init=FIRST, random_state=0, verbose=0, zero_rows="skip", **options)


def truth(kmeans, rows):
    """Labels and cosines under the model's own centroids, in float64."""
    scores = rows.astype(float) @ np.asarray(kmeans.cluster_centers_).astype(float).T
    scores /= np.maximum(np.linalg.norm(rows.astype(float), axis=1), 1e-30)[:, None]
    labels, cosines = scores.argmax(axis=1), scores.max(axis=1)
    left_out = (rows == 0).all(axis=1)
    return np.where(left_out, -1, labels), np.where(left_out, 0, cosines)


@pytest.fixture(scope="module")
def fitted(many):
    return new().fit(many[0])


def test_many_rows_of_files_have_mapped_results_in_a_file_without_a_name(many, scratch):
    kmeans = new().fit(many[0])

    labels, cosines = truth(kmeans, many[1])
    for found in (kmeans.labels_, kmeans.similarity_):
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
    assert kmeans.labels_.dtype == np.int64
    assert np.array_equal(kmeans.labels_, labels)
    assert np.abs(kmeans.similarity_ - cosines).max() < 1e-7
    assert np.abs(kmeans.similarity_).max() <= 1
    assert os.listdir(scratch) == []


def test_few_rows_and_rows_in_memory_have_results_in_memory(many, tmp_path):
    few = many[1][:1000]
    np.save(tmp_path / "few.npy", few)

    for kmeans in (new().fit(tmp_path / "few.npy"), new().fit(tmp_path / "few.npy", labels_out=tmp_path / "labels")):
        assert type(kmeans.labels_) is type(kmeans.similarity_) is np.ndarray
        assert np.array_equal(pickle.loads(pickle.dumps(kmeans)).labels_, kmeans.labels_)
    assert sorted(os.listdir(tmp_path / "labels")) == ["_manifest.json", "few.parquet"]


def test_a_pickle_does_not_hold_what_is_mapped_and_says_so(fitted):
    found = pickle.loads(pickle.dumps(fitted))

    assert len(pickle.dumps(fitted)) < 10_000
    for name in ("labels_", "similarity_"):
        assert not hasattr(found, name)
        with pytest.raises(NoFitError, match=rf"has no {name}: .* mapped from a file, and the pickle .* does not hold"):
            getattr(found, name)
    assert found.cluster_centers_.tobytes() == fitted.cluster_centers_.tobytes()
    assert found.predict(FIRST).tolist() == [0, 1]
    assert not hasattr(pickle.loads(pickle.dumps(found)), "labels_")
    assert hasattr(fitted, "labels_")


def test_copies_share_what_is_mapped_and_other_orders_have_no_labels(fitted):
    for twin in (copy.copy(fitted), copy.deepcopy(fitted)):
        assert np.shares_memory(twin.labels_, fitted.labels_)
        assert np.shares_memory(twin.similarity_, fitted.similarity_)
    with pytest.raises(NoFitError, match="not kept where clusters are reordered without rows"):
        _ = reorder(fitted).labels_


def test_labels_out_holds_the_tables_and_the_mapped_files(many, tmp_path):
    folder = tmp_path / "labels"

    kmeans = new().fit(many[0], labels_out=folder)

    assert sorted(os.listdir(folder)) == ["_labels.npy", "_manifest.json", "_similarity.npy", "many.parquet"]
    labels, _ = truth(kmeans, many[1])
    assert np.array_equal(np.load(folder / "_labels.npy", mmap_mode="r"), labels)
    assert np.array_equal(np.load(folder / "_similarity.npy"), kmeans.similarity_)
    table = parquet.read_table(folder / "many.parquet")
    assert np.array_equal(table["cluster"], labels)
    assert np.array_equal(table["similarity"], kmeans.similarity_.astype(np.float32))

    made = os.stat(folder / "many.parquet").st_mtime_ns
    found = kmeans.predict(many[0], labels_out=folder)
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, labels)
    assert os.stat(folder / "many.parquet").st_mtime_ns == made
    with pytest.raises(OutputExistsError, match="holds labels already"), no_work():
        new().fit(many[0], labels_out=folder)


@pytest.mark.soak
def test_results_for_tensors_are_tensors(many, tmp_path, scratch):
    torch.save(torch.from_numpy(many[1]), tmp_path / "many.pt")

    kmeans = new().fit(tmp_path / "many.pt")

    labels, cosines = truth(kmeans, many[1])
    assert isinstance(kmeans.labels_, torch.Tensor)
    assert np.array_equal(kmeans.labels_.numpy(), labels)
    assert np.abs(kmeans.similarity_.numpy() - cosines).max() < 1e-7
    assert not hasattr(pickle.loads(pickle.dumps(kmeans)), "labels_")


@pytest.mark.linux
@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_is_told_before_the_fit(many, tmp_path, scratch, monkeypatch, named):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    told = "No space left to write" if named else "take 67.1 MB of a disk, and .*scratch refuses them .*labels_out"

    with pytest.raises(WriteError, match=told), no_work():
        new().fit(many[0], labels_out=tmp_path / "labels" if named else None)

    assert not (tmp_path / "labels").exists()
    assert os.listdir(scratch) == []


@pytest.mark.linux
@pytest.mark.soak
def test_a_disk_that_can_not_reserve_room_is_written_to(many, scratch, monkeypatch):
    def never(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", never)

    kmeans = new().fit(many[0])

    assert np.array_equal(kmeans.labels_, truth(kmeans, many[1])[0])


def test_a_fit_that_fails_leaves_no_files(many, tmp_path):
    def fails(*_, **__):
        raise TypeError("odd")

    with pytest.raises(TypeError, match="odd"):
        new().set_params(init=fails).fit(many[0], labels_out=tmp_path / "labels")

    assert not (tmp_path / "labels").exists()

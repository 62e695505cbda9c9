"""Whatever holds rows is taken; what came in decides what goes out; nothing of it is copied or changed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from cosmeans import KMeans
from cosmeans._estimator.inputs import read_centroids, read_rows
from cosmeans.memory_rows import whole
from generators import normal, unit_rows

X = unit_rows(120, 8)
EXPECTED = KMeans(5, random_state=0, verbose=0).fit(X)


class ByDLPack:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class ByArray:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)


def memory_map(tmp_path, order="C"):
    np.save(tmp_path / "x.npy", np.asarray(X, order=order))
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def torch_file(tmp_path):
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    return str(tmp_path / "x.pt")


def numpy_file(tmp_path):
    memory_map(tmp_path)
    return tmp_path / "x.npy"


def columns_of_a_record(tmp_path):
    """Rows inside packed records: their strides are no multiple of four bytes."""
    records = np.zeros(120, dtype=[("flag", "u1"), ("x", "<f4", 8)])
    records["x"] = X
    return records["x"]


def inference(tmp_path):
    with torch.inference_mode():
        return torch.from_numpy(X) * 1.0


def read_only(tmp_path):
    rows = X.copy()
    rows.flags.writeable = False
    return rows


KINDS = {
    "array": lambda tmp_path: X,
    "tensor": lambda tmp_path: torch.from_numpy(X),
    "tensor with gradient": lambda tmp_path: torch.from_numpy(X.copy()).requires_grad_(),
    "negated tensor": lambda tmp_path: torch.complex(torch.from_numpy(X), torch.from_numpy(-X)).conj().imag,
    "tensor of inference mode": inference,
    "read-only": read_only,
    "masked array without a masked entry": lambda tmp_path: np.ma.masked_array(X, mask=False),
    "list": lambda tmp_path: X.tolist(),
    "tuple of arrays": lambda tmp_path: tuple(X),
    "list of tensors": lambda tmp_path: list(torch.from_numpy(X)),
    "DLPack": lambda tmp_path: ByDLPack(torch.from_numpy(X)),
    "array protocol": lambda tmp_path: ByArray(X),
    "memory map": memory_map,
    "memory map by columns": lambda tmp_path: memory_map(tmp_path, order="F"),
    "NumPy file": numpy_file,
    "torch file": torch_file,
    "float64": lambda tmp_path: X.astype(np.float64),
    "float64 tensor": lambda tmp_path: torch.from_numpy(X).double(),
    "longdouble": lambda tmp_path: X.astype(np.longdouble),
    "objects": lambda tmp_path: X.astype(object),
    "big-endian": lambda tmp_path: X.astype(">f4"),
    "transposed": lambda tmp_path: np.ascontiguousarray(X.T).T,
    "transposed tensor": lambda tmp_path: torch.from_numpy(np.ascontiguousarray(X.T)).T,
    "every other column": lambda tmp_path: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards twice": lambda tmp_path: np.ascontiguousarray(X[::-1])[::-1],
    "inside records": columns_of_a_record,
}
TENSORS = {kind for kind in KINDS if "tensor" in kind} | {"DLPack", "torch file"}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_kind_give_the_same_bits(kind, tmp_path):
    kmeans = KMeans(5, random_state=0, verbose=0).fit(KINDS[kind](tmp_path))

    out = torch.Tensor if kind in TENSORS else np.ndarray
    rows = KINDS[kind](tmp_path)
    answers = [kmeans.labels_, kmeans.cluster_centers_, kmeans.predict(rows), kmeans.transform(rows)]
    assert all(isinstance(answer, out) for answer in [*answers, kmeans.similarity_, kmeans.counts_])
    assert np.asarray(kmeans.cluster_centers_).tobytes() == EXPECTED.cluster_centers_.tobytes()
    assert np.array_equal(kmeans.labels_, EXPECTED.labels_)
    assert np.asarray(answers[0]).dtype == np.asarray(answers[2]).dtype == np.int64
    assert np.asarray(answers[1]).dtype == np.asarray(answers[3]).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_integers_are_numbers(dtype):
    rows = (100 * np.abs(X)).astype(dtype)

    by_integers = KMeans(5, random_state=0, verbose=0).fit(rows)

    by_floats = KMeans(5, random_state=0, verbose=0).fit(rows.astype(np.float32))
    assert np.array_equal(by_integers.cluster_centers_, by_floats.cluster_centers_)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_count_by_their_values(dtype):
    rows = torch.from_numpy(X).to(dtype)

    narrow, wide = (KMeans(5, random_state=0, verbose=0).fit(x) for x in (rows, rows.float()))

    assert torch.equal(narrow.cluster_centers_, wide.cluster_centers_)
    assert torch.equal(narrow.labels_, wide.labels_)


def test_what_was_fitted_on_one_kind_answers_in_the_kind_asked():
    by_tensor = KMeans(5, random_state=0, verbose=0).fit(torch.from_numpy(X))

    assert isinstance(by_tensor.predict(X), np.ndarray)
    assert isinstance(EXPECTED.predict(torch.from_numpy(X)), torch.Tensor)
    assert np.array_equal(by_tensor.predict(X), EXPECTED.labels_)


UNCOPIED = ["array", "memory map", "memory map by columns", "transposed", "every other column"]


@pytest.mark.parametrize("kind", UNCOPIED)
def test_arrays_are_not_copied(kind, tmp_path):
    rows = KINDS[kind](tmp_path)

    assert np.shares_memory(whole(read_rows(rows)[0]).numpy(), rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_are_not_copied(dtype):
    rows = torch.from_numpy(X).to(dtype).requires_grad_()

    for given in (rows, ByDLPack(rows.detach())):
        assert whole(read_rows(given)[0]).data_ptr() == rows.data_ptr()


def test_weights_and_first_centroids_come_through_dlpack_too():
    w = np.arange(120.0)

    kmeans = KMeans(5, init=ByDLPack(torch.from_numpy(X[:5])), verbose=0).fit(X, sample_weight=ByDLPack(w))

    expected = KMeans(5, init=X[:5], verbose=0).fit(X, sample_weight=w)
    assert np.array_equal(kmeans.cluster_centers_, expected.cluster_centers_)
    assert kmeans.score(X, sample_weight=ByDLPack(w)) == expected.score(X, sample_weight=w)


@pytest.mark.parametrize("rows", [X, normal(120, 8) * 7, -np.float16(X)], ids=["unit", "long", "float16"])
def test_rows_are_not_changed(rows):
    before = rows.tobytes()
    weights = np.linspace(0.0, 0.5, 120)
    weights_before = weights.tobytes()

    kmeans = KMeans(5, random_state=0, verbose=0).fit(rows, sample_weight=weights)
    kmeans.predict(rows), kmeans.transform(rows), kmeans.score(rows, sample_weight=weights)

    assert rows.tobytes() == before
    assert weights.tobytes() == weights_before


def test_normalised_rows_are_taken_as_they_lie():
    rows = functional.normalize(torch.from_numpy(normal(500, 768)), dim=1)
    kmeans = KMeans(500, verbose=0)
    kmeans.centers = rows

    assert torch.equal(kmeans.centers, rows)


MEASURE = """
import resource, sys
import numpy as np, torch
from cosmeans import KMeans

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

n, d = int(sys.argv[1]), int(sys.argv[2])
generator = torch.Generator().manual_seed(0)
KMeans(8, epochs=2, random_state=0, verbose=0).fit(torch.randn(9000, d, generator=generator))  # compiled, loaded
rows = torch.empty(n, d)
for part in rows.split(4096):
    part.normal_(generator=generator)
    part /= part.norm(dim=1, keepdim=True)
before = peak()
# what may be kept of the rows to save work, by default up to 128 MiB, has tests of its own
kmeans = KMeans(32, epochs=2, random_state=0, verbose=0, memory_limit=0)
kmeans.fit(rows.numpy())
kmeans.predict(rows)
print((peak() - before) / (4 * n * d))
"""


def test_a_fit_needs_at_most_a_quarter_of_the_rows_beside_them():
    done = subprocess.run([sys.executable, "-c", MEASURE, "500000", "128"], capture_output=True, text=True, check=True)

    assert float(done.stdout) <= 0.25


def test_centroids_given_by_columns_are_laid_out_as_kernels_read_them():
    given = read_centroids(np.asfortranarray(X[:5]), (5, 8), "init", torch.device("cpu"))

    assert given.is_contiguous()
    assert np.array_equal(given.numpy(), X[:5])

"""What can't be clustered is told before any work: what came, what is needed, what to do."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix, random
from sklearn.exceptions import NotFittedError
from torch.utils.data import Subset, TensorDataset

from beginnings import Began, assigns_rows, no_work
from cosmeans import KMeans
from cosmeans.errors import (
    ArgumentOrderWarning,
    BackendUnavailableError,
    EmptyClusterError,
    InputError,
    InputTypeError,
    OptionError,
    TooFewRowsError,
)
from generators import normal, unit_rows

X = normal(40, 6)
T = torch.from_numpy(X)


def with_entry(value):
    rows = X.copy()
    rows[17, 2] = value
    return rows


def weights(value):
    values = np.ones(40)
    values[5] = value
    return values


@pytest.fixture
def kmeans():
    """A fitted model in a place where work is not possible any more."""
    fitted = KMeans(3, random_state=0, verbose=0).fit(X)
    with no_work(assigns_rows):
        yield fitted


def test_work_that_begins_is_noticed(kmeans):
    for call in (lambda: KMeans(3, verbose=0).fit(X), lambda: kmeans.predict(X), lambda: kmeans.score(X)):
        with pytest.raises(Began), no_work(assigns_rows):
            call()


class DLPackOfComplex:
    def __dlpack__(self, **options):
        return torch.ones(4, 3, dtype=torch.complex64).__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


class BrokenDLPack(DLPackOfComplex):
    def __dlpack__(self, **options):
        raise BufferError("the memory is gone")


ROWS = {
    "one dimension": (X[0], InputError, "two dimensions (N, D), got shape (6,). Reshape your data: x[None, :]"),
    "three dimensions": (X[None], InputError, "got shape (1, 40, 6). Reshape your data"),
    "one number": (3.0, InputError, "two dimensions (N, D), got shape ()"),
    "tensor of one dimension": (T[0], InputError, "two dimensions (N, D), got shape (6,). Reshape your data"),
    "no rows": (X[:0], InputError, "0 sample(s) (shape=(0, 6)) while a minimum of 1 is required"),
    "no features": (T[:, :0], InputError, "0 feature(s) (shape=(40, 0)) while a minimum of 1 is required"),
    "NaN": (with_entry(np.nan), InputError, "Row 17 contains NaN or infinity", 'nonfinite="skip"'),
    "infinity": (with_entry(-np.inf), InputError, "Row 17 contains NaN or infinity"),
    "float64 beyond float32": (with_entry(1.0).astype(float) * 1e39, InputError, "Row 0", "3.4e38 is infinity"),
    "complex": (X + 0j, InputError, "Complex data not supported: Rows must be real numbers. Use x.real"),
    "complex list": ([[1j, 2.0]] * 9, InputError, "Complex data not supported"),
    "complex tensor": (T + 0j, InputTypeError, "Complex data not supported", "Use x.real", "torch.complex64"),
    "complex by DLPack": (DLPackOfComplex(), InputTypeError, "Complex data not supported", "torch.complex64"),
    "broken DLPack": (BrokenDLPack(), InputTypeError, "BrokenDLPack", "the memory is gone", "Pass a tensor"),
    "boolean": (X > 0, InputTypeError, "must be real numbers, got booleans. Use x.astype(np.float32)"),
    "boolean list": ((X > 0).tolist(), InputTypeError, "got True of type bool in row 0"),
    "boolean tensor": (T > 0, InputTypeError, "got torch.bool. Use x.float()"),
    "a boolean among numbers": (np.array([[1.5, True]] * 9, dtype=object), InputTypeError, "got True of type bool"),
    "text": ([["a", "b"]] * 9, InputTypeError, "must be real numbers, got 'a' of type str in row 0", "embeddings"),
    "text array": (np.full((9, 2), "a"), InputTypeError, "must be real numbers, got text (dtype <U1)"),
    "text as objects": (np.array([["1", "2"]] * 9, dtype=object), InputTypeError, "got '1' of type str"),
    "dates": (np.zeros((9, 2), "M8[D]"), InputTypeError, "must be real numbers, got dates (dtype datetime64[D])"),
    "objects": (np.full((9, 2), {}, dtype=object), InputTypeError, "must be an array of real numbers", "dict"),
    "nothing": (None, InputError, "two dimensions (N, D), got shape ()"),
    "None among numbers": ([[1.0] * 5 + [None]] * 9, InputError, "Row 0 contains NaN"),
    "lists of two lengths": (
        [[1.0, 2.0], [1.0]],
        InputError,
        "must be an array of real numbers",
        "row 1 has 1 numbers, row 0 has 2",
    ),
    "an integer beyond float64": ([[10**400, 1]] * 9, InputTypeError, "must be an array of real numbers", "too large"),
    "masked entries": (np.ma.masked_array(X, X > 1.5), InputError, "contains NaN", "a null is NaN"),
    "a generator": (iter(list(X)), InputTypeError, "must be an array, a tensor, a list", "list_iterator", "list(x)"),
    "a dictionary": ({"a": [1.0]}, InputTypeError, "must be an array, a tensor or a list of rows, got a dict"),
    "a series": (pd.Series([1.0, 2.0]), InputError, "two dimensions (N, D), got shape (2,)"),
    "a frame of text": (pd.DataFrame({"a": ["x"] * 9}), InputTypeError, "must be real numbers, got text", "'a'"),
    "a folder": (".", OSError, ". holds files of ", "Name those with the rows, as "),
    "an unknown kind of file": (__file__, OSError, ".py has an unsupported file type (.py). Supported: .npy, .npz"),
    "no file of an unknown kind": ("rows.docx", OSError, "No such file: rows.docx"),
    "sparse array": (csr_matrix(X), InputTypeError, "must be dense, got a sparse csr_matrix. Use x.toarray()"),
    "wide sparse array": (
        random(3000, 50_000, 1e-4, dtype=np.float64),
        InputTypeError,
        "got a sparse coo_matrix. Reduce its 50,000 columns with sklearn.decomposition.TruncatedSVD(256)",
        "or use x.toarray(), which takes 1.20 GB.",
    ),
    "a data set of two tensors": (
        TensorDataset(T, torch.zeros(len(T))),
        InputTypeError,
        f"a TensorDataset of 2 tensors, of shapes {tuple(T.shape)}, ({len(T)},). Pass the one with the rows",
    ),
    "a part of a data set": (
        Subset(TensorDataset(T), range(5)),
        InputTypeError,
        "Rows came as a Subset, whose items are of type tuple. Pass torch.utils.data.DataLoader(dataset, batch_size=",
    ),
    "sparse tensor": (T.to_sparse(), InputTypeError, "must be dense, got layout torch.sparse_coo. Use x.to_dense()"),
    "tensors of two lengths": ([T[0], T[1, :4]], InputError, "list of tensors must be of one shape"),
    "tensors on two devices": ([T[0], T[1].to("meta")], InputError, "on one device"),
    "no such file": ("absent.npy", OSError, "No such file: absent.npy"),
}


@pytest.mark.parametrize("method", ["fit", "predict"])
@pytest.mark.parametrize("case", ROWS)
def test_rows_that_have_no_cosine(kmeans, case, method):
    rows, error, *texts = ROWS[case]

    with pytest.raises(error) as caught:
        getattr(kmeans, method)(rows)

    for text in texts:
        assert text in str(caught.value)


CALLS = {
    "fewer rows than clusters": (
        lambda k: k.set_params(n_clusters=50).fit(X),
        TooFewRowsError,
        "n_clusters=50 needs at least 50 rows, got n_samples=40. Lower n_clusters or pass more rows.",
    ),
    "no clusters": (
        lambda k: k.set_params(n_clusters=0).fit(X),
        OptionError,
        "n_clusters must be an integer of at least 1; got 0.",
    ),
    "zero rows as an error": (
        lambda k: k.set_params(zero_rows="error").fit(np.where(np.arange(40)[:, None] % 20 == 7, 0, X)),
        InputError,
        "2 of 40 rows are zero (the first is row 7) and have no direction",
        'zero_rows="warn"',
    ),
    "only zero rows": (
        lambda k: k.set_params(zero_rows="skip").fit(0 * X),
        InputError,
        "None of the 40 rows can be clustered",
        "At least one row needs a direction and a weight above zero",
    ),
    "only zero rows to score": (
        lambda k: k.set_params(zero_rows="skip").score(0 * X),
        InputError,
        "None of the 40 rows can be clustered",
    ),
    "other D in predict": (
        lambda k: k.predict(X[:, :4]),
        InputError,
        "X has 4 features, but KMeans is expecting 6 features as input. Pass rows of the same embedding",
    ),
    "other D in transform": (lambda k: k.transform(T[:, :4]), InputError, "X has 4 features"),
    "other D in score": (lambda k: k.score(X[:, :4].tolist()), InputError, "X has 4 features"),
    "init of another K": (
        lambda k: k.set_params(init=X[:4]).fit(X),
        InputError,
        "init has shape (4, 6); n_clusters and the rows need (3, 6). Pass one centroid per cluster",
    ),
    "init of another D": (lambda k: k.set_params(init=X[:3, :5]).fit(X), InputError, "(3, 5)", "need (3, 6)"),
    "init of one dimension": (lambda k: k.set_params(init=X[0]).fit(X), InputError, "init has shape (6,)"),
    "init with a zero centroid": (
        lambda k: k.set_params(init=X[:3] * [[1], [0], [1]]).fit(X),
        InputError,
        "init: centroid 1 is zero; it needs a direction",
    ),
    "init with NaN": (
        lambda k: k.set_params(init=with_entry(np.nan)[15:18]).fit(X),
        InputError,
        "init: centroid 2 contains NaN or infinity",
    ),
    "init of text": (lambda k: k.set_params(init=[["a"] * 6] * 3).fit(X), InputTypeError, "init must be real numbers"),
    "init of booleans": (lambda k: k.set_params(init=T[:3] > 0).fit(T), InputTypeError, "init", "got torch.bool"),
    "init on another device": (
        lambda k: k.set_params(init=T[:3].to("meta")).fit(T),
        InputError,
        "init is on meta, the rows on cpu. Put both on one device.",
    ),
    "init unknown": (
        lambda k: k.set_params(init="kmeans++").fit(X),
        OptionError,
        'init must be "random", "k-means++", "nested", an array (K, D) or a callable',
        "'kmeans++'",
    ),
    "rows on another device": (lambda k: k.fit(T.to("meta")), BackendUnavailableError, "The rows are on meta"),
    "rows on another device, for the reference": (
        lambda k: k.set_params(backend="reference").fit(T.to("meta")),
        BackendUnavailableError,
        "The rows are on meta",
    ),
    "a device without float64": (
        lambda k: k.set_params(device="mps").fit(X),
        BackendUnavailableError,
        'device="mps" has no exact float64 arithmetic for this library. Pass device="cpu" or "auto".',
    ),
    "another device without float64": (
        lambda k: k.set_params(device="xpu:0").fit(X),
        BackendUnavailableError,
        'device="xpu:0" has no exact float64 arithmetic for this library. Pass device="cpu" or "auto".',
    ),
    "a device that does not exist": (
        lambda k: k.set_params(device="gpu").fit(X),
        OptionError,
        'device must be "auto", "cpu", "cuda" or "cuda:1"; got \'gpu\'',
    ),
    "the GPU backend on the processor": (
        lambda k: k.set_params(device="cpu", backend="gpu").fit(X),
        BackendUnavailableError,
        'backend="gpu" can\'t run on cpu. Pass device="cuda", or backend="cpu" or "auto".',
    ),
    "a GPU that is not there": (
        lambda k: k.set_params(device="cuda:63").fit(X),
        BackendUnavailableError,
        'device="cuda:63" needs that GPU; torch sees',
        'Use device="cpu" or "auto".',
    ),
    "weights on another device": (
        lambda k: k.fit(T, sample_weight=torch.ones(40, device="meta")),
        InputError,
        "sample_weight is on meta, the rows on cpu. Put both on one device.",
    ),
    "centers of another K": (
        lambda k: setattr(k, "centers", X[:2]),
        InputError,
        "centers has shape (2, 6); n_clusters and the rows need (3, D)",
    ),
    "centers of one dimension": (lambda k: setattr(k, "centers", X[0]), InputError, "centers has shape (6,)", "(3, D)"),
    "centers with a zero": (lambda k: setattr(k, "centers", 0 * X[:3]), InputError, "centers: centroid 0 is zero"),
    "negative weight": (
        lambda k: k.fit(X, sample_weight=weights(-2.0)),
        InputError,
        "sample_weight[5] is -2; weights must not be negative",
    ),
    "NaN as a weight": (lambda k: k.fit(X, sample_weight=weights(np.nan)), InputError, "sample_weight[5] is NaN"),
    "only zero weights": (
        lambda k: k.fit(X, sample_weight=np.zeros(40)),
        InputError,
        "Every sample weight is zero; at least one row needs a weight above zero",
    ),
    "weight on zero rows only": (
        lambda k: k.set_params(zero_rows="skip").fit(X * weights(0.0)[:, None], sample_weight=1 - weights(0.0)),
        InputError,
        "None of the 40 rows can be clustered",
    ),
    "too few weights": (lambda k: k.fit(X, sample_weight=[1.0, 2.0]), InputError, "shape (2,)", "40 rows need one"),
    "weights of text": (lambda k: k.fit(X, sample_weight=["a"] * 40), InputTypeError, "sample_weight must be real"),
    "complex weights": (lambda k: k.fit(T, sample_weight=T[:, 0] + 0j), InputTypeError, "sample_weight must be real"),
    "weights beyond exact sums": (
        lambda k: k.fit(X, sample_weight=weights(1e13)),
        InputError,
        "exact sums need a total below 2^42",
        "Divide all weights",
    ),
    "random_state of another kind": (
        lambda k: k.set_params(random_state=np.random.default_rng(0)).fit(X),
        OptionError,
        "random_state must be an integer from 0 to 2^63 - 1, a numpy.random.RandomState or None; got Generator",
    ),
    "negative random_state": (lambda k: k.set_params(random_state=-1).fit(X), OptionError, "random_state", "got -1"),
    "text as random_state": (lambda k: k.set_params(random_state="a").fit(X), OptionError, "random_state", "got 'a'"),
    "epochs twice": (
        lambda k: k.set_params(epochs=5, max_iter=6).fit(X),
        OptionError,
        "epochs=5 and max_iter=6 are two names for one number. Pass one of them.",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_calls_that_can_not_be_answered(kmeans, case):
    call, error, *texts = CALLS[case]

    with pytest.raises(error) as caught:
        call(kmeans)

    for text in texts:
        assert text in str(caught.value)


def test_a_failed_fit_leaves_the_fitted_model_as_it_was(kmeans):
    before = {name: value for name, value in vars(kmeans).items() if name.endswith("_")}
    bad = np.where(np.arange(4) == 2, np.nan, normal(40, 4))

    with pytest.raises(InputError):
        kmeans.fit(bad)

    assert {name: value for name, value in vars(kmeans).items() if name.endswith("_")} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_by_backend_that_is_not_there(kmeans):
    with pytest.raises(BackendUnavailableError, match=re.escape('backend="gpu" needs a CUDA GPU; torch sees none')):
        kmeans.set_params(backend="gpu").predict(X)


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_an_unfitted_model_says_so(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(KMeans(), method)(X)


def test_centers_alone_have_no_convergence_to_draw(tmp_path):
    kmeans = KMeans(3, verbose=0)
    kmeans.centers = X[:3]

    with pytest.raises(NotFittedError):
        kmeans.plot(tmp_path / "model")


def test_a_first_centroid_from_a_callable_is_checked_too():
    kmeans = KMeans(3, init=lambda X, n_clusters, random_state: X[:2], verbose=0)

    with pytest.raises(InputError, match=re.escape("init(X, n_clusters, random_state) has shape (2, 6)")):
        kmeans.fit(X)


def test_empty_clusters_can_be_an_error():
    init = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]], np.float32)
    rows = np.repeat(init[:2], 5, axis=0)

    with pytest.raises(EmptyClusterError, match=r"1 clusters have no direction \(the first is cluster 2\)"):
        KMeans(3, init=init, empty_clusters="error", verbose=0).fit(rows)


def test_the_order_of_faiss_arguments_gives_one_hint():
    with pytest.warns(ArgumentOrderWarning, match=r"n_clusters=6 equals.*If 10 clusters are meant") as caught:
        KMeans(6, 10, 20, random_state=0, verbose=0).fit(unit_rows(300, 6))

    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_no_hint_without_a_reason():
    KMeans(6, random_state=0, verbose=0).fit(unit_rows(300, 6))
    KMeans(7, 10, 20, random_state=0, verbose=0).fit(unit_rows(300, 6))

"""Rows of iterables: the bits of the same rows in memory, one reading where memory holds them, one content in all."""

import gc
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cosmeans import KMeans, choose_k, deduplicate, evaluate, exemplars, outliers
from cosmeans._estimator.inputs import read_rows
from cosmeans.errors import FeatureNamesError, InputError, InputTypeError, TooFewRowsError
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.held import hold
from generators import normal

X = normal(500, 16)
LARGE = np.random.default_rng(1).standard_normal((3000, 512)).astype(np.float32)  # more than is held in any case
CUTS = [0, 1, 1, 90, 91, 300, 499, 500]  # one row, no rows, uneven numbers of rows


class Counted:
    """A function that returns an iterator of batches. It counts how often it begins, and how many it gives."""

    def __init__(self, rows=X, cuts=CUTS):
        self.rows, self.cuts, self.begun, self.given, self.ended = rows, cuts, 0, 0, 0

    def __call__(self):
        self.begun += 1
        for start, stop in zip(self.cuts, [*self.cuts[1:], len(self.rows)], strict=True):
            self.given += 1
            yield self.changed(self.rows[start:stop])
        self.ended += 1

    def changed(self, batch):
        return batch


class Reused(Counted):
    """Every batch in the same memory, as readers of files do it."""

    def changed(self, batch):
        self.buffer = getattr(self, "buffer", np.empty_like(self.rows))
        self.buffer[:] = np.nan
        self.buffer[: len(batch)] = batch
        return self.buffer[: len(batch)]


class Other(Counted):
    """Other rows in one batch of the second pass, and of those that follow."""

    def __init__(self, where=3, **options):
        super().__init__(**options)
        self.where = where

    def changed(self, batch):
        at = (self.given - 1) % len(self.cuts)
        return -batch if self.begun > 1 and at == self.where else batch


class Augmented(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return torch.from_numpy(X[index]) + torch.randn(16) * (index > 250)


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(torch.from_numpy(X))


def fitted(rows, **options):
    return KMeans(**{"n_clusters": 7, "epochs": 4, "random_state": 0, "verbose": 0, "batch_size": 64, **options}).fit(
        rows
    )


def same(found, expected):
    return (
        np.array_equal(np.asarray(found.cluster_centers_), np.asarray(expected.cluster_centers_))
        and np.array_equal(np.asarray(found.labels_), np.asarray(expected.labels_))
        and found.similarities == expected.similarities
        and found.inertia_ == expected.inertia_
    )


SOURCES = {
    "function": lambda: Counted(),
    "one memory": lambda: Reused(),
    "loader": lambda: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=77),
    "workers": lambda: DataLoader(Streamed(), batch_size=77, num_workers=1),
    "lists": lambda: lambda: (X[at : at + 99].tolist() for at in range(0, 500, 99)),
    "big-endian": lambda: Counted(X.astype(">f4")),
}


@pytest.mark.parametrize("limit", [0, 499 * 64, 500 * 64, None])
@pytest.mark.parametrize("init", ["random", "nested", "k-means++"])
@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"workers"}))
def test_batches_give_the_bits_of_memory(source, init, limit):
    given = SOURCES[source]()

    found = fitted(given, init=init, memory_limit=limit)

    assert same(found, fitted(X, init=init))
    assert np.array_equal(np.asarray(found.predict(given)), found.labels_)
    assert isinstance(found.labels_, torch.Tensor) == (source == "loader")


def test_workers_of_a_loader_do_the_same():
    given = SOURCES["workers"]()

    assert same(fitted(given, memory_limit=0, epochs=1), fitted(X, epochs=1))
    gc.collect()  # the workers end here, not in a test that follows


def test_one_row_is_enough():
    assert fitted(lambda: iter([X[:1]]), n_clusters=1, memory_limit=0).labels_.tolist() == [0]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("float32", "float64"), "float64"),
        (("float16", "bfloat16"), "float32"),
        (("int32", "float16"), "float32"),
        (("int8", "uint8"), "float16"),
        (("int8", "int8"), "int8"),
        (("int64", "int32"), "float32"),
    ],
)
@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_batches_of_several_types_count_by_value(types, expected, limit):
    rows = torch.from_numpy(np.random.default_rng(0).integers(-90, 90, (200, 8))).abs()
    if expected == "float32" and "int32" in types:
        rows[:100] += 70_000  # beyond float16
    first, second = (getattr(torch, name) for name in types)

    source = BatchRows(
        lambda: iter([rows[:70].to(first), rows[70:100].to(first), rows[100:].to(second)]), "Rows", limit
    )

    assert source.dtype == getattr(torch, expected)
    assert torch.equal(source.read(slice(0, 200)).double(), rows.double())
    assert torch.equal(source.gather(torch.tensor([150, 3])).double(), rows[[150, 3]].double())


# ------------------------------------------------------------ how often it is read


def test_rows_that_fit_are_read_once_and_others_are_counted_first():
    once, counted = Counted(), Counted(LARGE, range(0, 3000, 500))

    fitted(once, epochs=3, batch_size=10)
    fitted(counted, init=LARGE[:7], epochs=3, memory_limit=0, backend="reference")

    assert (once.begun, once.ended) == (1, 1)
    # counted, three epochs, the last labels
    assert (counted.begun, counted.ended) == (5, 5)


@pytest.mark.parametrize("step", [1, 7, 90, 500])
def test_rows_in_order_are_one_pass(step):
    counted = Counted()
    source = BatchRows(counted, "Rows", 0)

    for start in range(0, 500, step):
        span = slice(start, min(500, start + step))
        assert np.array_equal(source.read(span).numpy(), X[span])

    assert (counted.begun, counted.ended) == (2, 2)


def test_single_rows_are_looked_for_no_farther_than_needed():
    counted = Counted()
    source = BatchRows(counted, "Rows", 0)
    counted.given = 0

    assert np.array_equal(source.gather(torch.tensor([95, 0, 95, 92])).numpy(), X[[95, 0, 95, 92]])
    assert counted.given == 5
    assert np.array_equal(source.gather(torch.tensor([299, 91])).numpy(), X[[299, 91]])
    assert counted.given == 5, "they are in the batch that it is at"
    assert np.array_equal(source.gather(torch.tensor([499, 300])).numpy(), X[[499, 300]])
    assert (counted.given, counted.begun) == (7, 2)
    assert source.gather(torch.empty(0, dtype=torch.int64)).shape == (0, 16)
    assert np.array_equal(source.gather(torch.tensor([5])).numpy(), X[[5]])
    assert counted.begun == 3, "a row before those needs a new pass"


def test_a_limit_is_shared_by_rows_and_what_is_kept_besides():
    kept, left = hold(BatchRows(Counted(), "Rows", 40_000), 40_000)
    assert (kept.n_bytes_held, left) == (500 * 64, 40_000 - 500 * 64)
    others, left = hold(BatchRows(Counted(LARGE, range(0, 3000, 500)), "Rows", 1000), 1000)
    assert (others.n_bytes_held, left) == (4 << 20, 0), "a few rows, of which samples are taken"


def test_all_rows_can_be_held_for_a_device_whatever_the_limit():
    counted = Counted()
    rows, _ = hold(BatchRows(counted, "Rows", 0), 0)
    rows.view()

    for _ in range(2):
        assert np.array_equal(rows.read(slice(0, 200)).numpy(), X[:200])
        assert np.array_equal(rows.read(slice(200, 500)).numpy(), X[200:])
    assert np.array_equal(rows.gather(torch.tensor([499, 0])).numpy(), X[[499, 0]])
    assert (counted.begun, counted.ended) == (2, 2)


# ----------------------------------------------------------------- other contents


@pytest.mark.parametrize(
    ("where", "told"),
    [(0, "batch 0 (rows 0 to 0)"), (3, "batch 3 (rows 90 to 90)"), (4, "batch 4 (rows 91 to 299)")],
)
def test_rows_that_change_are_told_with_their_batch(where, told):
    with pytest.raises(InputError, match=re.escape(f"gave other rows in pass 2: {told} has changed. Every pass must")):
        fitted(Other(where), memory_limit=0)


def test_random_changes_in_a_data_set_are_told():
    loader = DataLoader(Augmented(), batch_size=100)

    with pytest.raises(InputError, match=r"pass 2: batch 2 \(rows 200 to 299\) has changed.*random changes"):
        fitted(loader, memory_limit=0)


class Fewer(Counted):
    def __call__(self):
        kept = CUTS if self.begun == 0 else CUTS[: -self.less]
        self.begun += 1
        yield from (X[start:stop] for start, stop in zip(kept, [*CUTS[1:], 500], strict=False))


@pytest.mark.parametrize(("less", "told"), [(1, "7 batches, 8"), (2, "6 batches, 8"), (7, "1 batches, 8")])
def test_an_iterator_that_ends_early_is_told(less, told):
    fewer = Fewer()
    fewer.less = less
    with pytest.raises(InputError, match=f"other rows in pass 2: {told} in the first pass"):
        fitted(fewer, memory_limit=0)


def test_an_iterator_that_is_not_new_is_told():
    batches = iter([X])
    with pytest.raises(InputError, match=r"pass 2: 0 batches, 1 in the first pass.*return a new iterator"):
        fitted(lambda: batches, memory_limit=0)


def test_an_iterator_that_goes_on_is_told():
    passes = []

    def more():
        passes.append(1)
        yield from [X, X] if len(passes) > 1 else [X]

    with pytest.raises(InputError, match="pass 2: more than the 1 batches of the first pass"):
        fitted(more, memory_limit=0)


def test_another_type_is_another_content():
    passes = []

    def other():
        passes.append(1)
        yield np.zeros((9, 4), np.int32 if len(passes) == 1 else np.float32)

    with pytest.raises(InputError, match=r"batch 0 .* has changed"):
        BatchRows(other, "Rows", 0).read(slice(0, 9))


def test_after_an_error_the_next_pass_begins_anew():
    class Fails(Counted):
        def changed(self, batch):
            if self.begun == 2 and len(batch) > 100:
                raise KeyError("the server is away")
            return batch

    source = BatchRows(Fails(), "Rows", 0)
    assert np.array_equal(source.read(slice(0, 50)).numpy(), X[:50])
    with pytest.raises(KeyError, match="the server is away"):
        source.read(slice(50, 200))
    assert np.array_equal(source.read(slice(50, 200)).numpy(), X[50:200])


# --------------------------------------------------------------------- before work


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (DataLoader(X, shuffle=True), InputError, "shuffle=False"),
        ((x for x in [X]), InputTypeError, "generator, which can be read only once. Pass a function"),
        (lambda: iter([]), InputError, r"Rows have 0 sample\(s\) \(shape=\(0, 0\)\)"),
        (lambda: iter([X[:, :0]]), InputError, r"Rows have 0 feature\(s\)"),
        (lambda: iter([X, X[:, :9]]), InputError, "Rows: batch 1 has rows of 9 numbers, those before have 16"),
        (lambda: iter(X), InputError, r"Rows in batch 0 must have two dimensions \(B, D\), got shape \(16,\)"),
        (lambda: iter([X, X > 0]), InputTypeError, "Rows in batch 1 must be real numbers, got booleans"),
        (lambda: iter([X[:3], X[3:6]]), TooFewRowsError, "needs at least 7 rows, got n_samples=6"),
        (lambda: iter([X, np.where(X[3, 2] == X, np.nan, X)]), InputError, r"Row 503 \(batch 1, row 3\) contains NaN"),
    ],
)
def test_what_can_not_be_clustered_is_told(given, error, message):
    with pytest.raises(error, match=message):
        fitted(given)


def test_names_of_columns_are_those_of_every_batch():
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])

    model = fitted(lambda: iter([frame[:200], frame[200:]]))

    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(model.predict(frame), model.labels_)
    with pytest.raises(FeatureNamesError, match=r"batch 1 has the columns \['c', 'b', 'a'\]"):
        model.predict(lambda: iter([frame, frame[["c", "b", "a"]]]))


# ------------------------------------------------------------ surroundings, other calls


@pytest.mark.parametrize("limit", [0, None])
def test_modes_of_torch_are_those_of_the_generator_in_it_and_ours_outside(limit):
    seen, between = [], []

    def batches():
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            for part in torch.from_numpy(X).split(100):
                yield part * 1
                seen.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        seen.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))

    source, _ = read_rows(batches, memory_limit=limit)
    for start in range(0, 500, 50):
        source.read(slice(start, start + 50))
        between.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))

    assert set(between) == {(False, False, True)}
    assert seen == ([(True, True)] * 5 + [(False, False)]) * (1 if limit is None else 2)
    assert same(fitted(batches, memory_limit=limit), fitted(X))


def test_single_pass_functions_take_batches():
    model, given = fitted(X), DataLoader(torch.from_numpy(X), batch_size=60)

    tight = fitted(X, memory_limit=0)
    for kmeans in (model, tight):
        assert np.array_equal(kmeans.transform(given).numpy(), model.transform(X))
        assert kmeans.score(given) == model.score(X)
        assert np.array_equal(deduplicate(kmeans, given, 0.5).kept.numpy(), deduplicate(model, X, 0.5).kept)
        assert np.array_equal(exemplars(kmeans, given, 3).rows.numpy(), exemplars(model, X, 3).rows)
        assert np.array_equal(outliers(kmeans, given, quantile=0.1).rows.numpy(), outliers(model, X, quantile=0.1).rows)
        assert evaluate(kmeans, given).to_json() == evaluate(model, X).to_json()
    assert (
        choose_k(given, [2, 5], n_seeds=1, verbose=0).n_clusters == choose_k(X, [2, 5], n_seeds=1, verbose=0).n_clusters
    )


def test_weights_belong_to_rows_of_batches():
    weights = np.arange(500) % 3

    assert same(
        KMeans(7, random_state=0, verbose=0, memory_limit=0).fit(Counted(), sample_weight=weights),
        KMeans(7, random_state=0, verbose=0).fit(X, sample_weight=weights),
    )

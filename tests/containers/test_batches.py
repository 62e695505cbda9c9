"""What gives rows in batches, and which part of a batch is the rows."""

import collections
import functools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import coo_matrix
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

from cosmeans.containers.batches import in_batches, new_iterator, rows_of_batch
from cosmeans.errors import InputError, InputTypeError

X = np.arange(12, dtype=np.float32).reshape(4, 3)
T = torch.from_numpy(X)


class Again:
    """Batches, without a number of them."""

    def __iter__(self):
        return iter([X, X])


class Sized(Again):
    def __len__(self):
        return 2


class Called:
    def __call__(self):
        return iter([X])


def generate():
    yield X


@pytest.mark.parametrize(
    "given",
    [DataLoader(X), Again(), Sized(), Called(), generate, generate(), functools.partial(iter, [X]), lambda: [X],
     map(abs, X)],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_what_gives_batches(given):
    assert in_batches(given)


@pytest.mark.parametrize(
    "given",
    [X, T, list(X), tuple(X), X.tolist(), collections.deque(X), range(3), memoryview(X), pd.DataFrame(X),
     pd.Series([X]), coo_matrix(X), nn.Linear(3, 2), nn.ModuleList(), {"a": X}, {"a": X}.values(), {1.0}, "text",
     b"bytes", 3.0, None, np.float32(1), np.ndarray, object(), np.ma.masked_array(X)],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_what_is_rows_or_nothing_of_the_kind(given):
    assert not in_batches(given)


@pytest.mark.parametrize(
    "given",
    [DataLoader(X), Again(), Called(), generate, lambda: DataLoader(X), lambda: [X]],
    ids=lambda given: type(given).__name__,
)
def test_every_iterator_begins_with_the_first_batch(given):
    for _ in range(2):
        assert np.array_equal(np.asarray(next(new_iterator(given, "Rows")))[0], X[0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (generate(), InputTypeError, "Rows must be .*got a generator, which can be read only once. Pass a function"),
        (iter([X]), InputTypeError, "got a list_iterator, which can be read only once.*list\\(x\\)"),
        (lambda x: x, InputTypeError, "function <lambda> needs arguments.*missing.*'x'.*lambda: batches"),
        (np.load, InputTypeError, "the function load needs arguments"),
        (lambda: None, InputTypeError, "<lambda> returned a NoneType; expected an iterator of batches"),
        (DataLoader(X, shuffle=True), InputError, "another order each time \\(RandomSampler\\).*shuffle=False"),
        (lambda: DataLoader(X, shuffle=True), InputError, "shuffle=False"),
        (DataLoader(X, sampler=WeightedRandomSampler([1.0] * 4, 4)), InputError, "WeightedRandomSampler"),
        (
            DataLoader(X, batch_sampler=torch.utils.data.BatchSampler(RandomSampler(X), 2, drop_last=False)),
            InputError,
            "RandomSampler",
        ),
    ],
)
def test_what_can_not_be_read_again_in_the_same_order_is_told(given, error, message):
    with pytest.raises(error, match=message):
        new_iterator(given, "Rows")


@pytest.mark.parametrize(
    "batch",
    [
        T,
        list(T),
        (T, torch.zeros(4)),
        [T],
        {"embedding": T, "other": T},
        {"x": T, "label": torch.zeros(4), "input_ids": T.long(), "text": ["a"] * 4},
    ],
)
def test_the_rows_of_a_batch_of_tensors(batch):
    found, tensor, names = rows_of_batch(batch, "Rows in batch 5")
    assert torch.equal(found, T)
    assert tensor
    assert names is None


@pytest.mark.parametrize(
    "batch",
    [
        X,
        list(X),
        X.tolist(),
        (X.tolist(), ["a"] * 4),
        (pd.DataFrame(X), np.zeros(4)),
        {"x": X.tolist(), "text": ["a"] * 4},
        {"embedding": list(X)},
        pd.DataFrame({"text": "a", "embedding": list(X)}),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_the_rows_of_a_batch_of_anything_else(batch):
    found, tensor, _ = rows_of_batch(batch, "Rows in batch 5")
    assert np.array_equal(found.numpy(), X)
    assert not tensor


@pytest.mark.parametrize("batch", [X[:0], [], torch.empty(0), torch.empty(0, 3), pd.DataFrame(X)[:0]])
def test_a_batch_may_be_empty(batch):
    assert len(rows_of_batch(batch, "Rows in batch 5")[0]) == 0


def test_names_of_columns_come_along():
    assert rows_of_batch(pd.DataFrame(X, columns=["a", "b", "c"]), "Rows")[2] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (X[0], InputError, r"Rows in batch 5 must have two dimensions \(B, D\), got shape \(3,\).*x\[None, :\]"),
        (X[None], InputError, r"got shape \(1, 4, 3\)"),
        (3.0, InputError, r"got shape \(\)"),
        ({"a": T, "b": T}, InputError, "entries 'a', 'b', of which 2 hold floating numbers .*\"embedding\""),
        ({"input_ids": T.long()}, InputError, "entries 'input_ids', of which 0 hold"),
        ({}, InputError, "entries none"),
        (["a", "b"], InputTypeError, "Rows in batch 5 must be real numbers, got 'a' of type str"),
        (T > 1, InputTypeError, "Rows in batch 5 must be real numbers, got torch.bool"),
    ],
)
def test_a_batch_without_rows_is_told(batch, error, message):
    with pytest.raises(error, match=message):
        rows_of_batch(batch, "Rows in batch 5")


def test_data_sets_of_torch_give_rows_first():
    (batch,) = new_iterator(DataLoader(TensorDataset(T, torch.zeros(4)), batch_size=4), "Rows")
    assert torch.equal(rows_of_batch(batch, "Rows")[0], T)

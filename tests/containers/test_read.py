"""What entries are is judged by one rule for every container: real numbers are taken by value, all else is told."""

import datetime
import decimal
import fractions
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.data import Dataset, TensorDataset

from cosmeans import KMeans, evaluate, match, moved
from cosmeans._estimator.inputs import read_rows
from cosmeans.containers.classes import read_classes
from cosmeans.containers.converted import ConvertedRows, from_numpy
from cosmeans.containers.read import read_numbers
from cosmeans.errors import CosmeansError, FeatureNamesWarning, FileError, InputError, InputTypeError
from cosmeans.memory_rows import whole
from generators import normal
from refusing import leave_memory

N = 9
NUMBERS = pd.DataFrame(normal(N, 3), columns=list("abc"))
NULLS = ("None", "NaN", "NaT", "<NA>")

# one value of each kind that has no cosine, and the word that the message has for it
WRONG = {
    "text": ("90210", "text"),
    "bytes": (b"9", "text"),
    "boolean": (True, "bool"),
    "NumPy's boolean": (np.True_, "bool"),
    "date": (datetime.date(2020, 1, 1), "date"),
    "moment": (datetime.datetime(2020, 1, 1), "date"),
    "Timestamp": (pd.Timestamp("2020"), "dates"),
    "datetime64": (np.datetime64("2020-01-01"), "date"),
    "duration": (datetime.timedelta(1), "duration"),
    "timedelta64": (np.timedelta64(1, "D"), "duration"),
    "period": (pd.Period("2020"), "date"),
    "complex": (1j, "Complex"),
    "dictionary": ({"a": 1}, "dict"),
    "set": ({1}, "set"),
    "object": (object(), "object"),
}


def column(value):
    found = np.empty(N, dtype=object)
    for row in range(N):
        found[row] = value
    return found


HOLDERS = {
    "list": lambda value: [[1.0, 2.0, value] for _ in range(N)],
    "tuples": lambda value: tuple((1.0, 2.0, value) for _ in range(N)),
    "objects": lambda value: np.stack([column(1.0), column(value)], axis=1),
    "Series of lists": lambda value: pd.Series([[1.0, value] for _ in range(N)]),
    "object column": lambda value: NUMBERS.assign(zip=pd.Series(column(value), dtype=object)),
    "inferred column": lambda value: NUMBERS.assign(zip=[value] * N),
    "objects of lists": lambda value: pd.Series([[1.0, value]] * N).to_numpy(),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_a_number_is_named_in_every_container(kind, holder):
    value, word = WRONG[kind]

    with pytest.raises(InputTypeError) as caught:
        read_rows(HOLDERS[holder](value))

    assert word in str(caught.value)
    assert (
        "'zip'" in str(caught.value)
        if "column" in holder
        else " in row 0" in str(caught.value) or "at [" in str(caught.value)
    )


DTYPES = {
    "string": "text",
    "category": "categories",
    "boolean": "booleans",
    "bool": "booleans",
    "datetime64[ns]": "dates",
    "timedelta64[s]": "durations",
    "datetime64[ns, UTC]": "dates",
    "period[D]": "dates",
    "Sparse[float64]": "sparse",
    "complex64": "Complex",
    "string[pyarrow]": "text",
    "bool[pyarrow]": "booleans",
    "timestamp[s][pyarrow]": "dates",
    "duration[s][pyarrow]": "durations",
    "uint16[pyarrow]": "bits of float16",
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_of_pandas_that_are_not_numbers_are_named(dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = pd.Series(range(N))
    values = values % 2 == 0 if dtype in ("bool", "boolean", "bool[pyarrow]") else values
    values = pd.Series(pd.period_range("2020", periods=N)) if "period" in dtype else values.astype(dtype)

    with pytest.raises(InputTypeError) as caught:
        read_rows(NUMBERS.assign(zip=values))

    assert "'zip'" in str(caught.value)
    assert DTYPES[dtype] in str(caught.value)


def test_columns_of_arrow_that_are_not_numbers_are_named():
    pa = pytest.importorskip("pyarrow")
    columns = {
        "text": pa.array(["a"] * N),
        "text ": pa.array(["a"] * N).cast(pa.large_string()),
        "booleans": pa.array([True] * N),
        "booleans ": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1] * N, pa.int8())),
        "dates": pa.array([datetime.date(2020, 1, 1)] * N),
        "dates ": pa.array([datetime.time(1)] * N),
        "durations": pa.array([datetime.timedelta(1)] * N),
        "categories": pa.array(["a"] * N).dictionary_encode(),
        "records": pa.array([{"a": 1}] * N),
        "lists of text": pa.array([["a"]] * N),
        "float16": pa.array([1] * N, pa.uint16()),
        "float16 ": pa.array([[1, 2]] * N, pa.list_(pa.uint16())),
    }
    for word, values in columns.items():
        with pytest.raises(InputTypeError, match=r"'zip'") as caught:
            read_rows(pa.table({"a": np.arange(N), "zip": values}))
        assert word.strip() in str(caught.value)


def test_columns_of_polars_that_are_not_numbers_are_named():
    pl = pytest.importorskip("polars")
    columns = {
        "text": pl.Series(["a"] * N),
        "booleans": pl.Series([True] * N),
        "dates": pl.Series([datetime.date(2020, 1, 1)] * N),
        "dates ": pl.Series([datetime.datetime(2020, 1, 1)] * N),
        "durations": pl.Series([datetime.timedelta(1)] * N),
        "categories": pl.Series(["a"] * N, dtype=pl.Categorical),
        "records": pl.Series([{"a": 1}] * N),
        "lists of text": pl.Series([["a"]] * N),
    }
    for word, values in columns.items():
        with pytest.raises(InputTypeError, match="'zip'") as caught:
            read_rows(pl.DataFrame({"a": np.arange(N), "zip": values}))
        assert word.strip() in str(caught.value)


def values_of(rows):
    return np.asarray(whole(read_rows(rows)[0]).to(torch.float32))


# nulls: the same two rows in every container, a null where the oracle has NaN
ORACLE = np.array([[1, 2], [3, np.nan], [5, 6]], np.float32)
WHOLE = [[1, 2], [3, None], [5, 6]]


def nulls():
    frame = pd.DataFrame(WHOLE, columns=["a", "b"], dtype=object)
    found = {
        "list": WHOLE,
        "objects": np.array(WHOLE, dtype=object),
        "NA": [[1, 2], [3, pd.NA], [5, 6]],
        "masked": np.ma.masked_array([[1, 2], [3, 4], [5, 6]], [[0, 0], [0, 1], [0, 0]]),
        "masked floats": np.ma.masked_array(np.float32([[1, 2], [3, 4], [5, 6]]), [[0, 0], [0, 1], [0, 0]]),
        "frame of objects": frame,
        "nullable": frame.astype("Int64"),
        "nullable floats": frame.astype("Float64"),
        "one nullable column": frame.astype({"a": "int8", "b": "UInt16"}),
        "Series of lists": pd.Series(WHOLE),
    }
    try:
        import pyarrow as pa
    except ImportError:
        return found
    table = pa.table({"a": [1, 3, 5], "b": pa.array([2, None, 6], pa.int8())})
    lists = pa.array(WHOLE, pa.list_(pa.int64()))
    found |= {"Arrow": table, "Arrow lists": lists, "Arrow chunks": pa.chunked_array([lists, lists[:0]])}
    return found | {"pandas of Arrow": table.to_pandas(types_mapper=pd.ArrowDtype)}


@pytest.mark.parametrize("holder", nulls())
def test_a_null_is_a_nan(holder):
    assert np.array_equal(values_of(nulls()[holder]), ORACLE, equal_nan=True)


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, np.ma.masked])
def test_a_missing_weight_is_an_error_that_names_it(value):
    weights = [1.0] * N
    weights[4] = value

    with pytest.raises(InputError, match=r"sample_weight\[4\] is NaN or infinity"):
        KMeans(2, verbose=0).fit(NUMBERS, sample_weight=weights)


@pytest.mark.parametrize("value", [2**24 + 1, 2**53 + 1, 2**62 + 2**38 + 1, -(2**31) - 129])
def test_integers_count_by_their_values_and_are_rounded_once(value):
    """By way of float64 the third would be rounded twice, to another number."""
    rows = np.full((3, 2), value, np.int64)
    exact = fractions.Fraction(value)
    low, high = np.float32(value), np.nextafter(np.float32(value), np.float32(np.inf))
    low = low if fractions.Fraction(float(low)) <= exact else np.nextafter(low, np.float32(-np.inf))
    high = np.nextafter(low, np.float32(np.inf))
    nearest = min((low, high), key=lambda x: abs(fractions.Fraction(float(x)) - exact))

    for given in (
        rows,
        torch.from_numpy(rows),
        rows.astype(">i8"),
        pd.DataFrame(rows),
        pd.DataFrame(rows).astype("Int64"),
    ):
        assert (values_of(given) == nearest).all()
    mixed = pd.DataFrame(rows, columns=["a", "b"]).assign(x=1.5).astype({"a": "Int64"})
    assert (values_of(mixed)[:, :2] == nearest).all()


def test_one_column_of_vectors_is_the_rows_and_others_are_not_asked():
    vectors = normal(N, 4)
    frame = pd.DataFrame({"id": range(N), "text": "x", "when": pd.Timestamp("2020"), "e": list(vectors)})

    rows, kind = read_rows(frame)

    assert np.array_equal(whole(rows).numpy(), vectors)
    assert kind.names is None
    with pytest.raises(InputError, match=r"2 columns hold vectors \('e', 'f'\)"):
        read_rows(frame.assign(f=list(vectors)))


class HandsOutArrow:
    """An object that knows nothing but the Arrow PyCapsule interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_anything_that_hands_out_arrow_is_a_table():
    pa = pytest.importorskip("pyarrow")
    vectors = normal(N, 4)
    table = pa.table({"id": range(N), "e": list(vectors)})

    assert np.array_equal(values_of(HandsOutArrow(table)), vectors)
    with pytest.raises(InputTypeError, match="text"):
        read_rows(HandsOutArrow(pa.table({"id": ["x"] * N})))


def test_a_data_set_of_datasets_is_read_by_its_indices_mapping():
    datasets = pytest.importorskip("datasets")
    vectors = normal(N, 4)
    shuffled = datasets.Dataset.from_dict({"id": list(range(N)), "e": vectors.tolist()}).select(range(N - 1, -1, -2))

    assert np.array_equal(values_of(shuffled), vectors[::-1][::2])


RAGGED = [[1.0, 2.0], [3.0, 4.0], [5.0]]
MISSING = [[1.0, 2.0], [3.0, 4.0], None]


def holders_of_vectors():
    found = {
        "list": list,
        "list of arrays": lambda rows: [None if row is None else np.array(row) for row in rows],
        "list of tensors": lambda rows: [None if row is None else torch.tensor(row) for row in rows],
        "Series": pd.Series,
        "frame": lambda rows: pd.DataFrame({"t": "x", "e": rows}),
        "objects": lambda rows: pd.Series(rows).to_numpy(),
    }
    try:
        import pyarrow as pa

        found |= {"Arrow": pa.array, "Arrow table": lambda rows: pa.table({"e": rows})}
        found["Arrow views"] = lambda rows: pa.array(rows, pa.list_view(pa.float32()))
        found["Arrow chunks"] = lambda rows: pa.chunked_array(
            [pa.array(rows[:2]), pa.array(rows[2:], pa.list_(pa.float64()))]
        )
        import polars as pl

        found |= {"polars": lambda rows: pl.Series("e", rows), "polars frame": lambda rows: pl.DataFrame({"e": rows})}
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("holder", holders_of_vectors())
def test_vectors_of_another_length_or_none_name_their_row(holder):
    with pytest.raises(InputError, match=r"\b(row|entry) 2 .*(has 1 numbers|shape \(1,\))"):
        read_rows(holders_of_vectors()[holder](RAGGED))
    with pytest.raises(InputError, match=r"\b(row|entry) 2 .*is missing"):
        read_rows(holders_of_vectors()[holder](MISSING))


class Fails:
    def __array__(self, dtype=None, copy=None):
        raise LookupError("gone")


OTHERS = {  # containers that are not rows: what came, and advice that works
    "dict.values": ({0: [1.0]}.values(), "dict_values", "list(x)"),
    "dict": ({0: [1.0]}, "dict", "list(x.values())"),
    "Embedding": (nn.Embedding(3, 2), "Embedding", "x.weight"),
    "module": (nn.ReLU(), "ReLU", "what it computes"),
    "records": (
        np.zeros(3, [("a", "f4"), ("b", "f4")]),
        "records",
        "np.stack([x[name] for name in x.dtype.names], axis=-1)",
    ),
    "text": (np.full((3, 2), "a"), "text", "embeddings"),
    "sparse frame": (NUMBERS.astype(pd.SparseDtype("float32")), "sparse", "x.astype(np.float32)"),
    "one sparse column": (NUMBERS.astype({"a": pd.SparseDtype("float64")}), "'a'", "x.astype(np.float32)"),
    "list of dictionaries": ([{"a": 1.0}] * 3, "dict", "Pass an array"),
    "no columns": (pd.DataFrame(index=range(3)), "0 feature(s)", "minimum of 1"),
    "empty frame": (pd.DataFrame(), "0 sample(s)", "minimum of 1"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8),
        "quantised",
        "x.dequantize()",
    ),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(2)]), "nested", "torch.stack(x.unbind())"),
    "meta": (torch.ones(3, 2, device="meta"), "meta", "Pass a tensor with values"),
    "sparse tensor": (torch.ones(3, 2).to_sparse(), "sparse_coo", "x.to_dense()"),
    "complex tensor": (torch.ones(3, 2) + 0j, "Complex data not supported", "x.real"),
    "a class": (object(), "object", "Pass an array"),
    "MultiIndex": (pd.MultiIndex.from_arrays([[1.0], [2.0]]), "MultiIndex", "Pass an array"),
    "NA": (pd.NA, "NAType", "Pass an array"),
    "parameter without values": (nn.UninitializedParameter(), "UninitializedParameter", "Pass a tensor with values"),
    "fake": (lambda: FakeTensorMode().from_tensor(torch.ones(3, 2)), "FakeTensor", "Pass a tensor with values"),
    "rows that fail": ([Fails()] * 3, "Fails", "Pass an array"),
    "Arrow scalar": (lambda: pytest.importorskip("pyarrow").scalar(1.0), "DoubleScalar", "Pass an array"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.filterwarnings("ignore:.*(nested|quantize)")
def test_other_containers_are_told_what_to_do(case):
    rows, *words = OTHERS[case]

    with pytest.raises(CosmeansError) as caught:
        read_rows(rows() if callable(rows) and not isinstance(rows, nn.Module) else rows)

    for word in words:
        assert word in str(caught.value)


def test_the_advice_for_sparse_frames_and_records_works():
    assert np.array_equal(
        values_of(NUMBERS.astype({"a": pd.SparseDtype("float32")}).astype(np.float32)), NUMBERS.to_numpy()
    )
    x = np.ones(3, [("a", "f4"), ("b", "f4")])
    assert values_of(np.stack([x[name] for name in x.dtype.names], axis=-1)).shape == (3, 2)


@pytest.mark.parametrize(
    "array", [normal(40, 6).astype(">f4"), normal(40, 6)[::-1], normal(40, 6).astype(np.longdouble)]
)
def test_arrays_that_torch_can_not_hold_are_converted_piece_by_piece(array):
    rows = from_numpy(array)

    assert isinstance(rows, ConvertedRows)
    assert np.array_equal(rows[3:7].numpy(), array[3:7].astype(np.float32))
    assert np.array_equal(rows[torch.tensor([5, 1])].numpy(), array[[5, 1]].astype(np.float32))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "float16", "bfloat16"])
def test_tensors_and_arrays_that_torch_can_hold_are_not_copied(dtype):
    rows = torch.ones(5, 3).to(getattr(torch, dtype))

    assert whole(read_rows(rows)[0]).data_ptr() == rows.data_ptr()
    if dtype != "bfloat16":
        assert whole(read_rows(rows.numpy())[0]).data_ptr() == rows.data_ptr()


def anonymous():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["int8", ">f4", "uint16"])
def test_mapped_files_are_not_read_into_memory_to_be_converted(dtype, tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", dtype, (200_000, 256))
    n_bytes = array.nbytes
    del array

    before = anonymous()
    rows, _ = read_rows(tmp_path / "x.npy")

    assert anonymous() - before < n_bytes / 8
    assert rows.shape == (200_000, 256)


def test_a_mapped_array_by_columns_that_memory_can_not_hold_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.asfortranarray(normal(40, 6)))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert values_of(x).shape == (40, 6)
    leave_memory(monkeypatch, 1000)

    with pytest.raises(
        FileError, match=r"x\.npy is stored column by column \(Fortran order\).*Pass its path"
    ) as caught:
        read_rows(x)

    advice = str(caught.value).partition(": np.lib")[2].removesuffix(".")
    monkeypatch.chdir(tmp_path)
    exec("np.lib" + advice)
    assert np.array_equal(values_of(tmp_path / "rows.npy"), x)


def test_long_doubles_beyond_float32_leak_no_warning():
    rows = np.full((3, 2), np.longdouble("1e4000"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=r"Row 0 contains NaN or infinity .*3\.4e38 is infinity"):
            KMeans(2, verbose=0).fit(rows)


def test_rows_that_vanish_in_float32_are_told_apart_from_zero_rows():
    rows = normal(40, 6).astype(float)
    rows[3] *= 1e-60

    with pytest.raises(
        InputError, match=r"the first is row 3, 1 of them with numbers below float32's 1\.2e-38.*Multiply"
    ):
        KMeans(2, verbose=0, zero_rows="error").fit(rows)


CLASSES = {
    "list": ["a", "b", "a"],
    "objects": np.array(["a", "b", "a"], dtype=object),
    "of several kinds": [1, "1", 1],
    "booleans": [True, False, True],
    "Series": pd.Series(["a", "b", "a"]),
    "categories": pd.Series(["a", "b", "a"], dtype="category"),
    "integers beyond 64 bits": [2**70, 1, 2**70],
    "tensor": torch.tensor([5, 3, 5]),
    "list of tensors": list(torch.tensor([5, 3, 5])),
    "dates": pd.to_datetime(["2020", "2021", "2020"]),
    "floats": [0.5, 1.5, 0.5],
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_are_whatever_can_be_told_apart(kind):
    first, second, third = read_classes(CLASSES[kind], 3).tolist()

    assert first == third != second


def test_a_missing_class_names_its_row():
    for value in (None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT")):
        with pytest.raises(InputError, match=r"classes\[1\] is missing"):
            read_classes(["a", value, "b"], 3)
    for values in (pd.Series([1, None, 2]), np.array([1, np.nan, 2]), np.ma.masked_array([1, 2, 3], [0, 1, 0])):
        with pytest.raises(InputError, match=r"classes\[1\] is missing"):
            read_classes(values, 3)
    for values in ([[1], [2], [3]], {0: 1}.values(), "abc", 5):
        with pytest.raises(InputTypeError, match="classes must be"):
            read_classes(values, 3)


def test_frames_of_a_fit_with_names_warn_of_nothing():
    frame = pd.DataFrame(normal(40, 3), columns=list("abc"))
    model = KMeans(3, random_state=0, verbose=0).fit(frame)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved(model, model, frame), match(model, model), evaluate(model, frame), model.score(frame)
    with pytest.warns(FeatureNamesWarning, match="does not have valid feature names"):
        model.predict(frame.to_numpy())


def test_numbers_of_any_kind_are_numbers():
    rows = [[decimal.Decimal("1.5"), fractions.Fraction(1, 2), np.float16(2), 3, np.uint64(4)]] * 3

    assert values_of(rows).tolist() == [[1.5, 0.5, 2.0, 3.0, 4.0]] * 3
    assert read_numbers(7, "weight")[0].item() == 7


def test_rows_of_views_and_of_extension_arrays_are_rows():
    pa = pytest.importorskip("pyarrow")
    offsets, sizes = pa.array([2, 0], pa.int32()), pa.array([2, 2], pa.int32())
    views = pa.ListViewArray.from_arrays(offsets, sizes, pa.array([3.0, 4.0, 1.0, 2.0]))

    assert values_of(views).tolist() == [[1, 2], [3, 4]]
    assert values_of(pa.chunked_array([views[1:], views[:1]])).tolist() == [[3, 4], [1, 2]]
    assert values_of(pd.arrays.NumpyExtensionArray(np.eye(2))).tolist() == [[1, 0], [0, 1]]


def test_lists_of_rows_that_other_libraries_hold():
    bad = [pd.Series([1.0, 2.0]), pd.Series([True, False])]
    masked = [np.ma.masked_array([1.0, 2.0], [0, 1]), np.array([3.0, 4.0])]

    with pytest.raises(InputTypeError, match=r"booleans .* in row 1"):
        read_rows(bad)
    assert np.array_equal(values_of(masked), [[1, np.nan], [3, 4]], equal_nan=True)
    assert np.array_equal(values_of([[1.0, np.ma.masked], [3.0, 4.0]]), [[1, np.nan], [3, 4]], equal_nan=True)
    nullable = [pd.Series([1, None], dtype="Int64"), pd.Series([3, 4])]
    assert np.array_equal(values_of(nullable), [[1, np.nan], [3, 4]], equal_nan=True)


def test_mapped_attributes_of_a_model_leak_no_warning(tmp_path):
    joblib = pytest.importorskip("joblib")
    rows = normal(40, 6)
    joblib.dump(KMeans(3, random_state=0, verbose=0).fit(rows), tmp_path / "model")
    model = joblib.load(tmp_path / "model", mmap_mode="r")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(rows), model.transform(rows), model.score(rows), match(model, model), model.save(tmp_path / "m")


def test_a_data_set_of_one_tensor_is_that_tensor():
    tensor = torch.from_numpy(normal(N, 3))

    found, is_tensor = read_numbers(TensorDataset(tensor), "Rows")

    assert is_tensor
    assert found.data_ptr() == tensor.data_ptr()


def test_a_data_set_whose_items_are_rows_is_read_like_a_list():
    class Rows(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, row):
            if row >= N:
                raise IndexError
            return normal(N, 3)[row]

    assert np.array_equal(read_numbers(Rows(), "Rows")[0], normal(N, 3))

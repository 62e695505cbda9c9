"""Rows of files of every kind: the same bits as in memory, whatever the kind, the batch and the order of reading."""

import copy
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import feather, parquet

from cosmeans import KMeans, open_rows
from cosmeans.errors import FileError, FileOrderWarning, InputError, InputTypeError, OptionError
from files_of import EMBEDDING, KINDS, TABLES, lists, table

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def written(folder, name, rows=X):
    """A file of this kind, made once."""
    make, library = KINDS[name]
    if library is not None:
        pytest.importorskip(library)
    path = folder / name
    if not path.exists():
        make(path, rows)
    return path


def fitted(rows, **options):
    return KMeans(7, epochs=4, random_state=0, verbose=0, **options).fit(rows)


def same(found, expected):
    return (
        np.array_equal(np.asarray(found.cluster_centers_), np.asarray(expected.cluster_centers_))
        and np.array_equal(np.asarray(found.labels_), np.asarray(expected.labels_))
        and found.similarities == expected.similarities
        and found.inertia_ == expected.inertia_
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_every_kind_of_file_gives_the_bits_of_memory(folder, name, init):
    path = written(folder, name)

    assert same(fitted(path, init=init), fitted(X, init=init))
    assert np.array_equal(np.asarray(fitted(X).predict(str(path))), fitted(X).predict(X))


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_read_in_any_order_and_any_pieces(folder, name):
    rows = open_rows(written(folder, name))

    assert rows.shape == X.shape
    assert len(rows) == 300
    for start, stop in (
        (0, 300),
        (0, 1),
        (1, 36),
        (36, 38),
        (38, 38),
        (290, 300),
        (5, 9),
        (9, 150),
        (150, 300),
        (7, 8),
    ):
        assert np.array_equal(rows.read(slice(start, stop)).to(torch.float32).numpy(), X[start:stop])
    for wanted in ([], [299], [5, 5, 0], RNG.permutation(300)[:100], np.arange(299, -1, -1)):
        index = torch.tensor(np.array(wanted, np.int64))
        assert np.array_equal(rows.gather(index).to(torch.float32).numpy(), X[index.numpy()])


def test_a_pass_may_have_any_number_of_batches(tmp_path):
    rows = RNG.standard_normal((2500, 3)).astype(np.float32)
    parquet.write_table(table(rows), tmp_path / "a.parquet", row_group_size=1500)
    opened = open_rows(tmp_path / "a.parquet")

    found = [opened.read(slice(row, row + 1)) for row in range(2500)]

    assert np.array_equal(torch.cat(found).numpy(), rows)


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32])
def test_columns_of_every_type_count_by_value(tmp_path, kind, dtype):
    rows = (20 * X).astype(dtype)
    if dtype is np.uint8:
        rows = np.abs(20 * X).astype(dtype)
    parquet.write_table(pyarrow.table({EMBEDDING: lists(rows, kind)}), tmp_path / "a.parquet")

    assert same(fitted(tmp_path / "a.parquet"), fitted(rows))


def read_elsewhere(pickled, folder):
    """What another process, in another folder, reads by a pickle: the rows and their ids."""
    read = "import pickle, sys; rows = pickle.load(sys.stdin.buffer); read = rows.read(slice(0, len(rows))).numpy(); "
    read += "pickle.dump((read, [batch.to_pydict() for batch in rows.columns([rows.id_column])]), sys.stdout.buffer)"
    done = subprocess.run([sys.executable, "-c", read], input=pickled, cwd=folder, capture_output=True, check=True)
    return pickle.loads(done.stdout)


def test_a_pickle_opens_the_same_files_in_another_process(tmp_path, monkeypatch):
    for number, part in enumerate(np.split(X, [120])):
        parquet.write_table(table(part), tmp_path / f"{number}.parquet")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    rows = open_rows(["1.parquet", "0.parquet"], embedding=EMBEDDING, id_column="id", weight_column="weight")
    rows.read(slice(0, 10))  # the next ones are being decoded

    pickled = pickle.dumps(rows)
    found, ids = read_elsewhere(pickled, tmp_path / "elsewhere")

    assert np.array_equal(found, np.concatenate([X[120:], X[:120]]))
    assert [name for batch in ids for name in batch["id"]] == [f"{n:03d}" for n in [*range(180), *range(120)]]
    again = pickle.loads(pickled)
    assert again.weights().tolist() == rows.weights().tolist()
    assert same(fitted(again), fitted(rows))
    assert copy.copy(rows) is copy.deepcopy(rows) is rows


def test_a_pickle_of_files_that_have_changed_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", X)
    pickled = pickle.dumps(open_rows(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", X[:50])
    with pytest.raises(FileError, match=r"a\.npy: 50 rows x 12 .* are there, and there were 300 x 12 .*Restore"):
        pickle.loads(pickled)


def test_several_files_are_one_after_another(tmp_path):
    for number, part in enumerate(np.split(X, [1, 1, 120, 290])):
        parquet.write_table(table(part) if len(part) else table(X[:1])[:0], tmp_path / f"{number}.parquet")

    rows = open_rows(tmp_path)

    assert len(rows.names) == 5
    assert same(fitted(rows), fitted(X))
    assert same(fitted(str(tmp_path / "*.parquet")), fitted(X))
    assert same(fitted(sorted(tmp_path.iterdir())), fitted(X))
    assert same(fitted(rows, batch_size=33, init="nested"), fitted(X, init="nested"))


def test_files_of_several_kinds_may_follow_one_another(tmp_path):
    np.save(tmp_path / "a.npy", X[:100].astype(np.float16))
    parquet.write_table(table(X[100:]), tmp_path / "b.parquet")

    found = fitted([tmp_path / "a.npy", tmp_path / "b.parquet"])

    assert same(found, fitted(np.concatenate([X[:100].astype(np.float16).astype(np.float32), X[100:]])))


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.jsonl", "a.csv"])
def test_rows_that_are_null_are_rows_of_nan(tmp_path, name):
    values = [row.tolist() for row in X]
    values[3], values[7] = None, [*values[7][:5], None, *values[7][6:]]
    rows = X.copy()
    rows[3], rows[7, 5] = np.nan, np.nan
    made = pyarrow.table({EMBEDDING: pyarrow.array(values, pyarrow.list_(pyarrow.float32()))})
    path = tmp_path / name
    match path.suffix:
        case ".parquet":
            parquet.write_table(made, path, row_group_size=5)
        case ".feather":
            feather.write_feather(made[2:], path, chunksize=4)
            rows = rows[2:]
        case ".jsonl":
            path.write_text("".join(f'{{"{EMBEDDING}": {value}}}\n'.replace("None", "null") for value in values))
        case ".csv":
            values[7] = "[nan" + ", 1.0" * 11 + "]"
            path.write_text("n,embedding\n" + "".join(f'{n},"{value or ""}"\n' for n, value in enumerate(values)))

    with pytest.raises(InputError, match=rf"Row {1 if path.suffix == '.feather' else 3} contains NaN or infinity"):
        fitted(path)
    with pytest.warns(UserWarning, match="2 of"):
        found = fitted(path, nonfinite="skip")
    with pytest.warns(UserWarning, match="2 of"):
        assert np.array_equal(found.labels_, fitted(rows, nonfinite="skip").labels_)


def test_a_row_is_named_with_its_file(tmp_path):
    rows = X.copy()
    rows[150, 2] = np.inf
    np.save(tmp_path / "a.npy", rows[:100])
    np.save(tmp_path / "b.npy", rows[100:])

    with pytest.raises(InputError, match=r"Row 150 \(.*b\.npy, row 50\) contains NaN or infinity"):
        fitted(tmp_path)


def test_the_order_of_files_is_that_of_their_paths_or_of_their_numbers(tmp_path):
    for number in range(12):
        np.save(tmp_path / f"part_{number}.npy", X[25 * number : 25 * number + 25])

    with pytest.warns(FileOrderWarning, match=r"12 files by their paths \(part_10.npy before part_2.npy\).*natural"):
        by_path = open_rows(tmp_path)
    natural = open_rows(f"{tmp_path}/part_*.npy", order="natural")

    assert [os.path.basename(name) for name in by_path.names[:3]] == ["part_0.npy", "part_1.npy", "part_10.npy"]
    assert same(fitted(natural), fitted(X))


def test_integers_and_halves_that_follow_one_another_count_by_value(tmp_path):
    large = np.arange(70_000, 70_040, dtype=np.int32).reshape(10, 4)  # beyond float16
    np.save(tmp_path / "a.npy", large)
    np.save(tmp_path / "b.npy", X[:10, :4].astype(np.float16))

    rows = open_rows([tmp_path / "a.npy", tmp_path / "b.npy"])

    expected = np.concatenate([large, X[:10, :4].astype(np.float16).astype(np.float32)])
    assert np.array_equal(rows.read(slice(0, 20)).numpy(), expected)
    assert np.array_equal(rows.gather(torch.tensor([12, 3])).numpy(), expected[[12, 3]])


@pytest.mark.parametrize("name", TABLES)
def test_ids_and_weights_are_columns_of_the_same_files(folder, name):
    path = written(folder, name)

    rows = open_rows(path, id_column="id", weight_column="weight")

    weights = np.arange(300) % 5.0
    assert np.array_equal(rows.weights(), weights)
    assert same(fitted(rows), KMeans(7, epochs=4, random_state=0, verbose=0).fit(X, sample_weight=weights))
    ids = [cell for batch in rows.columns(["id"], text=True) for cell in batch.column(0).to_pylist()]
    assert ids == [f"{number:03d}" for number in range(300)]


def test_raw_numbers_need_a_shape_and_a_type(tmp_path):
    X.tofile(tmp_path / "a.bin")

    assert same(fitted(open_rows(tmp_path / "a.bin", shape=(300, 12), dtype="float32")), fitted(X))
    with pytest.raises(FileError, match=r"300 rows of 11 float32 are 13,200 bytes, and it holds 14,400"):
        open_rows(tmp_path / "a.bin", shape=(300, 11), dtype="float32")
    with pytest.raises(FileError, match=r"unsupported file type \(\.bin, raw numbers without shape and dtype\)"):
        open_rows(tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["a.parquet", "a.npy"])
def test_bits_of_float16_in_unsigned_integers_are_told_from_integers(tmp_path, name):
    rows = X.astype(np.float16)
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, rows.view(np.uint16))
    else:
        parquet.write_table(pyarrow.table({EMBEDDING: lists(rows.view(np.uint16))}), path)
        with pytest.raises(InputTypeError, match=r"holds uint16.*pass dtype=\"float16\" \(--dtype float16\)"):
            open_rows(path)

    assert same(fitted(open_rows(path, dtype="float16")), fitted(rows))


BAD = {
    "bits in one of many columns": (
        {"a": X[:, 0], "b": X[:, 1].view(np.uint32).astype(np.uint16)},
        InputTypeError,
        "'b' holds uint16",
    ),
    "two columns": (
        {"a": lists(X), "b": lists(X, "fixed")},
        OptionError,
        r'2 columns of lists of numbers: "a", "b" \(12\)',
    ),
    "no column": ({"id": ["x"] * 300}, InputTypeError, r"no column of lists of numbers; its columns: 'id' \(text\)"),
    "lists of text": ({"embedding": [["x"]] * 300}, InputTypeError, "no column of lists of numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_table_in_which_the_vectors_are_not_clear(tmp_path, kind):
    columns, error, message = BAD[kind]
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")

    with pytest.raises(error, match=message):
        open_rows(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedding": "x"}, OptionError, r"has no such column. It has: id, embedding, weight"),
        ({"embedding": "id"}, InputTypeError, r"column 'id' holds text; expected lists of numbers.*are in: embedding"),
        ({"key": "x"}, OptionError, "Remove the key"),
        ({"shape": (3, 4)}, OptionError, "Remove the shape"),
        ({"dtype": "int8"}, OptionError, "a table says what its numbers are"),
        ({"dtype": "float16"}, OptionError, "for bits of float16 in a column of uint16"),
        ({"weight_column": "x"}, OptionError, r"has no column 'x'. Its columns: id, embedding, weight"),
        ({"order": "size"}, OptionError, 'order must be "path" or "natural"'),
    ],
    ids=str,
)
def test_an_option_that_can_not_be_is_an_error_before_anything_is_read(tmp_path, options, error, message):
    parquet.write_table(table(X), tmp_path / "a.parquet")

    with pytest.raises(error, match=message):
        open_rows(tmp_path / "a.parquet", **options)


def test_rows_of_several_lengths_are_told_with_their_file(tmp_path):
    values = [[1.0, 2.0]] * 40 + [[1.0]] + [[1.0, 2.0]] * 10
    parquet.write_table(pyarrow.table({EMBEDDING: values}), tmp_path / "a.parquet", row_group_size=25)
    with pytest.raises(InputError, match=r"a.parquet, row 40: a list of 1 numbers, others have 2"):
        fitted(tmp_path / "a.parquet")

    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :5])
    with pytest.raises(InputError, match=r"b.npy has rows of 5 numbers, .*a.npy has rows of 12"):
        open_rows([tmp_path / "a.npy", tmp_path / "b.npy"])


@pytest.mark.parametrize(
    ("name", "head", "line", "told"),
    [
        ("a.jsonl", "", '{"embedding": [1.0, 2.0]}', "line 2001 is not JSON"),
        ("a.csv", "embedding\n", '"[1.0, 2.0]"', "row 2000: column 'embedding' holds 'no list'"),
    ],
)
def test_text_is_counted_when_it_is_opened_and_taken_apart_when_it_is_read(tmp_path, name, head, line, told):
    (tmp_path / name).write_text(head + (line + "\n") * 2000 + "no list\n")

    rows = open_rows(tmp_path / name)

    assert rows.shape == (2001, 2)
    with pytest.raises(FileError, match=told):
        rows.read(slice(0, len(rows)))


def test_json_lines_may_be_called_json(tmp_path):
    lines = [{"text": "a", "embedding": row} for row in X[:3].tolist()]
    (tmp_path / "a.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert np.array_equal(open_rows(tmp_path / "a.json").read(slice(0, 3)).numpy(), X[:3])
    parquet.write_table(table(X), tmp_path / "a.parquet")
    assert open_rows(tmp_path).names == [str(tmp_path / "a.parquet")], "a folder is not searched for .json"

    for indent in (None, 2):
        for document in (lines, lines[0]) if indent else (lines,):
            (tmp_path / "a.json").write_text(json.dumps(document, indent=indent))
            with pytest.raises(FileError, match=r"a.json is one JSON document; expected are JSON lines.* jq -c"):
                open_rows(tmp_path / "a.json")


def test_blank_lines_and_empty_lists_in_front_are_no_rows_and_no_width(tmp_path):
    (tmp_path / "a.jsonl").write_text('\n{"embedding": null}\n\n{"embedding": [1, 2, 3]}\n  \n')
    rows = open_rows(tmp_path / "a.jsonl")
    assert np.array_equal(rows.read(slice(0, 2)).numpy(), [[np.nan] * 3, [1, 2, 3]], equal_nan=True)
    (tmp_path / "b.jsonl").write_text('{"embedding": []}\n{"embedding": [1, 2, 3]}\n')
    with pytest.raises(InputError, match="row 0: a list of 0 numbers, others have 3"):
        open_rows(tmp_path / "b.jsonl").read(slice(0, 2))
    (tmp_path / "c.jsonl").write_text('{"embedding": []}\n' * 3)
    with pytest.raises(InputError, match="all 3 rows of column 'embedding' are null or empty"):
        open_rows(tmp_path / "c.jsonl")


def test_names_that_name_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    np.save(tmp_path / "two" / "a.npy", X)
    np.savez(tmp_path / "two" / "b.npz", X)
    np.save(tmp_path / "two" / "_hidden.npy", X)

    with pytest.raises(FileError, match="has no files with rows in it"):
        open_rows(tmp_path / "empty")
    with pytest.raises(FileError, match=r"holds files of 2 kinds \(1 \.npy, 1 \.npz\)"):
        open_rows(tmp_path / "two")
    with pytest.raises(FileError, match=r"No file matches .*\*\.parquet"):
        open_rows(f"{tmp_path}/*.parquet")
    with pytest.raises(FileError, match="No such file"):
        open_rows(tmp_path / "none.parquet")
    with pytest.raises(InputTypeError, match="must be a path or a list of paths"):
        open_rows(3)
    np.save(tmp_path / "a[1].npy", X)
    assert open_rows(str(tmp_path / "a[1].npy")).names == [str(tmp_path / "a[1].npy")], (
        "a name of a file, not a pattern"
    )


@pytest.mark.parametrize("name", [name for name in KINDS if "." in name and "zarr" not in name and "lance" not in name])
def test_a_file_that_is_cut_is_an_error_that_names_it(folder, tmp_path, name):
    whole = written(folder, name).read_bytes()
    for part in (0, 1, len(whole) // 2 - 1, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:part])
        if "csv" in name or "jsonl" in name:
            continue  # the first lines are a file, too
        with pytest.raises((FileError, InputError), match=name.replace(".", r"\.")):
            fitted(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.parquet", "pyarrow", "tables"), ("a.csv", "pyarrow", "tables"), ("a.h5", "h5py", "hdf5"),
     ("three.zarr", "zarr", "zarr")],
)  # fmt: skip
def test_a_library_that_is_missing_is_named_with_its_extra(folder, monkeypatch, name, module, extra):
    path = written(folder, name)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(FileError, match=rf'{name} needs {module} \(.*: pip install "cosmeans\[{extra}\]"'):
        open_rows(path)


def test_a_table_that_changes_while_it_is_read(tmp_path):
    parquet.write_table(table(X), tmp_path / "a.parquet")
    np.save(tmp_path / "b.npy", X)
    rows = open_rows([tmp_path / "a.parquet", tmp_path / "b.npy"])

    parquet.write_table(table(-X), tmp_path / "a.parquet")

    with pytest.raises(FileError, match=r"a\.parquet has changed since it was opened\. Open it again when it is comp"):
        rows.read(slice(0, 600))


def test_texts_in_a_list_are_texts_and_paths_are_paths():
    with pytest.raises(InputTypeError, match="text"):
        KMeans(2).fit(["the cat", "sat on the mat"])


def test_the_rows_of_each_file_are_sources_of_their_own(tmp_path):
    counts = (5, 0, 7)
    starts = np.cumsum([0, *counts])
    for name, start, stop in zip("abc", starts, starts[1:], strict=False):
        parquet.write_table(table(X[start:stop], "fixed"), tmp_path / f"{name}.parquet")
    rows = open_rows(tmp_path)

    parts = rows.parts()

    assert [os.path.basename(part.name) for part in parts] == ["a.parquet", "b.parquet", "c.parquet"]
    assert [(part.start, part.stop) for part in parts] == [(0, 5), (5, 5), (5, 12)]
    assert (rows.whole().start, rows.whole().stop, rows.whole().rows) == (0, 12, rows)
    for part in parts:
        for found in (part.rows, pickle.loads(pickle.dumps(part.rows))):
            assert np.array_equal(found.read(slice(0, len(found))), X[part.start : part.stop])
            weights = [cell for batch in found.columns(["weight"]) for cell in batch.column(0).to_pylist()]
            assert weights == [n % 5.0 for n in range(part.stop - part.start)]

"""What files do that looks like rows and is not, or is rows and does not look like it; each with what is said of it."""

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from cosmeans import KMeans, open_rows
from cosmeans.errors import FileError, InputError
from files_of import EMBEDDING, KINDS, lists

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 12)).astype(np.float32)
TYPES = {
    "list": lambda value: pyarrow.list_(value),
    "large": lambda value: pyarrow.large_list(value),
    "fixed": lambda value: pyarrow.list_(value, 12),
}


def written(path, column, **options):
    """A table with this column, as Parquet or as an Arrow file whose batches are cut out of larger ones."""
    table = pyarrow.table({EMBEDDING: column})
    if path.suffix == ".parquet":
        parquet.write_table(table, path, **options)
        return path
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as opened:
        for batch in table.combine_chunks().to_batches():
            for start in range(0, len(batch), 70):
                opened.write_batch(batch.slice(start, 70))
    return path


def anonymous():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def bits(rows):
    rows = np.asarray(rows, np.float32)
    return np.where(np.isnan(rows), np.float32(np.nan), rows).view(np.int32)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_nulls_in_the_middle_of_sliced_batches(tmp_path, kind, name):
    """`flatten` drops the slots of null rows of fixed lists, `values` keeps them and does not know of slices."""
    rows, values = X.copy(), X.tolist()
    for at in (0, 69, 70, 75, 299):
        rows[at], values[at] = np.nan, None
    rows[76, 3], values[76] = np.nan, [*values[76][:3], None, *values[76][4:]]
    rows[77], values[77] = 0, [0.0] * 12
    rows[78, 2] = values[78][2] = np.nan
    column = pyarrow.array([None, *values], TYPES[kind](pyarrow.float32()))[1:]

    opened = open_rows(written(tmp_path / name, column, row_group_size=40))

    assert opened.shape == (300, 12)
    assert np.array_equal(bits(opened.read(slice(0, 300))), bits(rows))
    order = np.array([299, 76, 70, 71, 78, 77])
    assert np.array_equal(bits(opened.gather(torch.from_numpy(order))), bits(rows[order]))
    with pytest.raises(InputError, match="Row 0 contains NaN or infinity"):
        KMeans(3, verbose=0, zero_rows="skip").fit(opened)


@pytest.mark.parametrize("kind", TYPES)
def test_nulls_among_bits_of_float16(tmp_path, kind):
    """0 stands for a null in Arrow's memory, and NaN has to."""
    narrow = X.astype(np.float16)
    values = narrow.view(np.uint16).tolist()
    values[5], values[6][2] = None, None
    expected = narrow.astype(np.float32)
    expected[5], expected[6, 2] = np.nan, np.nan
    path = written(tmp_path / "a.parquet", pyarrow.array(values, TYPES[kind](pyarrow.uint16())))

    assert np.array_equal(bits(open_rows(path, dtype="float16").read(slice(0, 300))), bits(expected))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_extension_types_are_what_they_store(tmp_path, name):
    kind = pyarrow.fixed_shape_tensor(pyarrow.float32(), (12,))
    column = pyarrow.ExtensionArray.from_storage(kind, lists(X, "fixed"))

    opened = open_rows(written(tmp_path / name, column))

    assert np.array_equal(opened.read(slice(0, 300)).numpy(), X)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["list", "fixed"])
def test_numbers_of_split_bytes(tmp_path, kind, dtype):
    rows = X.astype(dtype)
    options = {"use_dictionary": False, "use_byte_stream_split": True, "compression": "zstd"}
    path = written(tmp_path / "a.parquet", lists(rows, kind), **options)
    chunk = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    assert "BYTE_STREAM_SPLIT" in chunk.encodings

    opened = open_rows(path)

    assert opened.dtype == torch.from_numpy(rows).dtype
    assert np.array_equal(opened.read(slice(0, 300)).numpy(), rows)


@pytest.mark.linux
def test_one_row_group_of_a_million_rows_is_decoded_in_pieces(tmp_path):
    rows = np.tile(X[:, :8], (3334, 1))[:1_000_000]
    n_bytes = rows.nbytes
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({EMBEDDING: lists(rows)}), path, row_group_size=len(rows), compression="lz4")
    assert parquet.ParquetFile(path).metadata.num_row_groups == 1
    opened = open_rows(path)
    tail = rows[-7:].copy()
    del rows

    before, peak = anonymous(), 0
    for start in range(0, 400_000, 8000):
        found = opened.read(slice(start, start + 8000))
        peak = max(peak, anonymous() - before)

    assert peak < n_bytes, "a whole row group takes five times as much"
    assert np.array_equal(found[:300].numpy(), X[(np.arange(392_000, 392_300) % 300), :8])
    assert np.array_equal(opened.gather(torch.arange(999_993, 1_000_000)).numpy(), tail)


@pytest.mark.soak
def test_more_than_two_to_the_31_values(tmp_path):
    n_rows = 100_000
    part = RNG.integers(-9, 9, (n_rows, 768)).astype(np.int8)
    n_parts = 2**31 // part.size + 2
    table = pyarrow.table({"id": np.arange(n_rows), EMBEDDING: lists(part)})
    with parquet.ParquetWriter(tmp_path / "a.parquet", table.schema, compression="zstd") as file:
        for _ in range(n_parts):
            file.write_table(table, row_group_size=n_rows)

    rows = open_rows(tmp_path / "a.parquet")

    assert rows.shape == (n_parts * n_rows, 768)
    assert rows.n_rows * 768 > 2**31
    last = np.array([n_parts * n_rows - 1, 2**31 // 768, 2**31 // 768 + 1, 5])
    assert np.array_equal(rows.gather(torch.from_numpy(last)).numpy(), part[last % n_rows])
    start = 2**31 // 768 - 500
    assert np.array_equal(rows.read(slice(start, start + 1000)).numpy(), part[np.arange(start, start + 1000) % n_rows])
    np.save(tmp_path / "a.npy", np.broadcast_to(part[:1], (2**31 // 768 + 9, 768)))
    assert np.array_equal(open_rows(tmp_path / "a.npy").read(slice(2**31 // 768, 2**31 // 768 + 9))[8].numpy(), part[0])


def test_rows_of_search_benchmarks_say_their_length_each_time(tmp_path):
    KINDS["a.fvecs"][0](tmp_path / "a.fvecs", X)
    whole = bytearray((tmp_path / "a.fvecs").read_bytes())
    stride = 4 + 12 * 4
    other = bytearray(whole)
    other[-stride : 4 - stride] = (11).to_bytes(4, "little")
    (tmp_path / "b.fvecs").write_bytes(other)
    (tmp_path / "c.fvecs").write_bytes(whole[:-3])
    narrow = np.abs(20 * X).astype(np.uint8)
    lengths = np.full((300, 1), 12, "<i4").view(np.uint8)
    (tmp_path / "a.bvecs").write_bytes(np.concatenate([lengths, narrow], axis=1).tobytes())

    assert np.array_equal(open_rows(tmp_path / "a.bvecs").read(slice(0, 300)).numpy(), narrow)
    with pytest.raises(FileError, match=r"b\.fvecs .*its last row is of another length than its first"):
        open_rows(tmp_path / "b.fvecs")
    with pytest.raises(FileError, match=r"c\.fvecs .*15,597 bytes are not rows of one length"):
        open_rows(tmp_path / "c.fvecs")


def test_a_header_that_declares_more_than_there_is(tmp_path):
    KINDS["a.fbin"][0](tmp_path / "a.fbin", X)
    content = (tmp_path / "a.fbin").read_bytes()
    (tmp_path / "a.fbin").write_bytes((2**31).to_bytes(4, "little") + content[4:])

    with pytest.raises(
        FileError, match=r"a\.fbin .*its header says 2,147,483,648 rows of 12 numbers, .* it holds 14,408"
    ):
        open_rows(tmp_path / "a.fbin")


def test_packed_arrays_are_unpacked_whole(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", rows=X)

    assert np.array_equal(open_rows(tmp_path / "a.npz").read(slice(0, 300)).numpy(), X)


@pytest.mark.parametrize("chunks", [(300, 2), (7, 12), (1, 1)])
def test_chunks_that_cut_rows(tmp_path, chunks):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("rows", data=X, chunks=chunks, compression="gzip")

    opened = open_rows(tmp_path / "a.h5")

    assert np.array_equal(opened.read(slice(5, 290)).numpy(), X[5:290])
    assert np.array_equal(opened.gather(torch.tensor([299, 0, 150])).numpy(), X[[299, 0, 150]])

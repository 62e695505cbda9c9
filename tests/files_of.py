"""The same rows in files of every kind that is read."""

import csv
import json

import numpy as np
import torch
from safetensors.torch import save_file

EMBEDDING = "embedding"


def lists(rows, kind="list"):
    """A column of Arrow: lists, large lists, lists of a fixed length, or views of lists in another order."""
    import pyarrow

    flat, width = pyarrow.array(np.ascontiguousarray(rows).ravel()), rows.shape[1]
    offsets = np.arange(0, rows.size + 1, width)
    if kind == "fixed":
        return pyarrow.FixedSizeListArray.from_arrays(flat, width)
    if kind == "large":
        return pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets, pyarrow.int64()), flat)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), flat)


def table(rows, kind="list"):
    import pyarrow

    ids = [f"{number:03d}" for number in range(len(rows))]
    return pyarrow.table({"id": ids, EMBEDDING: lists(rows, kind), "weight": np.arange(len(rows)) % 5.0})


def npy(path, rows):
    np.save(path, rows)


def npy_of_other_order(path, rows):
    np.save(path, rows.astype(rows.dtype.newbyteorder(">")))


def npz(path, rows):
    np.savez(path, rows=rows)


def pt(path, rows):
    torch.save(torch.from_numpy(rows), path)


def safetensors(path, rows):
    save_file({"rows": torch.from_numpy(rows)}, path)


def parquet(path, rows, kind="list", **options):
    from pyarrow import parquet

    parquet.write_table(table(rows, kind), path, **options)


def parquet_in_groups(path, rows):
    parquet(path, rows, "fixed", row_group_size=37)


def wide_parquet(path, rows):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({f"x{place}": rows[:, place] for place in range(rows.shape[1])}), path)


def feather(path, rows):
    from pyarrow import feather

    feather.write_feather(table(rows), path, compression="lz4", chunksize=41)


def arrow_stream(path, rows):
    import pyarrow

    written = table(rows, "large")
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, written.schema) as stream:
        stream.write_table(written, max_chunksize=53)


def json_lines(path, rows):
    records = [{"id": f"{n:03d}", EMBEDDING: row.tolist(), "weight": n % 5.0} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def csv_of_lists(path, rows):
    with open(path, "w", newline="") as file:
        lines = ([f"{n:03d}", json.dumps(row.tolist()), n % 5.0] for n, row in enumerate(rows))
        csv.writer(file).writerows([["id", EMBEDDING, "weight"], *lines])


def wide_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[f"x{place}" for place in range(rows.shape[1])], *rows.tolist()])


def hdf5(path, rows):
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("group/rows", data=rows, chunks=(min(29, len(rows)), rows.shape[1]), compression="gzip")
        file.create_dataset("others", data=np.arange(3))


def zarr2(path, rows):
    _zarr(path, rows, 2)


def zarr3(path, rows):
    _zarr(path, rows, 3)


def _zarr(path, rows, version):
    import zarr

    stored = zarr.create_array(str(path), shape=rows.shape, chunks=(31, rows.shape[1]), dtype=rows.dtype,
                               zarr_format=version)  # fmt: skip
    stored[:] = rows


def lance(path, rows):
    import lance

    lance.write_dataset(table(rows, "fixed"), str(path))


def dataset(path, rows):
    """What Hugging Face's `datasets` saves, in several files and with an indices mapping."""
    import datasets

    order = np.random.default_rng(0).permutation(len(rows))
    back = np.argsort(order)
    mixed = datasets.Dataset(table(rows[order])).select(back)
    mixed.save_to_disk(str(path), num_shards=3)


def fvecs(path, rows):
    lengths = np.full((len(rows), 1), rows.shape[1], "<i4")
    path.write_bytes(np.concatenate([lengths, rows.astype("<f4").view("<i4")], axis=1).tobytes())


def fbin(path, rows):
    path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.astype("<f4").tobytes())


# name: what writes it, and the library that it needs
KINDS = {
    "a.npy": (npy, None),
    "swapped.npy": (npy_of_other_order, None),
    "a.npz": (npz, None),
    "a.pt": (pt, None),
    "a.safetensors": (safetensors, None),
    "a.parquet": (parquet, None),
    "groups.parquet": (parquet_in_groups, None),
    "wide.parquet": (wide_parquet, None),
    "a.feather": (feather, None),
    "stream.arrow": (arrow_stream, None),
    "a.jsonl": (json_lines, None),
    "a.csv": (csv_of_lists, None),
    "wide.csv": (wide_csv, None),
    "a.h5": (hdf5, "h5py"),
    "two.zarr": (zarr2, "zarr"),
    "three.zarr": (zarr3, "zarr"),
    "a.lance": (lance, "lance"),
    "saved": (dataset, "datasets"),
    "a.fvecs": (fvecs, None),
    "a.fbin": (fbin, None),
}
TABLES = ("a.parquet", "groups.parquet", "a.feather", "stream.arrow", "a.jsonl", "a.csv", "a.lance")

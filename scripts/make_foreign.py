"""Write the same rows by other tools, for tests/rows/test_foreign.py.

    pip install pandas polars duckdb datasets h5py "zarr>=3" pylance pyarrow pyspark    # pyspark needs Java
    python scripts/make_foreign.py tests/data/foreign

and in another environment, which need not know the newer tools:

    pip install "zarr<3" "numcodecs<0.16" "datasets<1.3" "huggingface_hub<0.20" "pyarrow<19" "xxhash<3"
    python scripts/make_foreign.py tests/data/foreign --only zarr2 datasets1

61 rows x 8 float32, of which row 30 is null where a format has nulls, else NaN. Writers whose library is missing are
passed over, and what they have written before stays. The README of the folder says which versions wrote what.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N, D, NULL = 60, 8, 30
Columns = dict[str, list[Any]]


def rows() -> np.ndarray:
    """The rows, (61, 8) float32; row 30 is NaN."""
    values = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    return np.insert(values, NULL, np.nan, axis=0)


def columns() -> Columns:
    """Ids, vectors as lists of Python's floats or None, and texts."""
    vectors = [None if np.isnan(row).any() else row.tolist() for row in rows()]
    texts = [f"text {number}, ä" for number in range(N + 1)]
    return {"id": list(range(N + 1)), "embedding": vectors, "text": texts}


def numpy(folder: Path) -> None:
    np.save(folder / "reference.npy", rows())
    np.save(folder / "big-endian.npy", rows().astype(">f4"))
    np.save(folder / "fortran.npy", np.asfortranarray(rows()))
    np.save(folder / "fortran-big-endian.npy", np.asfortranarray(rows().astype(">f4")))


def pandas(folder: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(columns())
    frame.to_csv(folder / "pandas.csv", index=False)
    frame.to_json(folder / "pandas.jsonl", orient="records", lines=True, double_precision=15)
    wide = pd.DataFrame(rows(), columns=[f"x{place}" for place in range(D)])
    wide.to_csv(folder / "pandas-wide.csv", index=False)
    frame["embedding"] = [None if vector is None else np.float32(vector) for vector in frame["embedding"]]
    frame.to_parquet(folder / "pandas.parquet")
    frame.set_index("text").to_feather(folder / "pandas.feather")


def polars(folder: Path) -> None:
    import polars as pl

    lists = pl.DataFrame(columns(), schema={"id": pl.Int64, "embedding": pl.List(pl.Float32), "text": pl.String})
    lists.write_parquet(folder / "polars-list.parquet", row_group_size=25)
    lists.write_ipc(folder / "polars-list.arrow", compression="zstd")
    lists.write_ndjson(folder / "polars.jsonl")
    arrays = lists.with_columns(pl.col("embedding").cast(pl.Array(pl.Float32, D)))
    arrays.write_parquet(folder / "polars-array.parquet")
    arrays.write_ipc(folder / "polars-array.arrow")


def duckdb(folder: Path) -> None:
    import duckdb
    import pyarrow

    given = pyarrow.table(columns())
    with duckdb.connect() as connection:
        connection.register("given", given)
        # its arrays that are null, DuckDB 2.0.1 writes as Arrow refuses to read them ("Length spanned by list offsets")
        full = f"coalesce(embedding, ['nan'::FLOAT for place in range({D})])::FLOAT[{D}]"
        query = f"SELECT id, {full} AS embedding, text FROM given ORDER BY id"
        connection.sql(query).write_parquet(str(folder / "duckdb-array.parquet"))
        query = "SELECT id, embedding::FLOAT[] AS embedding, text FROM given ORDER BY id"
        connection.sql(query).write_parquet(str(folder / "duckdb-list.parquet"))
        connection.sql(query).write_csv(str(folder / "duckdb.csv"))
        connection.execute(f"COPY ({query}) TO '{folder / 'duckdb.jsonl'}' (FORMAT json)")


def datasets(folder: Path) -> None:
    """A folder of two files."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()
    features = Features({"id": Value("int64"), "embedding": List(Value("float32")), "text": Value("string")})
    Dataset.from_dict(columns(), features=features).save_to_disk(str(folder / "datasets"), num_shards=2)


def datasets1(folder: Path) -> None:
    """A folder with an indices mapping, which newer versions apply before they save: rows are stored backwards."""
    import pyarrow as pa
    from datasets import Dataset

    back = {name: values[::-1] for name, values in columns().items()}
    table = pa.table(back | {"embedding": pa.array(back["embedding"], pa.list_(pa.float32()))})
    Dataset(table).select(list(range(N, -1, -1))).save_to_disk(str(folder / "datasets-mapped"))


def spark(folder: Path) -> None:
    """Folders as Spark writes them: part files with random names, checksums in hidden files, _SUCCESS."""
    from pyspark.sql import SparkSession
    from pyspark.sql.types import ArrayType, FloatType, LongType, StringType, StructField, StructType

    fields = [("id", LongType()), ("embedding", ArrayType(FloatType())), ("text", StringType())]
    schema = StructType([StructField(name, kind) for name, kind in fields])
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = session.createDataFrame(list(zip(*columns().values(), strict=True)), schema).coalesce(2)
        frame.write.parquet(str(folder / "spark"))
        session.conf.set("spark.sql.parquet.writeLegacyFormat", "true")
        frame.write.option("compression", "gzip").parquet(str(folder / "spark-legacy"))
    finally:
        session.stop()


def h5py(folder: Path) -> None:
    import h5py as h5

    with h5.File(folder / "h5py.h5", "w") as file:
        file.create_dataset("embeddings", data=rows())
    with h5.File(folder / "h5py-chunked.hdf5", "w", libver="latest") as file:
        file.create_dataset("train/rows", data=rows(), chunks=(16, D), compression="gzip", shuffle=True)
        file.create_dataset("train/labels", data=np.arange(N + 1))


def zarr(folder: Path) -> None:
    """Version 3 of the format, plain and in shards of chunks."""
    import zarr as z

    z.save(str(folder / "zarr3.zarr"), rows())
    sharded = z.create_array(
        str(folder / "zarr3-sharded.zarr"), shape=(N + 1, D), chunks=(10, D), shards=(30, D), dtype="float32"
    )
    sharded[:] = rows()


def zarr2(folder: Path) -> None:
    """Version 2 of the format, by version 2 of the library: an array, and one in a group."""
    import zarr as z

    z.save_array(str(folder / "zarr2.zarr"), rows(), chunks=(25, D))
    group = z.open_group(str(folder / "zarr2-group.zarr"), "w")
    group.array("rows", rows().astype(">f4"), chunks=(40, 3))
    group.array("labels", np.arange(N + 1))


def lance(folder: Path) -> None:
    """Two versions of a data set, the second one with rows appended."""
    import lance as written
    import pyarrow as pa

    kind = pa.list_(pa.float32(), D)
    given = columns()
    table = pa.table({**given, "embedding": pa.array(given["embedding"], kind)})
    written.write_dataset(table[:40], str(folder / "lance.lance"))
    written.write_dataset(table[40:], str(folder / "lance.lance"), mode="append")


def pyarrow(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather, parquet

    given = columns()
    table = pa.table({**given, "embedding": pa.array(given["embedding"], pa.list_(pa.float32()))})
    feather.write_feather(table, folder / "pyarrow-2.feather", compression="lz4", chunksize=20)
    packed = {"compression": "zstd", "use_byte_stream_split": ["embedding.list.element"], "use_dictionary": False}
    parquet.write_table(table, folder / "pyarrow-2.6.parquet", data_page_version="2.0", row_group_size=20, **packed)
    wide = pa.table({f"x{place}": column for place, column in enumerate(rows().T.copy())})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 1 is no longer recommended
        feather.write_feather(wide, folder / "pyarrow-1.feather", version=1)


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "numpy": (numpy, "numpy"),
    "pandas": (pandas, "pandas"),
    "polars": (polars, "polars"),
    "duckdb": (duckdb, "duckdb"),
    "datasets": (datasets, "datasets"),
    "spark": (spark, "pyspark"),
    "h5py": (h5py, "h5py"),
    "zarr": (zarr, "zarr"),
    "lance": (lance, "lance"),
    "pyarrow": (pyarrow, "pyarrow"),
}
OLDER: dict[str, tuple[Callable[[Path], None], str]] = {
    "zarr2": (zarr2, "zarr"),
    "datasets1": (datasets1, "datasets"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*WRITERS, *OLDER])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or WRITERS:
        write, library = (WRITERS | OLDER)[name]
        try:
            version = importlib.import_module(library).__version__
        except ImportError as error:
            print(f"{name}: passed over ({error})")
            continue
        written = _written_afresh(arguments.folder, write)
        _record(arguments.folder / "README.md", written, f"{library} {version}")
        print(f"{library} {version}: {', '.join(written)}")


def _written_afresh(folder: Path, write: Callable[[Path], None]) -> list[str]:
    """The names of what a writer writes, in place of what was there."""
    new = folder / ".new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    write(new.resolve())
    written = sorted(path.name for path in new.iterdir())
    for name in written:
        old = folder / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        (new / name).rename(old)
    new.rmdir()
    return written


def _record(page: Path, names: list[str], writer: str) -> None:
    """Lines of the table in the README, one a file or folder, sorted."""
    head = (
        "Files that other tools wrote, read by `tests/rows/test_foreign.py`. `scripts/make_foreign.py` writes\n"
        "them, and its docstring says how.\n\n| file | written by |\n|---|---|\n"
    )
    text = page.read_text(encoding="utf-8") if page.exists() else head
    lines = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)) | dict.fromkeys(names, writer)
    page.write_text(head + "".join(f"| `{name}` | {lines[name]} |\n" for name in sorted(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Arrow IPC: files (Feather), streams, and folders that Hugging Face's `datasets` saved, mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.errors import FileError, InputError
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Reader

_MAGIC, _FEATHER_1 = b"ARROW1", b"FEA1"
_STATE = "state.json"  # what `Dataset.save_to_disk` writes next to its files


class ArrowTable:
    """`rows.table.Table` over an Arrow file or stream."""

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name
        self.counted = not place.remote  # the sizes of batches are known where they are mapped, else by reading all
        with place.open() as file:
            head = file.read(len(_MAGIC))
        if head.startswith(_FEATHER_1):
            raise FileError(
                f"{place} is a Feather file of version 1, an older format, which is not read. Convert it once with "
                "pandas: pd.read_feather(path).to_parquet(new_path)."
            )
        self._is_file = head == _MAGIC
        with place.reading(), self._opened(0) as (self.schema, _):
            pass
        if self.counted:
            self.groups  # noqa: B018  while its header is checked

    @cached_property
    def groups(self) -> list[int]:
        with self._place.reading(), self._opened(0) as (_, batches):
            return [batch.num_rows for batch in batches]

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        with self._place.reading(), self._opened(group) as (_, rest):
            for batch in rest:
                yield batch.select(names)

    @contextmanager
    def _opened(self, first: int) -> Iterator[tuple[Any, Iterator[Any]]]:
        """The schema, and the record batches from number `first` on."""
        import pyarrow
        from pyarrow import ipc

        with (
            self._place.open() as file,
            file if self._place.remote else pyarrow.memory_map(self._place.handle(file)) as source,
        ):
            if self._is_file:
                table = ipc.open_file(source)
                yield table.schema, (table.get_batch(number) for number in range(first, table.num_record_batches))
            else:
                stream = ipc.open_stream(source)  # batches that are skipped are not decoded unless they are packed
                yield stream.schema, islice(stream, first, None)


def dataset_files(folder: Place) -> tuple[list[Place], list[Place]]:
    """The files of a data set that was saved, in order, and those of its indices mapping, if it has one."""
    with folder.child(_STATE).reading(), folder.child(_STATE).open() as file:
        state = json.loads(file.read().decode("utf-8"))
        data = [folder.child(entry["filename"]) for entry in state["_data_files"]]
        indices = [folder.child(entry["filename"]) for entry in state.get("_indices_data_files") or []]
    return data, indices


def read_indices(files: list[Place]) -> np.ndarray:
    """The row of the files that each row of a data set is, (N,) int64."""
    batches = [batch for file in files for batch in ArrowTable(file).batches(0, ["indices"])]
    return np.concatenate([np.array(batch.column(0), np.int64) for batch in batches])


class IndexedRows:
    """Rows of a reader in the order of an indices mapping."""

    mapped = False

    def __init__(self, reader: Reader, indices: np.ndarray) -> None:
        if len(indices) and not (indices.min() >= 0 and indices.max() < reader.n_rows):
            raise InputError(
                f"{reader.name}: its indices mapping names row {indices.max():,} of {reader.n_rows:,}. Save the data "
                "set again."
            )
        self.reader, self._indices = reader, indices
        self.name, self.n_rows, self.n_features, self.dtype = reader.name, len(indices), reader.n_features, reader.dtype
        self.n_bytes = reader.n_bytes * len(indices) // max(1, reader.n_rows)

    def read(self, start: int, stop: int) -> Tensor:
        return self.reader.gather(self._indices[start:stop])

    def gather(self, indices: np.ndarray) -> Tensor:
        return self.reader.gather(self._indices[indices])

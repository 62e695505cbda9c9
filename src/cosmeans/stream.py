"""Labels of rows that arrive one after another: JSON lines or Arrow in, the same with labels out.

A row's label doesn't depend on the rows beside it, so however the stream is cut, the labels are those of `predict`.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from cosmeans.assigned import assign_rows
from cosmeans.errors import CosmeansWarning, InputError, OptionError
from cosmeans.estimator import KMeans

_CHUNK = 1 << 20  # most bytes read at once


def predict_json_lines(model: KMeans, source: BinaryIO, sink: BinaryIO, field: str = "embedding") -> int:
    """Answer every line with {"label": ..., "similarity": ...}; returns how many rows were answered.

    source  one row a line: [0.1, ...] or {"embedding": [0.1, ...], ...}, whose other fields come back in the answer
    field   the name of the embedding in such objects; another field may not be called label or similarity

    Lines that have arrived are answered at once: a program at the other end may wait for the answer to each line.
    Rows without direction get label -1 and similarity 0. Raises InputError that names the line; the lines before it
    have been answered.
    """
    model = _quiet(model)
    read = answered = 0
    for lines in _arrived(source):
        records, wrong = _records(model, lines, read, field)
        if records:
            labels, cosines = _labels(model, np.stack([record.row for record in records]))
            for record, label, cosine in zip(records, labels, cosines, strict=True):
                sink.write(json.dumps({**record.rest, "label": label, "similarity": cosine}).encode() + b"\n")
            sink.flush()
        if wrong is not None:
            raise wrong
        read += len(lines)
        answered += len(records)
    return answered


def predict_arrow(model: KMeans, source: BinaryIO, sink: BinaryIO, field: str = "embedding") -> int:
    """The same for Arrow IPC streams: the column `field` (lists of D numbers) is answered by label and similarity.

    All other columns come back. Needs pyarrow. Raises InputError for what is no such stream or column.
    """
    import pyarrow
    from pyarrow import ipc

    model = _quiet(model)
    done = 0
    try:
        reader = ipc.open_stream(source)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"The input is no Arrow IPC stream ({error}). Write one, or send JSON lines.") from error
    schema = _answer_schema(reader.schema, field)
    with ipc.new_stream(sink, schema) as writer:
        for batch in reader:
            rows = _column(batch.column(field), done, field)
            _check_finite(model, rows, "Row", done)
            labels, cosines = _labels(model, rows) if len(rows) else ([], [])
            others = [batch.column(name) for name in schema.names[:-2]]
            answer = [*others, pyarrow.array(labels, pyarrow.int64()), pyarrow.array(cosines, pyarrow.float64())]
            writer.write_batch(pyarrow.record_batch(answer, schema=schema))
            sink.flush()
            done += len(rows)
    return done


def _quiet(model: KMeans) -> KMeans:
    """The model without a word about zero rows: the answer says it."""
    quiet = copy.copy(model)
    return quiet.set_params(verbose=0, zero_rows="skip")


def _labels(model: KMeans, rows: np.ndarray) -> tuple[list[int], list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CosmeansWarning)
        labels, scores = assign_rows(model, rows).host()
    return labels.tolist(), scores.tolist()


def _arrived(source: BinaryIO) -> Iterator[list[bytes]]:
    """Complete lines, as many as have arrived."""
    read = getattr(source, "read1", source.read)
    rest = b""
    while chunk := read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


@dataclass(frozen=True, slots=True)
class _Record:
    """row (D,) float64; rest: the other fields of its line."""

    row: np.ndarray
    rest: dict[str, Any]


def _records(model: KMeans, lines: list[bytes], read: int, field: str) -> tuple[list[_Record], InputError | None]:
    """The rows up to the first wrong line, and what is wrong with it."""
    records = []
    for number, line in enumerate(lines, read + 1):
        if line.strip():
            try:
                records.append(_record(model, line, number, field))
            except InputError as error:
                return records, error
    return records, None


def _record(model: KMeans, line: bytes, number: int, field: str) -> _Record:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"Line {number} is not JSON ({error}). Needed: one list or object a line.") from error
    rest = value if isinstance(value, dict) else {}
    if clash := {"label", "similarity"} & set(rest):
        raise InputError(f"Line {number} has a field {min(clash)!r} already, where the answer would go. Rename it.")
    embedding = value if isinstance(value, list) else rest.pop(field, None)
    if embedding is None:
        raise InputError(f'Line {number} has no embedding. Needed: a list, or an object with the field "{field}".')
    needed = f"{model.n_features_in_} numbers, as many as the model has features"
    try:
        row = np.array(embedding)
    except ValueError as error:  # lists of different lengths
        raise InputError(f"Line {number}: the embedding is no list of numbers. Send {needed}.") from error
    if row.dtype.kind not in "fiu":
        raise InputError(f"Line {number}: the embedding is no list of numbers. Send {needed}.")
    if row.shape != (model.n_features_in_,):
        raise InputError(f"Line {number}: the embedding has shape {row.shape}. Send {needed}.")
    _check_finite(model, row[None], "Line", number)
    return _Record(row.astype(np.float64), rest)


def _check_finite(model: KMeans, rows: np.ndarray, what: str, first: int) -> None:
    with np.errstate(over="ignore"):  # beyond float32 is infinity, as in `predict`
        finite = np.isfinite(rows.astype(np.float32)).all(axis=1)
    if model.nonfinite == "error" and not finite.all():
        number = first + int(finite.argmin())
        raise InputError(f"{what} {number} contains NaN or infinity. Remove it, or let the model skip such rows.")


def _answer_schema(schema: Any, field: str) -> Any:
    import pyarrow

    if field not in schema.names:
        raise InputError(f'The stream has no column "{field}"; it has {", ".join(schema.names)}. Name the right one.')
    if clash := {"label", "similarity"} & set(schema.names):
        raise OptionError(f"The stream has a column {min(clash)!r} already, where the answer would go. Rename it.")
    others = [schema.field(name) for name in schema.names if name != field]
    return pyarrow.schema(
        [*others, pyarrow.field("label", pyarrow.int64()), pyarrow.field("similarity", pyarrow.float64())]
    )


def _column(column: Any, done: int, field: str) -> np.ndarray:
    """A column of lists as (n, D)."""
    from pyarrow import compute, types

    if not (types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type)):
        raise InputError(f'Column "{field}" is of type {column.type}; needed are lists of numbers.')
    if column.null_count:
        raise InputError(f'Column "{field}" is null in some of the rows from {done} on. Leave such rows out.')
    if len(compute.unique(compute.list_value_length(column))) > 1:
        raise InputError(f'Column "{field}" holds lists of different lengths in the rows from {done} on.')
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1 if len(column) else 0)

"""Labels of rows that arrive one after another: JSON lines or Arrow in, the same with labels out.

A row's label doesn't depend on other rows, so however the stream is cut, the labels are those of `predict`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from cosmeans.analysis.assignments import labels_and_scores
from cosmeans.calls import public
from cosmeans.console import without
from cosmeans.errors import CosmeansWarning, InputError, InputTypeError, OptionError
from cosmeans.estimator import KMeans
from cosmeans.label_files.columns import CLUSTER, SIMILARITY, as_similarity

LONGEST_LINE = 1 << 26  # bytes: a million numbers need a third of it, and without an end memory would be the limit
_CHUNK = 1 << 20  # most bytes read at once
_MARK = b"\xef\xbb\xbf"  # some editors write it before UTF-8


@public
def predict_json_lines(model: KMeans[Any], source: BinaryIO, sink: BinaryIO, field: str = "embedding") -> int:
    """Answer every line with {"cluster": ..., "similarity": ...}; returns how many rows were answered.

    Lines that have arrived are answered at once: a program at the other end may wait for the answer to each line.
    Rows without direction get cluster -1 and similarity 0. Raises InputError that names the line, also where the
    source breaks off; the lines before it have been answered.

    Parameters
    ----------
    source
        One row per line in UTF-8: [0.1, ...] or {"embedding": [0.1, ...], ...}, whose other fields are kept in the
        answer; a line has at most 64 MiB.
    field
        The name of the embedding in such objects; another field may not be called cluster or similarity.
    """
    model = _quiet(model)
    read = answered = 0
    for lines in _arrived(source):
        records, wrong = _records(model, lines, read, field)
        if records:
            labels, cosines = _labels(model, np.stack([record.row for record in records]))
            answers = zip(records, labels, cosines, strict=True)
            sink.write(b"".join(record.answer(label, cosine) for record, label, cosine in answers))
            sink.flush()
        if wrong is not None:
            raise wrong
        read += len(lines)
        answered += len(records)
    return answered


@public
def predict_arrow(model: KMeans[Any], source: BinaryIO, sink: BinaryIO, field: str = "embedding") -> int:
    """The same for Arrow IPC streams: the column `field` (lists of D numbers) is answered by cluster and similarity.

    All other columns are kept. Needs pyarrow. Raises InputError for anything but such a stream and column, and where
    the stream breaks off; the batches before it have been answered.
    """
    import pyarrow
    from pyarrow import ipc

    model = _quiet(model)
    done = 0
    try:
        reader = ipc.open_stream(source)
        names = reader.schema.names  # may not be UTF-8
    except Exception as error:  # whatever Arrow, or the source, raises for bytes that it did not expect
        raise InputError(
            f"The input is not an Arrow IPC stream ({_reason(error)}). Write one, or send JSON lines."
        ) from error
    schema = _answer_schema(reader.schema, names, field)
    at = names.index(field)
    with ipc.new_stream(sink, schema) as writer:
        while (batch := _next_batch(reader, done)) is not None:
            rows = _column(batch.column(at), done, field)
            _check_finite(model, rows, "Row", done)
            labels, cosines = _labels(model, rows) if len(rows) else ([], np.empty(0, np.float32))
            others = [batch.column(index) for index in range(batch.num_columns) if index != at]
            answer = [*others, pyarrow.array(labels, pyarrow.int64()), pyarrow.array(cosines, pyarrow.float32())]
            writer.write_batch(pyarrow.record_batch(answer, schema=schema))
            sink.flush()
            done += len(rows)
    return done


def _quiet(model: KMeans[Any]) -> KMeans[Any]:
    """The model without a word about zero rows: the answer says it."""
    quiet = copy.copy(model)
    quiet.set_params(verbose=0, zero_rows="skip")
    return quiet


def _labels(model: KMeans[Any], rows: np.ndarray) -> tuple[list[int], np.ndarray]:
    with without(CosmeansWarning):
        labels, scores = labels_and_scores(model, rows)
    return labels.tolist(), as_similarity(scores)


def _reason(error: Exception) -> str:
    """The first line of what a reader says, without the advice and the traces that come after it."""
    return (str(error).splitlines() or [type(error).__name__])[0]


# ------------------------------------------------------------------------------------------------------- JSON lines


def _arrived(source: BinaryIO) -> Iterator[list[bytes]]:
    """Complete lines, as many as have arrived. Takes time linear in the bytes, however they are cut into lines."""
    read = getattr(source, "read1", source.read)
    parts: list[bytes] = []  # of the line whose end is still to come
    size = number = 0
    while chunk := _read(read, number):
        end, *lines = chunk.split(b"\n")
        parts.append(end)
        size += len(end)
        if size > LONGEST_LINE:
            raise InputError(
                f"Line {number + 1} is longer than {LONGEST_LINE >> 20} MiB. Send one row per line, with a newline "
                "after each."
            )
        if lines:
            rest = lines.pop()
            yield [b"".join(parts), *lines]
            number += 1 + len(lines)
            parts, size = [rest], len(rest)
    if size:
        yield [b"".join(parts)]


def _read(read: Callable[[int], Any], number: int) -> bytes:
    try:
        chunk = read(_CHUNK)
    except Exception as error:  # the source is the caller's, and may raise anything
        raise InputError(
            f"The input broke off after line {number} ({_reason(error)}). The lines before are answered; send the rest "
            "again."
        ) from error
    if not isinstance(chunk, bytes | bytearray):
        raise InputTypeError(f"source must give bytes, got {type(chunk).__name__}. Open it in binary mode.")
    return bytes(chunk)


@dataclass(frozen=True, slots=True)
class _Record:
    """row (D,) float64; rest: the other fields of its line, as JSON without the closing brace."""

    row: np.ndarray
    rest: str

    def answer(self, label: int, similarity: np.float32) -> bytes:
        comma = ", " if len(self.rest) > 1 else ""
        return f'{self.rest}{comma}"{CLUSTER}": {label}, "{SIMILARITY}": {similarity!s}}}\n'.encode()


def _records(model: KMeans[Any], lines: list[bytes], read: int, field: str) -> tuple[list[_Record], InputError | None]:
    """The rows up to the first wrong line, and what is wrong with it."""
    records = []
    for number, line in enumerate(lines, read + 1):
        if number == 1:
            line = line.removeprefix(_MARK)
        if line.strip():
            try:
                records.append(_record(model, line, number, field))
            except InputError as error:
                return records, error
    return records, None


def _record(model: KMeans[Any], line: bytes, number: int, field: str) -> _Record:
    value = _parsed(line, number)
    rest = value if isinstance(value, dict) else {}
    if clash := {CLUSTER, SIMILARITY} & set(rest):
        raise InputError(
            f"Line {number} already has a field {min(clash)!r}, which the answer would overwrite. Rename it."
        )
    embedding = value if isinstance(value, list) else rest.pop(field, None)
    if embedding is None:
        raise InputError(f'Line {number} has no embedding. Send a list, or an object with the field "{field}".')
    needed = f"{model.n_features_in_} numbers, as many as the model has features"
    if not isinstance(embedding, list) or not {int, float}.issuperset(map(type, embedding)):
        raise InputError(f"Line {number}: the embedding is not a list of numbers. Send {needed}.")
    if len(embedding) != model.n_features_in_:
        raise InputError(f"Line {number}: the embedding has shape ({len(embedding)},). Send {needed}.")
    try:
        row = np.array(embedding, dtype=np.float64)
    except OverflowError:  # an integer beyond float64
        row = np.full(len(embedding), np.inf)
    _check_finite(model, row[None], "Line", number)
    with _named(number):  # what could be read may be nested too deeply to be written
        return _Record(row, json.dumps(rest)[:-1])


def _parsed(line: bytes, number: int) -> Any:
    if b"\0" in line:
        raise InputError(f"Line {number} contains zero bytes, as UTF-16 does. Send JSON lines in UTF-8.")
    with _named(number):
        return json.loads(line.decode("utf-8"))


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Raise InputError that names the line, whatever is wrong with its JSON."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"Line {number} is not UTF-8 (byte {error.start + 1}). Send JSON lines in UTF-8.") from error
    except RecursionError as error:
        raise InputError(f"Line {number} is nested too deeply. Each line must be a list or an object.") from error
    except Exception as error:  # RecursionError has had its turn; what else `json` raises differs by version
        where = f"{error.msg}: character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else _reason(error)
        raise InputError(f"Line {number} is not JSON ({where}). Each line must be a list or an object.") from error


def _check_finite(model: KMeans[Any], rows: np.ndarray, what: str, first: int) -> None:
    with np.errstate(over="ignore"):  # beyond float32 is infinity, as in `predict`
        finite = np.isfinite(rows.astype(np.float32)).all(axis=1)
    if model.nonfinite == "error" and not finite.all():
        number = first + int(finite.argmin())
        raise InputError(f"{what} {number} contains NaN or infinity. Remove it, or let the model skip such rows.")


# ------------------------------------------------------------------------------------------------------------ Arrow


def _next_batch(reader: Any, done: int) -> Any:
    """The next batch, whose offsets point into its own memory; None at the end of the stream."""
    try:
        batch = reader.read_next_batch()
        batch.validate(full=True)
    except StopIteration:
        return None
    except Exception as error:  # whatever Arrow, or the source, raises for bytes that it did not expect
        raise InputError(
            f"The Arrow stream broke off or is damaged after {done} rows ({_reason(error)}). These are answered; send "
            "the rest again."
        ) from error
    return batch


def _answer_schema(schema: Any, names: list[str], field: str) -> Any:
    import pyarrow

    if field not in names:
        raise InputError(f'The stream has no column "{field}"; it has {", ".join(names)}. Choose one of these.')
    if names.count(field) > 1:
        raise InputError(f'The stream has {names.count(field)} columns "{field}". Rename all but one.')
    if clash := {CLUSTER, SIMILARITY} & set(names):
        raise OptionError(
            f"The stream already has a column {min(clash)!r}, which the answer would overwrite. Rename it."
        )
    others = [column for column in schema if column.name != field]
    return pyarrow.schema(
        [*others, pyarrow.field(CLUSTER, pyarrow.int64()), pyarrow.field(SIMILARITY, pyarrow.float32())]
    )


def _column(column: Any, done: int, field: str) -> np.ndarray:
    """A column of lists as (n, D)."""
    from pyarrow import compute, types

    column = getattr(column, "storage", column)  # what an extension type, such as that of fixed shapes, is made of
    kind = column.type
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise InputError(f'Column "{field}" is of type {kind}; it must hold lists of numbers.')
    if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise InputError(f'Column "{field}" holds lists of {kind.value_type}; it must hold lists of numbers.')
    if column.null_count:
        raise InputError(f'Column "{field}" is null in some of the rows from {done} on. Leave such rows out.')
    if len(compute.unique(compute.list_value_length(column))) > 1:
        raise InputError(
            f'Column "{field}" holds lists of different lengths in the rows from {done} on. Remove such rows.'
        )
    entries = column.flatten()
    if entries.null_count:
        raise InputError(f'Column "{field}" holds nulls in lists of the rows from {done} on. Remove such rows.')
    values: np.ndarray = entries.to_numpy(zero_copy_only=False)
    values = values.astype(np.float64) if values.dtype.kind in "iu" else values
    return values.reshape(len(column), -1 if len(column) else 0)

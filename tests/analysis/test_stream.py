"""Labels of rows that arrive one after another are the labels of `predict`, however the stream is cut."""

import io
import json
import os
import threading
import zlib
from contextlib import suppress

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

import generators
from cosmeans import KMeans
from cosmeans.analysis.stream import predict_arrow, predict_json_lines
from cosmeans.errors import InputError, InputTypeError, OptionError


@pytest.fixture(scope="module")
def case():
    rows = generators.text_rows(120)
    rows[7] = 0.0
    return rows, KMeans(6, random_state=0, verbose=0, zero_rows="skip").fit(rows)


class Slowly(io.BytesIO):
    """Bytes that arrive a few at a time."""

    def read1(self, size=-1):
        return super().read1(min(size, 1000))


def answers(model, data, source=io.BytesIO):
    sink = io.BytesIO()
    count = predict_json_lines(model, source(data), sink)
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert count == len(lines)
    return lines


@pytest.mark.parametrize("source", [io.BytesIO, Slowly])
def test_json_lines_are_answered_as_predict_answers(case, source):
    rows, model = case
    lines = [
        json.dumps(row.tolist() if i % 2 else {"id": i, "embedding": row.tolist(), "text": "é"})
        for i, row in enumerate(rows)
    ]

    found = answers(model, ("\n".join(lines[:60]) + "\n\n" + "\n".join(lines[60:])).encode(), source)

    assert [answer["cluster"] for answer in found] == model.predict(rows).tolist()
    assert [np.float32(answer["similarity"]) for answer in found] == model.similarity_.astype(np.float32).tolist()
    assert found[7] == {"cluster": -1, "similarity": 0.0}
    assert list(found[0]) == ["id", "text", "cluster", "similarity"]


def test_a_field_is_not_overwritten_by_the_answer(case):
    rows, model = case
    line = json.dumps({"embedding": rows[0].tolist(), "cluster": "mine"}).encode()

    with pytest.raises(InputError, match="Line 1 already has a field 'cluster', which"):
        answers(model, line)


def test_a_line_is_answered_before_the_next_one_comes(case):
    rows, model = case
    to_it, from_it = os.pipe(), os.pipe()
    ends = [os.fdopen(to_it[0], "rb"), os.fdopen(from_it[1], "wb")]
    worker = threading.Thread(target=predict_json_lines, args=(model, *ends))
    worker.start()
    with os.fdopen(to_it[1], "wb") as asking, os.fdopen(from_it[0], "rb") as hearing:
        for i in (3, 5):
            asking.write(json.dumps(rows[i].tolist()).encode() + b"\n")
            asking.flush()
            assert json.loads(hearing.readline())["cluster"] == model.labels_[i]
        asking.close()
        worker.join(10)
        assert not worker.is_alive()
        for end in ends:
            end.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2", "Line 3 is not JSON"),
        (b'{"vector": [1]}', 'Line 3 has no embedding. Send a list, or an object with the field "embedding"'),
        (b"[1, 2]", r"Line 3: the embedding has shape \(2,\). Send 384 numbers"),
        (b'["a"]', "Line 3: the embedding is not a list of numbers"),
        (b'["1"' + b", 0" * 383 + b"]", "Line 3: the embedding is not a list of numbers"),
        (b"[true" + b", false" * 383 + b"]", "Line 3: the embedding is not a list of numbers"),
        (b"[null" + b", 0" * 383 + b"]", "Line 3: the embedding is not a list of numbers"),
        (b"[[1], [1, 2]]", "Line 3: the embedding is not a list of numbers"),
        (b"[NaN" + b", 0" * 383 + b"]", "Line 3 contains NaN or infinity"),
        (b"[1e39" + b", 0" * 383 + b"]", "Line 3 contains NaN or infinity"),
        (b"[1" + b"0" * 400 + b", 0" * 383 + b"]", "Line 3 contains NaN or infinity"),
        (b"[1.0, true" + b", 0" * 382 + b"]", "Line 3: the embedding is not a list of numbers"),
        (b"[" * 2000, "Line 3 is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "Line 3 is nested too deeply"),
        (b'{"embedding": [0], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "Line 3 is nested too deeply"),
        (b"[1" + b"0" * 5000 + b"]", "Line 3 is not JSON"),
        (b"[1, 2\0]", "Line 3 contains zero bytes, as UTF-16 does. Send JSON lines in UTF-8"),
        ("[1, 2]".encode("utf-16"), r"Line 3 contains zero bytes"),
        (b'{"x": "\xff\xfe"}', r"Line 3 is not UTF-8 \(byte 8\)"),
        ('{"x": "\xe9"}'.encode("latin-1"), "Line 3 is not UTF-8"),
        (b'"text"', "Line 3 has no embedding"),
        (b"7", "Line 3 has no embedding"),
        (b'{"embedding": {"a": 1}}', "Line 3: the embedding is not a list of numbers"),
        (b"1}{", "Line 3 is not JSON"),
        (b"\xef\xbb\xbf[1]", "Line 3 is not JSON"),
    ],
)
def test_a_wrong_line_is_named_and_the_lines_before_it_are_answered(case, line, message):
    rows, model = case
    good = json.dumps(rows[0].tolist()).encode()
    sink = io.BytesIO()

    with pytest.raises(InputError, match=message):
        predict_json_lines(model, io.BytesIO(b"\n".join([good, good, line, good])), sink)

    assert len(sink.getvalue().splitlines()) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_only_utf_8_is_read_from_the_first_line_on(case, encoding):
    rows, model = case
    data = "\n".join(json.dumps({"embedding": rows[0].tolist(), "x": "é"}, ensure_ascii=False) for _ in range(3))

    with pytest.raises(InputError, match="Line 1 "):
        answers(model, data.encode(encoding))


def test_a_mark_of_utf_8_is_no_part_of_the_first_line(case):
    rows, model = case
    line = json.dumps(rows[0].tolist())

    assert [a["cluster"] for a in answers(model, b"\xef\xbb\xbf" + line.encode())] == [model.labels_[0]]


def test_whole_numbers_of_any_size_are_taken_by_their_value(case):
    rows, model = case
    whole = [[int(1000 * entry) * 10**17 for entry in row] for row in rows[:5].tolist()]

    found = answers(model, "\n".join(map(json.dumps, whole)).encode())

    assert [answer["cluster"] for answer in found] == model.predict(np.array(whole, dtype=float)).tolist()


class BreaksOff(io.BytesIO):
    """Bytes that end in an error of any class, as sockets, pipes and decompressors have them."""

    error = OSError(5, "Input/output error")

    def read(self, size=-1):
        chunk = super().read(size)
        if size and not chunk:
            raise self.error
        return chunk

    read1 = read


ERRORS = [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe"), EOFError("ended"), ValueError("closed"),
          zlib.error("invalid block"), RuntimeError(), MemoryError(), ConnectionResetError(104, "reset")]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_source_that_breaks_off_is_named_and_what_came_before_is_answered(case, error, monkeypatch):
    rows, model = case
    monkeypatch.setattr(BreaksOff, "error", error)
    line, sink = json.dumps(rows[0].tolist()).encode(), io.BytesIO()

    with pytest.raises(InputError, match=r"broke off after line 2 \(.+\)"):
        predict_json_lines(model, BreaksOff(line + b"\n" + line + b"\n" + line[:99]), sink)
    assert len(sink.getvalue().splitlines()) == 2

    source, sink = arrow({"embedding": lists(rows, "list")}).getvalue(), io.BytesIO()
    with pytest.raises(InputError, match=r"broke off or is damaged after \d+ rows \(.+\)"):
        predict_arrow(model, BreaksOff(source[: len(source) // 2]), sink)
    answered = ipc.open_stream(sink.getvalue()).read_all()
    assert answered["cluster"].to_pylist() == model.labels_[: len(answered)].tolist()


def test_an_arrow_stream_cut_anywhere_answers_whole_batches_and_is_told(case):
    rows, model = case
    whole = arrow({"embedding": lists(rows, "fixed"), "text": ["é"] * 120}, batch_size=40).getvalue()

    for end in range(1, len(whole) - 8, 4001):  # the last 8 bytes only say that it ends
        sink = io.BytesIO()
        with pytest.raises(InputError, match=r"broke off|not an Arrow IPC stream"):
            predict_arrow(model, io.BytesIO(whole[:end]), sink)
        answered = ipc.open_stream(sink.getvalue()).read_all() if sink.getvalue() else []
        assert len(answered) in (0, 40, 80)


def test_a_damaged_arrow_stream_is_answered_or_refused(case):
    rows, model = case
    whole = arrow({"embedding": lists(rows[:40], "list"), "text": ["é"] * 40}).getvalue()
    rng = np.random.default_rng(0)

    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, 1200, 3):  # the head, where the schema, the sizes and the offsets are
            damaged[position] = rng.integers(0, 256)
        with suppress(InputError, OptionError):
            predict_arrow(model, io.BytesIO(bytes(damaged)), io.BytesIO())


class Trickle:
    """So many bytes of the same, without a newline; counts what is read."""

    def __init__(self, total):
        self.left, self.read_bytes = total, 0

    def read1(self, size):
        size = min(size, 1 << 16, self.left)
        self.left -= size
        self.read_bytes += size
        return b"1" * size


def test_a_line_without_end_is_refused_at_a_known_length(case):
    source = Trickle(1 << 40)
    source.read = source.read1

    with pytest.raises(InputError, match=r"Line 1 is longer than 64 MiB. Send one row per line"):
        predict_json_lines(case[1], source, io.BytesIO())
    assert source.read_bytes <= (1 << 26) + (1 << 16)


def test_a_long_line_takes_linear_time(case, monkeypatch):
    """Counted, not timed: every byte of a line is joined once, whatever the number of pieces it came in."""
    rows, model = case
    line = json.dumps({"embedding": rows[0].tolist(), "text": "x" * (1 << 22)}).encode()
    joined = []

    class Counting(bytes):
        def __radd__(self, other):
            joined.append(len(other) + len(self))
            return other + bytes(self)

    class Pieces(io.BytesIO):
        def read1(self, size=-1):
            return Counting(super().read1(4096))

    assert answers(model, line, Pieces)[0]["cluster"] == model.labels_[0]
    assert sum(joined) <= 2 * len(line)


def test_a_source_of_text_is_told(case):
    with pytest.raises(InputTypeError, match=r"source must give bytes, got str. Open it in binary mode"):
        predict_json_lines(case[1], io.StringIO("[1]"), io.BytesIO())


def arrow(columns, batch_size=50):
    table = pyarrow.table(columns)
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_size)
    return io.BytesIO(sink.getvalue())


def lists(rows, kind):
    match kind:
        case "fixed":
            return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), rows.shape[1])
        case "float16":
            return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.astype(np.float16).ravel()), 384)
        case "list":
            return pyarrow.array(rows.tolist())


@pytest.mark.parametrize("kind", ["fixed", "float16", "list"])
def test_arrow_streams_come_back_with_cluster_and_similarity(case, kind):
    rows, model = case
    sink = io.BytesIO()

    count = predict_arrow(model, arrow({"id": np.arange(120), "embedding": lists(rows, kind)}), sink)

    table = ipc.open_stream(sink.getvalue()).read_all()
    assert count == 120
    assert table.column_names == ["id", "cluster", "similarity"]
    assert table["cluster"].to_pylist() == model.predict(rows).tolist()
    assert table["similarity"].to_numpy().tolist() == model.similarity_.astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"x": [1.0]}, InputError, 'no column "embedding"; it has x'),
        ({"embedding": [1.0]}, InputError, "is of type double; it must hold lists"),
        ({"embedding": [[1.0], [1.0, 2.0, 3.0]]}, InputError, "lists of different lengths"),
        ({"embedding": [[1.0], None]}, InputError, "is null in some"),
        ({"embedding": [[1.0]], "cluster": [1]}, OptionError, "already has a column 'cluster'"),
        ({"embedding": [[1.0, 2.0]]}, InputError, "X has 2 features, but KMeans is expecting 384"),
        ({"embedding": [[0.0] * 384, [float("nan")] * 384]}, InputError, "Row 1 contains NaN or infinity"),
        ({"embedding": [[[1.0]], [[2.0]]]}, InputError, r"holds lists of list<.*>; it must hold lists of numbers"),
        ({"embedding": [["a"] * 384]}, InputError, "holds lists of string; it must hold lists of numbers"),
        ({"embedding": [[True] * 384]}, InputError, "holds lists of bool; it must hold lists of numbers"),
        ({"embedding": [[1.0, None]]}, InputError, "holds nulls in lists of the rows from 0 on"),
    ],
)
def test_wrong_arrow_streams_are_told(case, columns, error, message):
    with pytest.raises(error, match=message):
        predict_arrow(case[1], arrow(columns), io.BytesIO())


def test_what_is_no_arrow_stream_is_told(case):
    with pytest.raises(InputError, match="The input is not an Arrow IPC stream"):
        predict_arrow(case[1], io.BytesIO(b"[1, 2, 3]\n" * 100), io.BytesIO())


def test_columns_of_one_name_come_back_and_two_embeddings_are_told(case):
    rows, model = case
    columns = [lists(rows, "fixed"), pyarrow.array(range(120)), pyarrow.array(["a"] * 120)]
    sink = io.BytesIO()

    predict_arrow(model, _stream(columns, ["embedding", "x", "x"]), sink)

    found = ipc.open_stream(sink.getvalue()).read_all()
    assert found.column_names == ["x", "x", "cluster", "similarity"]
    assert found.column(2).to_pylist() == model.labels_.tolist()
    with pytest.raises(InputError, match='has 2 columns "embedding"'):
        predict_arrow(model, _stream(columns[:1] * 2, ["embedding"] * 2), io.BytesIO())


def _stream(columns, names):
    table, sink = pyarrow.table(columns, names=names), io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return io.BytesIO(sink.getvalue())

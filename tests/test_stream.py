"""Labels of rows that arrive one after another are the labels of `predict`, however the stream is cut."""

import io
import json
import os
import threading

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

import generators
from cosmeans import KMeans
from cosmeans.errors import InputError, OptionError
from cosmeans.stream import predict_arrow, predict_json_lines


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

    assert [answer["label"] for answer in found] == model.predict(rows).tolist()
    assert [answer["similarity"] for answer in found] == model.similarity_.tolist()
    assert found[7] == {"label": -1, "similarity": 0.0}
    assert list(found[0]) == ["id", "text", "label", "similarity"]


def test_a_field_is_not_overwritten_by_the_answer(case):
    rows, model = case
    line = json.dumps({"embedding": rows[0].tolist(), "label": "mine"}).encode()

    with pytest.raises(InputError, match="Line 1 has a field 'label' already, where"):
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
            assert json.loads(hearing.readline())["label"] == model.labels_[i]
        asking.close()
        worker.join(10)
        assert not worker.is_alive()
        for end in ends:
            end.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2", "Line 3 is not JSON"),
        (b'{"vector": [1]}', 'Line 3 has no embedding. Needed: a list, or an object with the field "embedding"'),
        (b"[1, 2]", r"Line 3: the embedding has shape \(2,\). Send 384 numbers"),
        (b'["a"]', "Line 3: the embedding is no list of numbers"),
        (b'["1"' + b", 0" * 383 + b"]", "Line 3: the embedding is no list of numbers"),
        (b"[true" + b", false" * 383 + b"]", "Line 3: the embedding is no list of numbers"),
        (b"[null" + b", 0" * 383 + b"]", "Line 3: the embedding is no list of numbers"),
        (b"[[1], [1, 2]]", "Line 3: the embedding is no list of numbers"),
        (b"[NaN" + b", 0" * 383 + b"]", "Line 3 contains NaN or infinity"),
        (b"[1e39" + b", 0" * 383 + b"]", "Line 3 contains NaN or infinity"),
    ],
)
def test_a_wrong_line_is_named_and_the_lines_before_it_are_answered(case, line, message):
    rows, model = case
    good = json.dumps(rows[0].tolist()).encode()
    sink = io.BytesIO()

    with pytest.raises(InputError, match=message):
        predict_json_lines(model, io.BytesIO(b"\n".join([good, good, line, good])), sink)

    assert len(sink.getvalue().splitlines()) == 2


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
def test_arrow_streams_come_back_with_label_and_similarity(case, kind):
    rows, model = case
    sink = io.BytesIO()

    count = predict_arrow(model, arrow({"id": np.arange(120), "embedding": lists(rows, kind)}), sink)

    table = ipc.open_stream(sink.getvalue()).read_all()
    assert count == 120
    assert table.column_names == ["id", "label", "similarity"]
    assert table["label"].to_pylist() == model.predict(rows).tolist()
    assert table["similarity"].to_pylist() == model.similarity_.tolist()


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"x": [1.0]}, InputError, 'no column "embedding"; it has x'),
        ({"embedding": [1.0]}, InputError, "is of type double; needed are lists"),
        ({"embedding": [[1.0], [1.0, 2.0, 3.0]]}, InputError, "lists of different lengths"),
        ({"embedding": [[1.0], None]}, InputError, "is null in some"),
        ({"embedding": [[1.0]], "label": [1]}, OptionError, "has a column 'label' already"),
        ({"embedding": [[1.0, 2.0]]}, InputError, "X has 2 features, but KMeans is expecting 384"),
        ({"embedding": [[0.0] * 384, [float("nan")] * 384]}, InputError, "Row 1 contains NaN or infinity"),
    ],
)
def test_wrong_arrow_streams_are_told(case, columns, error, message):
    with pytest.raises(error, match=message):
        predict_arrow(case[1], arrow(columns), io.BytesIO())


def test_what_is_no_arrow_stream_is_told(case):
    with pytest.raises(InputError, match="The input is no Arrow IPC stream"):
        predict_arrow(case[1], io.BytesIO(b"[1, 2, 3]\n" * 100), io.BytesIO())

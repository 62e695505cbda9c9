"""A display is no part of the work: whatever stderr is, the answer is the same and nothing is raised."""

import io
import logging
import os
import select
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import cosmeans
from cosmeans import KMeans, console, deduplicate, errors, open_rows, top
from cosmeans.errors import (
    ArgumentOrderWarning,
    ClusterSplitWarning,
    ColumnOrderWarning,
    CosmeansWarning,
    DistinctRowsWarning,
    FeatureNamesWarning,
    FileOrderWarning,
    IgnoredOptionWarning,
    SkippedRowsWarning,
    WeightRangeWarning,
    ZeroRowsWarning,
)
from refusing import leave_memory

PACKAGE = Path(cosmeans.__file__).parent


class OnlyWrite:
    """The least that `print` needs, as many programs put it in the place of stderr."""

    def __init__(self, error=None):
        self.text, self.error = "", error

    def write(self, text):
        if self.error is not None:
            raise self.error
        self.text += text


class Raises(io.StringIO):
    """A stream whose every question is an error."""

    encoding = property(lambda _: 7)

    def isatty(self):
        raise RuntimeError("isatty")

    def flush(self):
        raise OSError("flush")

    def fileno(self):
        raise KeyError("fileno")


class Terminal(OnlyWrite):
    """Says that it is a terminal, and knows nothing of one."""

    def isatty(self):
        return True


def full_pipe(blocking):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, blocking)
    return Pipe(reading, writing)


def broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return Pipe(None, writing)


class Pipe(io.TextIOWrapper):
    """The writing end, as stderr is one; what it could not write is forgotten with it."""

    def __init__(self, reading, writing):
        super().__init__(io.FileIO(writing, "w"), write_through=True)
        self.reading = reading

    def __del__(self):
        if self.reading is not None:
            os.close(self.reading)
        with suppress(OSError):
            self.close()


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


ERRORS = [OSError(5, "EIO"), ValueError(), RuntimeError(), AttributeError(), TypeError(), KeyError()]
STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "only write": OnlyWrite,
    "raises": Raises,
    "terminal": Terminal,
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"),
    "broken": broken_pipe,
    "full": lambda: full_pipe(blocking=True),
    "full, not blocking": lambda: full_pipe(blocking=False),
    **{type(error).__name__: partial(OnlyWrite, error) for error in ERRORS},
}


def shown_as_python_does(message, category, file, line, *_):
    if sys.stderr is not None:
        sys.stderr.write(warnings.formatwarning(message, category, file, line))


shown_as_python_does.__module__ = "warnings"  # what Python's own is known by; pytest puts another in its place


def work():
    """Every call that tells something: progress, lines, warnings. Gives the answers."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(8), 8, axis=0) + 0.1 * rng.standard_normal((64, 8))
    rows[5] = 0.0
    kmeans = KMeans(4, epochs=3, random_state=0, verbose=2).fit(rows)
    labels = kmeans.labels_.copy()
    more = kmeans.fit(rows)
    console.say("computing on déjà vu")
    kept = deduplicate(kmeans, rows, 0.9, max_cluster_size=8).kept
    return labels, more.cluster_centers_, kmeans.predict(rows), kmeans.score(rows), kept


@pytest.fixture
def impatient(monkeypatch):
    """Who waits for a pipe that is full is told at once that it stays full."""
    poll = getattr(select, "poll", None)

    class Impatient:
        def __init__(self):
            self.waiting = poll()
            self.register = self.waiting.register

        def poll(self, _):
            return self.waiting.poll(0)

    monkeypatch.setattr(select, "poll", Impatient, raising=False)


@pytest.mark.usefixtures("time_flies", "impatient")
@pytest.mark.parametrize("kind", STREAMS)
def test_any_stream_gives_the_same_answer(kind, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", shown_as_python_does)
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        expected = work()
        assert "epoch" in sys.stderr.getvalue()
        assert "ZeroRowsWarning" in sys.stderr.getvalue()
        stream = STREAMS[kind]()
        monkeypatch.setattr(sys, "stderr", stream)
        worker = threading.Thread(target=lambda: answers.append(work()), daemon=True)
        worker.start()
        worker.join(30)

    assert answers, "raised, or waits for a reader"
    for found, wanted in zip(answers[0], expected, strict=True):
        assert np.array_equal(found, wanted)


def test_an_ascii_stream_is_told_what_it_can_hold():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")

    console.say("Zürich\x1b", stream)

    assert stream.buffer.getvalue() == b"Z\\xfcrich\\x1b\n"


def test_a_pipe_that_is_read_gets_everything():
    reading, writing = os.pipe()
    read = []

    def reader():
        with os.fdopen(reading, "rb") as stream:
            read.append(stream.read())

    worker = threading.Thread(target=reader)
    worker.start()
    with os.fdopen(writing, "w") as stream:
        console.say("x" * 1_000_000, stream)
    worker.join(20)

    assert read == [b"x" * 1_000_000 + b"\n"]


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.name, record.levelname, record.getMessage()))


LINE = "continuing from the current 2 centers (warm_start=True)"


def goes_on(verbose=1):
    kmeans = KMeans(2, random_state=0, verbose=verbose).fit(np.eye(3))
    kmeans.fit(np.eye(3))


def test_where_nobody_listens_sentences_are_shown_unless_the_logger_says_no(capsys):
    logger = logging.getLogger("cosmeans")
    goes_on()
    assert capsys.readouterr().err == f"cosmeans: {LINE}\n"

    for unwanted, wanted in (
        (partial(logger.setLevel, logging.ERROR), partial(logger.setLevel, logging.NOTSET)),
        (partial(vars(logger).update, disabled=True), partial(vars(logger).update, disabled=False)),
        (logging.disable, partial(logging.disable, logging.NOTSET)),
    ):
        unwanted()
        try:
            goes_on()
        finally:
            wanted()
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["cosmeans", None], ids=["own", "root"])
def test_who_has_a_handler_gets_the_sentences_by_level_and_stderr_none(name, capsys):
    listener, logger = Heard(), logging.getLogger(name)
    logger.addHandler(listener)
    level = logging.root.level
    try:
        goes_on()
        assert listener.lines == []  # the level of a root that nobody configured is WARNING
        logging.root.setLevel(logging.INFO)
        goes_on(verbose=0)
        assert listener.lines == []
        goes_on()
    finally:
        logger.removeHandler(listener)
        logging.root.setLevel(level)

    assert listener.lines == [("cosmeans", "INFO", LINE)]
    assert capsys.readouterr().err == ""


X = np.eye(3)


def zero_rows(_):
    KMeans(2, verbose=0, random_state=0).fit(np.eye(3)[[0, 1, 1, 2]] * [[1], [1], [1], [0]])


def same_rows(_):
    KMeans(2, verbose=0, random_state=0).fit(np.ones((4, 2)))


def zero_rows_later(kmeans):
    kmeans.transform(torch.zeros(2, 3))


def zero_rows_of_a_function(kmeans):
    top(kmeans, torch.zeros(2, 3), 1)


def rows_with_nan(kmeans):
    KMeans(2, verbose=0, nonfinite="skip", random_state=0).fit(np.vstack([X, [[np.nan, 1, 1]]]))


def weights_far_apart(_):
    KMeans(2, verbose=0, random_state=0).fit(X, sample_weight=[1.0, 1.0, 1e-16])


def more_starts_than_one(_):
    KMeans(2, verbose=0, init=X[:2], n_init=3).fit(X)


def arguments_of_faiss(_):
    KMeans(6, 10, 20, random_state=0, verbose=0).fit(np.random.default_rng(0).normal(size=(300, 6)))


def names_are_new(kmeans):
    kmeans.predict(pandas.DataFrame(X, columns=["a", "b", "c"]))


def a_large_cluster(_):
    deduplicate(KMeans(1, verbose=0, random_state=0).fit(np.ones((25, 3))), np.ones((25, 3)), 0.9, max_cluster_size=10)


def files_in_two_orders(_):
    open_rows("*.npy")


def rows_by_columns(_):
    open_rows("columns/fortran.npy")


POINTED = {
    zero_rows: ZeroRowsWarning,
    zero_rows_later: ZeroRowsWarning,
    zero_rows_of_a_function: ZeroRowsWarning,
    same_rows: DistinctRowsWarning,
    rows_with_nan: SkippedRowsWarning,
    weights_far_apart: WeightRangeWarning,
    more_starts_than_one: IgnoredOptionWarning,
    arguments_of_faiss: ArgumentOrderWarning,
    names_are_new: FeatureNamesWarning,
    a_large_cluster: ClusterSplitWarning,
    files_in_two_orders: FileOrderWarning,
    rows_by_columns: ColumnOrderWarning,
}


@pytest.mark.parametrize(("call", "category"), POINTED.items())
def test_a_warning_points_at_the_code_that_called(call, category, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x2.npy", "x10.npy"):
        np.save(name, X)
    (tmp_path / "columns").mkdir()
    np.save("columns/fortran.npy", np.asfortranarray(np.ones((1 << 17, 3))))
    kmeans = KMeans(2, verbose=0, random_state=0).fit(np.eye(3))
    leave_memory(monkeypatch, 1 << 20) if call is rows_by_columns else None

    with pytest.warns(category) as caught:
        call(kmeans)

    assert {(warning.filename, warning.lineno) for warning in caught} == {(__file__, call.__code__.co_firstlineno + 1)}


def test_every_warning_there_is_points_at_the_code_that_called():
    named = [getattr(errors, name) for name in dir(errors)]
    there_are = {kind for kind in named if isinstance(kind, type) and issubclass(kind, CosmeansWarning)}

    assert set(POINTED.values()) == there_are - {CosmeansWarning}


def test_only_one_line_of_the_package_warns():
    lines = [f"{path.name}: {line}" for path in PACKAGE.rglob("*.py") for line in path.read_text("utf-8").splitlines()]

    assert len([line for line in lines if "warnings.warn(" in line]) == 1
    # filters of all threads, where other libraries warn: of pictures, of projections, on the command line
    filters = {line.partition(":")[0] for line in lines if "warnings.catch_warnings(" in line}
    assert filters == {"console.py", "projection.py", "thumbnails.py", "__init__.py"}


def test_what_a_caller_knows_is_not_told_in_its_thread_alone():
    told, inside, out = [], threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=20)

    def knows():
        with console.without(DistinctRowsWarning):
            inside.wait()
            console.warn("known", DistinctRowsWarning)
            console.warn("of another kind", ZeroRowsWarning)
            out.wait()

    worker = threading.Thread(target=knows)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        worker.start()
        inside.wait()
        console.warn("here", DistinctRowsWarning)
        out.wait()
        worker.join()
        console.warn("afterwards", DistinctRowsWarning)
        told = sorted(str(warning.message) for warning in caught)

    assert told == ["afterwards", "here", "of another kind"]

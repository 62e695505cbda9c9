"""Rows of files and batches on their way to a GPU: read once, piece by piece, if they fit there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backends.gpu.standins import compute_with, directions
from cosmeans import KMeans, open_rows
from cosmeans._estimator.opening import choose
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.rows.upload import Upload
from cosmeans.backends.gpu.tuning import ResidencyPlan, Tuning
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.console import silent
from cosmeans.data import Task
from cosmeans.errors import FileError, InputError
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.joined import JoinedRows
from files_of import KINDS

X = (3.0 * directions(90, 12)).numpy()
FIRST = X[5:12]
ROW = 48  # bytes
SPANS: dict[str, Any] = {"programs": 1, "small_upload": 0, "upload_span": 64 * ROW, "upload_piece": 5 * ROW}
FETCHED = {**SPANS, "plan": ResidencyPlan(copied=True, chunk=40, fetched=16)}


def parquet(folder: Path, rows: np.ndarray = X) -> Any:
    KINDS["groups.parquet"][0](folder / "rows.parquet", rows)
    return folder / "rows.parquet"


def npy(folder: Path) -> Any:
    np.save(folder / "rows.npy", X)
    return folder / "rows.npy"


def shards(folder: Path) -> Any:
    paths = []
    for start in (0, 31, 60):
        paths.append(folder / f"rows{start}.npy")
        np.save(paths[-1], X[start : {0: 31, 31: 60, 60: 90}[start]])
    return paths


def batches(folder: Path) -> Any:
    return lambda: (torch.from_numpy(X[start : start + 20]) for start in range(0, 90, 20))


SOURCES: dict[str, Callable[[Path], Any]] = {"Parquet": parquet, "npy": npy, "shards": shards, "batches": batches}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """elsewhere(**tuning): compute on a device that is not where the rows of files are."""
    return lambda **tuning: compute_with(lambda: GpuBackend("cpu:0", tuning=Tuning(**tuning)), monkeypatch)


class Reads:
    """How often each row was read from its files or batches, and how many at once at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_row, self.most = np.zeros(90, int), 0
        for kind in (JoinedRows, BatchRows):
            monkeypatch.setattr(kind, "read", self.counting(kind.read))

    def counting(self, read: Any) -> Any:
        def counted(source: Any, *given: Any) -> Any:
            start, stop = given if len(given) == 2 else (given[0].start, given[0].stop)
            self.of_row[start:stop] += 1
            self.most = max(self.most, stop - start)
            return read(source, *given)

        return counted


def answers(x: Any, init: Any, **options: Any) -> list[bytes]:
    kmeans = KMeans(7, epochs=1, init=init, random_state=0, verbose=0, **options).fit(x)
    found = kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, np.array(kmeans.similarities)
    return [np.asarray(part).tobytes() for part in found]


@pytest.fixture(scope="module")
def expected() -> dict[bool, list[bytes]]:
    """The reference's answers for first centroids that are known before the rows are read, and for random ones."""
    with pytest.MonkeyPatch.context() as patching:
        compute_with(ReferenceBackend, patching)
        return {known: answers(X, FIRST if known else "random") for known in (True, False)}


@pytest.mark.parametrize("known", [True, False], ids=["known", "random"])
@pytest.mark.parametrize("kind", SOURCES)
def test_rows_that_fit_on_the_device_are_read_once(
    kind: str, known: bool, expected: Any, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, reads = SOURCES[kind](tmp_path), Reads(monkeypatch)
    elsewhere(**SPANS)

    assert answers(given, FIRST if known else "random", memory_limit=0) == expected[known]

    ahead = 2 * 10  # a piece, and what is decoded ahead of the one after it
    assert set(reads.of_row) == {1}
    assert reads.most <= ahead


class Elsewhere(MemoryRows):
    """Rows of the host, which is not the device; notes the spans that are read."""

    def __init__(self) -> None:
        super().__init__(torch.from_numpy(X))
        self.device, self.spans = torch.device("cpu", 1), []

    def read(self, span: slice) -> torch.Tensor:
        self.spans.append((span.start, span.stop))
        return super().read(span)


@pytest.mark.parametrize("small", [True, False])
def test_nothing_is_asked_of_a_source_once_its_rows_are_sent(small: bool) -> None:
    source = Elsewhere()
    backend = GpuBackend("cpu", tuning=Tuning(**{**SPANS, "small_upload": small << 20}))
    with backend.session(source, Task(7), Alone(), Silent(), lambda line: None) as session:
        assert source.spans == []
        session.read()
        seen = list(source.spans)
        session.rows.take(torch.tensor([3, 80]))
        for epoch in session.epochs(torch.from_numpy(FIRST), 2):
            session.labels(epoch)

    # 64 rows are inspected at once, and read in parts of one size of up to 10
    whole = [*((at, min(at + 10, 64)) for at in range(0, 64, 10)), (64, 73), (73, 82), (82, 90)]
    assert seen == source.spans == ([(0, 90)] if small else whole)


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_that_are_fetched_again_are_one_view_of_the_host(
    kind: str, expected: Any, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, reads = SOURCES[kind](tmp_path), Reads(monkeypatch)
    elsewhere(**FETCHED)

    assert answers(given, "random", memory_limit=0) == expected[False]

    assert set(reads.of_row) == {1}


def test_the_host_holds_no_rows_for_a_device_that_they_are_sent_to(elsewhere: Any, tmp_path: Path) -> None:
    rows, options = open_rows(parquet(tmp_path)), FitOptions(n_clusters=7)
    assert choose(rows, options, silent, fit=True)[0].n_bytes_held == X.nbytes
    elsewhere(**SPANS)

    source, _ = choose(rows, options, silent, fit=True)

    assert (source.n_bytes_held, source.n_direct) == (0, 0)


def test_rows_come_from_the_copy_on_a_disk_where_one_is_wanted(
    expected: Any, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, reads = parquet(tmp_path), Reads(monkeypatch)
    monkeypatch.setattr("cosmeans.rows.held._FIRST_BYTES", 0)
    for tuning in (SPANS, FETCHED):
        reads.of_row[:] = 0
        elsewhere(**tuning)
        cache = tmp_path / f"cache {len(tuning)}"
        for times in (1, 0):
            assert answers(given, "random", memory_limit=0, cache=cache) == expected[False]
            assert set(reads.of_row) == {1}, times


def test_labels_of_new_rows_read_them_once(elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kmeans = KMeans(7, epochs=1, random_state=0, verbose=0, memory_limit=0, cache=tmp_path / "none").fit(X)
    labels = kmeans.predict(X)
    for tuning in (SPANS, FETCHED):
        elsewhere(**tuning)
        reads = Reads(monkeypatch)
        assert np.array_equal(kmeans.predict(parquet(tmp_path)), labels)
        assert set(reads.of_row) == {1}


# ----------------------------------------------------------------------- errors


def with_nan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    rows = X.copy()
    rows[70, 3] = np.nan
    return [parquet(folder), _named(folder / "other.parquet", rows)]


def _named(path: Path, rows: np.ndarray) -> Path:
    KINDS["groups.parquet"][0](path, rows)
    return path


def that_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The second file, once rows of the first were sent; a thread that decodes ahead finds it."""
    first, second, send = parquet(folder), _named(folder / "other.parquet", X), Upload.send

    def changing(self: Any, *given: Any) -> None:
        send(self, *given)
        _named(second, X[:50])

    monkeypatch.setattr(Upload, "send", changing)
    return [first, second]


def whose_iterator_breaks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    passes = []

    def broken() -> Iterator[np.ndarray]:
        passes.append(1)
        yield X[:50]
        if len(passes) > 1:
            raise OSError("the disk is gone")
        yield X[50:]

    return broken


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (with_nan, InputError, r"Row 160 \(.*other\.parquet, row 70\)"),
        (that_change, FileError, r"other\.parquet has changed since it was opened"),
        (whose_iterator_breaks, OSError, "the disk is gone"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_error_while_rows_are_read_leaves_nothing_on_the_device(
    given: Any, error: type[Exception], words: str, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    make = Upload.make

    def noting(self: Any, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        made.append(weakref.ref(found := make(self, *shape, dtype=dtype)))
        return found

    monkeypatch.setattr(Upload, "make", noting)
    rows = given(tmp_path, monkeypatch)
    elsewhere(**SPANS)
    gc.collect()
    gc.disable()  # nothing is left to it
    try:
        with pytest.raises(error, match=words) as caught:
            KMeans(7, init=FIRST, random_state=0, verbose=0, memory_limit=0).fit(rows)
        assert made[0]() is not None, "the error holds it, through its frames"
        del caught
        assert [ref() for ref in made] == [None] * len(made)
    finally:
        gc.enable()

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

from backends.gpu.standins import Watched, compute_with, directions
from cosmeans import KMeans, lloyd, scoring
from cosmeans._estimator.opening import choose
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.rows.upload import Immediate
from cosmeans.backends.gpu.tuning import ResidencyPlan, Tuning
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.console import silent
from cosmeans.data import Task
from cosmeans.errors import FileError, InputError
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.rows.copied import CopiedRows
from cosmeans.rows.files import FileRows
from cosmeans.rows.formats import FORMATS
from cosmeans.rows.held import HeldRows
from cosmeans.rows.joined import JoinedRows
from cosmeans.rows.opening import open_readers
from cosmeans.rows.paths import find_files
from cosmeans.rows.reader import Wanted
from files_of import KINDS

X = (3.0 * directions(90, 12)).numpy()
FIRST = X[5:12]
ROW = 48  # bytes
SPANS: dict[str, Any] = {"programs": 1, "small_upload": 0, "upload_span": 64 * ROW, "upload_piece": 5 * ROW}
WATCHED = Alone(), Silent(), silent
STAYING = {
    "copy": ResidencyPlan(copied=True, chunk=40, fetched=16),
    "sent": ResidencyPlan(copied=False, chunk=16, fetched=16),
}
FETCHED = {**SPANS, "plan": STAYING["copy"]}


def named(path: Path, rows: np.ndarray = X) -> Path:
    KINDS["groups.parquet"][0](path, rows)
    return path


class Reads:
    """How often each row was read from its files or batches, and how many at once at most."""

    def __init__(self, most: int = 0) -> None:
        self.of_row, self.most = np.zeros(90, int), most

    def note(self, start: int, stop: int) -> None:
        self.of_row[start:stop] += 1
        self.most = max(self.most, stop - start)


class Counted(JoinedRows):
    """Files whose reading is noted."""

    reads: Reads

    def read(self, start: int, stop: int) -> torch.Tensor:
        self.reads.note(start, stop)
        return super().read(start, stop)


def counted(paths: list[Path], reads: Reads) -> FileRows:
    rows = Counted(open_readers(find_files(list(map(str, paths)), "path", FORMATS), Wanted()), "rows")
    rows.reads = reads
    return FileRows(rows, lambda: counted(paths, reads))


def parquet(folder: Path, reads: Reads) -> Any:
    return counted([named(folder / "rows.parquet")], reads)


def npy(folder: Path, reads: Reads) -> Any:
    np.save(folder / "rows.npy", X)
    return counted([folder / "rows.npy"], reads)


def shards(folder: Path, reads: Reads) -> Any:
    paths = [folder / f"{number}.npy" for number in range(3)]
    for path, rows in zip(paths, np.split(X, [31, 60]), strict=True):
        np.save(path, rows)
    return counted(paths, reads)


def batches(folder: Path, reads: Reads) -> Any:
    """Counted once, then read."""
    reads.of_row -= 1

    def each() -> Iterator[torch.Tensor]:
        for start in range(0, 90, 20):
            reads.of_row[start : start + 20] += 1
            yield torch.from_numpy(X[start : start + 20])

    return each


SOURCES: dict[str, Callable[[Path, Reads], Any]] = {
    "Parquet": parquet,
    "npy": npy,
    "shards": shards,
    "batches": batches,
}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """elsewhere(**tuning): compute on a device that is not where the rows of files are."""
    return lambda **tuning: compute_with(lambda: GpuBackend("cpu:0", tuning=Tuning(**tuning)), monkeypatch)


def answers(x: Any, init: Any, epochs: int = 1, **options: Any) -> list[bytes]:
    kmeans = KMeans(7, epochs=epochs, init=init, random_state=0, verbose=0, **options).fit(x)
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
    kind: str, known: bool, expected: Any, elsewhere: Any, tmp_path: Path
) -> None:
    reads = Reads()
    given = SOURCES[kind](tmp_path, reads)
    elsewhere(**SPANS)

    assert answers(given, FIRST if known else "random", memory_limit=0) == expected[known]

    # random rows of mapped files are taken singly before
    assert set(reads.of_row) == {1}
    assert reads.most <= 10, "two pieces that are pinned"


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
    with backend.session(source, Task(7), *WATCHED) as session:
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
@pytest.mark.parametrize("plan", STAYING)
@pytest.mark.parametrize("epochs", [1, 3])
def test_rows_that_stay_on_the_host_are_read_once_an_epoch_and_once_for_the_last_labels(
    epochs: int, plan: str, kind: str, elsewhere: Any, tmp_path: Path
) -> None:
    reads, expected = Reads(), answers(X, FIRST, epochs)
    given = SOURCES[kind](tmp_path, reads)
    elsewhere(**SPANS, plan=STAYING[plan])

    assert answers(given, FIRST, epochs, memory_limit=0) == expected

    held = kind in ("Parquet", "batches")  # rows that must be decoded, and are so few that any limit holds them
    assert set(reads.of_row) == {1 if held else epochs + 1}


@pytest.mark.parametrize("plan", STAYING)
@pytest.mark.parametrize("held", [0, 50, 90])
def test_decoded_rows_that_stay_on_the_host_are_held_as_far_as_there_is_room(
    held: int, plan: str, tmp_path: Path
) -> None:
    """No tensor of the host holds them all."""
    reads, first, options = Reads(), torch.from_numpy(FIRST), FitOptions(n_clusters=7, epochs=3)
    backend = GpuBackend("cpu:0", tuning=Tuning(**SPANS, plan=STAYING[plan]))
    with ReferenceBackend().session(MemoryRows(torch.from_numpy(X)), Task(7), *WATCHED) as session:
        session.read()
        expected = lloyd.fit(session, first, options, Silent())

    with backend.session(HeldRows(parquet(tmp_path, reads), held), Task(7), *WATCHED) as session:
        session.read(first)
        fitted = lloyd.fit(session, first, options, Silent())

    assert torch.equal(fitted.labels, expected.labels)
    assert torch.equal(fitted.centroids, expected.centroids)
    assert (reads.of_row == np.where(np.arange(90) < held, 1, 4)).all()


@pytest.mark.parametrize("plan", STAYING)
def test_rows_in_memory_that_stay_on_the_host_are_sent_once_a_pass(plan: str) -> None:
    """Where each pass sends all rows: epochs, and the last labels. With a copy on the device fewer."""
    watched = Watched()
    backend = GpuBackend("cpu:0", tuning=Tuning(**SPANS, plan=STAYING[plan], copies=lambda device: watched))
    first = torch.from_numpy(FIRST)
    with backend.session(Elsewhere(), Task(7), *WATCHED) as session:
        assert session.labels_while_reading
        session.read(first)
        fitted = lloyd.fit(session, first, FitOptions(n_clusters=7, epochs=2), Silent())
        sent = sum(watched.sizes(torch.from_numpy(X)))
        assert torch.equal(fitted.own.scores, scoring.own_scores(session, fitted.centroids, fitted.labels))

    assert sent == 3 * 90 if plan == "sent" else 2 * 90 < sent < 3 * 90


@pytest.mark.parametrize("plan", STAYING)
def test_labels_are_those_of_a_fit_that_starts_elsewhere(plan: str) -> None:
    """First centroids that were only expected cost time."""
    backend = GpuBackend("cpu:0", tuning=Tuning(**SPANS, plan=STAYING[plan]))
    first, other = torch.from_numpy(FIRST), torch.from_numpy(X[40:47])
    found = []
    for known in (first, other, None):
        with backend.session(Elsewhere(), Task(7), *WATCHED) as session:
            session.read(known)
            found.append(lloyd.fit(session, other, FitOptions(n_clusters=7, epochs=2), Silent()))

    assert all(torch.equal(found[0].labels, fitted.labels) for fitted in found)
    assert all(torch.equal(found[0].centroids, fitted.centroids) for fitted in found)


@pytest.mark.parametrize("plan", STAYING)
def test_a_stop_while_rows_are_read_ends_the_fit(plan: str) -> None:
    stopping = Silent()
    stopping.stop_requested = True
    backend = GpuBackend("cpu:0", tuning=Tuning(**SPANS, plan=STAYING[plan]))
    with (
        backend.session(Elsewhere(), Task(7), Alone(), stopping, silent) as session,
        pytest.raises(KeyboardInterrupt),
    ):
        session.read(torch.from_numpy(FIRST))


def test_the_host_holds_no_rows_for_a_device_that_they_are_sent_to(elsewhere: Any, tmp_path: Path) -> None:
    rows, options = parquet(tmp_path, Reads()), FitOptions(n_clusters=7)
    for tuning, held in ((SPANS, 0), (FETCHED, X.nbytes)):
        elsewhere(**tuning)
        source, backend = choose(rows, options, silent, fit=True)
        with backend.session(source, Task(7), *WATCHED) as session:
            session.read()
            assert source.n_bytes_held == held


@pytest.mark.parametrize("fetched", [False, True])
def test_a_copy_on_a_disk_is_made_while_rows_are_read_and_taken_next_time(fetched: bool, tmp_path: Path) -> None:
    backend = GpuBackend("cpu:0", tuning=Tuning(**(FETCHED if fetched else SPANS)))
    with ReferenceBackend().session(MemoryRows(torch.from_numpy(X)), Task(7), *WATCHED) as session:
        session.read()
        labels = session.assign(torch.from_numpy(FIRST))
    path = named(tmp_path / "rows.parquet")
    for times in (1, 0):
        reads = Reads()
        source = HeldRows(CopiedRows(counted([path], reads), tmp_path / "cache"), 0)
        with backend.session(source, Task(7, fit=False), *WATCHED) as session:
            session.read()
            assert torch.equal(session.assign(torch.from_numpy(FIRST)), labels)
        assert set(reads.of_row) == {times}


def test_labels_of_new_rows_read_them_once(elsewhere: Any, tmp_path: Path) -> None:
    kmeans = KMeans(7, epochs=1, random_state=0, verbose=0, memory_limit=0, cache=tmp_path / "none").fit(X)
    labels = kmeans.predict(X)
    for tuning in (SPANS, FETCHED):
        elsewhere(**tuning)
        reads = Reads()
        assert np.array_equal(kmeans.predict(parquet(tmp_path, reads)), labels)
        assert set(reads.of_row) == {1}


# ----------------------------------------------------------------------- errors


class Sent(Immediate):
    """Where rows are sent to; and what happens once the first ones are."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.places: list[weakref.ref[torch.Tensor]] = []
        self._then = then

    def copy(self, into: torch.Tensor, source: torch.Tensor) -> None:
        super().copy(into, source)
        if not self.places:
            self._then()
        self.places.append(weakref.ref(into._base))  # noqa: SLF001 - the memory of all rows, as torch calls it


def with_nan(folder: Path) -> tuple[Any, Callable[[], object]]:
    rows = X.copy()
    rows[70, 3] = np.nan
    return [named(folder / "a.parquet"), named(folder / "b.parquet", rows)], lambda: None


def that_change(folder: Path) -> tuple[Any, Callable[[], object]]:
    """The second file, once rows of the first were sent; a thread that decodes ahead finds it."""
    second = folder / "b.parquet"
    return [named(folder / "a.parquet"), named(second)], lambda: named(second, X[:50])


def whose_iterator_breaks(folder: Path) -> tuple[Any, Callable[[], object]]:
    passes = []

    def broken() -> Iterator[np.ndarray]:
        passes.append(1)
        yield X[:50]
        if len(passes) > 1:
            raise OSError("the disk is gone")
        yield X[50:]

    return broken, lambda: None


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (with_nan, InputError, r"Row 160 \(.*b\.parquet, row 70\)"),
        (that_change, FileError, r"b\.parquet has changed since it was opened"),
        (whose_iterator_breaks, OSError, "the disk is gone"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_error_while_rows_are_read_leaves_nothing_on_the_device(
    given: Any, error: type[Exception], words: str, elsewhere: Any, tmp_path: Path
) -> None:
    rows, then = given(tmp_path)
    sent = Sent(then)
    elsewhere(copies=lambda device: sent, **SPANS)
    gc.collect()
    gc.disable()  # nothing is left to it
    try:
        with pytest.raises(error, match=words) as caught:
            KMeans(7, init=FIRST, random_state=0, verbose=0, memory_limit=0).fit(rows)
        assert sent.places[0]() is not None, "the error holds it, through its frames"
        del caught
        assert [place() for place in sent.places] == [None] * len(sent.places)
    finally:
        gc.enable()

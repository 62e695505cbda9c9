"""The copy of rows that are slow to decode: the same bits, decoded once, never wrong ones."""

import json
import sys
import tempfile
import zlib

import numpy as np
import pytest
import torch

from cosmeans import KMeans, open_rows
from cosmeans.backends.cpu import CpuBackend
from cosmeans.data import Task
from cosmeans.errors import WriteError
from cosmeans.group import Alone
from cosmeans.progress import Silent
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.copied import CopiedRows, copy_files, remove_copy
from cosmeans.rows.held import hold
from cosmeans.rows.stored import HalvedRows, WholeRows
from files_of import KINDS
from generators import unit_rows
from refusing import leave_memory

RNG = np.random.default_rng(3)
X = RNG.standard_normal((9000, 256)).astype(np.float32)  # more than is held in any case
STEP = 700


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    KINDS["groups.parquet"][0](folder / "a.parquet", X)
    KINDS["groups.parquet"][0](folder / "b.parquet", X[::-1].copy())
    return folder


class Counted:
    """A source that counts the rows it was asked for."""

    def __init__(self, source):
        self._source, self.asked = source, 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, span):
        self.asked += span.stop - span.start
        return self._source.read(span)


LAYOUTS = {"whole": (WholeRows,), "halved": (HalvedRows, WholeRows)}


@pytest.fixture(params=LAYOUTS)
def layouts(request):
    return LAYOUTS[request.param]


def passed_over(rows):
    for start in range(0, rows.n_rows, STEP):
        span = slice(start, min(start + STEP, rows.n_rows))
        assert np.array_equal(rows.read(span).numpy(), X[span])


@pytest.mark.parametrize("epochs", [3, 5])
@pytest.mark.parametrize("init", ["random", "k-means++", "nested", X[:5]], ids=["random", "++", "nested", "given"])
def test_a_fit_from_the_copy_has_the_same_bits(files, tmp_path, monkeypatch, init, epochs):
    leave_memory(monkeypatch, X.nbytes // 2)  # or the system would keep the copy there
    options = {"init": init, "random_state": 0, "epochs": epochs, "verbose": 0, "batch_size": 900}
    expected = KMeans(5, **options).fit(X)

    for _ in range(2):  # made, and taken
        found = KMeans(5, memory_limit=0, cache=tmp_path / "cache", **options).fit(files / "a.parquet")
        assert found.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
        assert np.array_equal(found.labels_, expected.labels_)
        assert found.inertia_ == expected.inertia_

    kinds = {3: [".json", ".rows"], 5: [".heads", ".index", ".json", ".listed", ".tails"]}
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == kinds[epochs]


def test_decoded_rows_that_the_system_can_keep_in_memory_are_copied_whole(files, tmp_path):
    KMeans(5, epochs=5, memory_limit=0, cache=tmp_path, random_state=0, verbose=0).fit(files / "a.parquet")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".rows"]


@pytest.mark.parametrize("strategy", ["auto", "float32", "split", "pca", "int8"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_over_heads_of_a_mapped_file_has_the_same_bits(tmp_path, strategy, weighted):
    """Rows of unit length and of others, zero rows, entries that no head holds."""
    x = X.copy()
    x[::2] /= np.linalg.norm(x[::2], axis=1, keepdims=True)
    x[[5, 900]] = 0.0
    x[100:103] *= np.float32(1e6)
    x[200:203] *= np.float32(1e-9)
    np.save(tmp_path / "x.npy", x)
    weights = RNG.uniform(0, 2, len(x)) if weighted else None
    options = {
        "random_state": 0,
        "epochs": 6,
        "verbose": 0,
        "strategy": strategy,
        "batch_size": 1000,
        "zero_rows": "skip",
    }
    expected = KMeans(40, **options).fit(x, sample_weight=weights)

    found = KMeans(40, memory_limit="4MB", cache=tmp_path / "cache", device="cpu", **options)
    found.fit(tmp_path / "x.npy", sample_weight=weights)

    assert found.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert np.array_equal(found.labels_, expected.labels_)
    assert found.inertia_ == expected.inertia_
    assert found.similarities == expected.similarities
    assert len(list((tmp_path / "cache").glob("*.heads"))) == 1


def test_all_rows_at_once_come_from_a_copy_of_either_kind(files, tmp_path, layouts):
    for _ in range(2):  # made, and taken
        rows = CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=layouts)
        assert rows.one_view == (layouts[0] is WholeRows)
        assert np.array_equal(rows.view().numpy(), X)


def test_all_rows_at_once_of_a_mapped_file_stay_where_they_are(tmp_path):
    np.save(tmp_path / "x.npy", X)
    source = open_rows(tmp_path / "x.npy")
    rows = CopiedRows(source, tmp_path / "cache", layouts=(HalvedRows,))
    assert rows.one_view
    assert rows.view().data_ptr() == source.view().data_ptr()
    rows.close()


def test_one_pass_takes_a_copy_of_either_kind(files, tmp_path, layouts):
    CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=layouts).view()
    rows, _ = hold(open_rows(files / "a.parquet"), 0, tmp_path, make=False)
    assert rows.n_direct == len(X)
    passed_over(rows)


class Asked:
    """The source of a session, and what it was asked for."""

    def __init__(self, source):
        self._source, self.asked = source, []

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, span):
        self.asked.append("rows")
        return self._source.read(span)

    def heads(self, span):
        self.asked.append("heads")
        return self._source.heads(span)

    def joined(self, heads, indices):
        return self._source.joined(heads, indices)


def test_heads_are_read_in_all_passes_but_the_first_and_the_last(tmp_path):
    np.save(tmp_path / "x.npy", X)
    source = Asked(hold(open_rows(tmp_path / "x.npy"), 0, tmp_path / "cache", halved=True)[0])
    session = CpuBackend().session(source, Task(40, batch_size=3000), Alone(), Silent(), print)
    first = torch.from_numpy(unit_rows(40, 256))
    session.read(first)
    epochs = list(session.epochs(first, 4))
    assert source.asked == 3 * ["rows"] + 3 * 3 * ["heads"]
    session.finish(epochs[-1].update.centroids)
    assert source.asked[12:] == 3 * ["rows"]


HEAD, FIRST = 2 * 256, 4 << 20  # bytes of a head, and of the decoded rows that are held in any case


@pytest.mark.parametrize(
    ("name", "limit", "reserved", "n_bytes"),
    [
        ("a.npy", 1000 * HEAD + 5, 0, 1000 * HEAD),
        ("a.npy", 1000 * HEAD + 5, 100, 999 * HEAD),
        ("a.npy", 90, 100, 0),
        ("a.npy", 9000 * HEAD + 700, 600, 9000 * HEAD),
        ("a.parquet", FIRST + 50 * HEAD, 0, FIRST + 50 * HEAD),
        ("a.parquet", 0, 0, FIRST),
    ],
)
def test_heads_stay_in_memory_as_the_limit_allows(files, tmp_path, name, limit, reserved, n_bytes):
    np.save(tmp_path / "a.npy", X)
    path = files / name if name == "a.parquet" else tmp_path / name
    rows, left = hold(open_rows(path), limit, tmp_path / "cache", halved=True, reserved=reserved)
    assert (rows.n_bytes_held, left) == (n_bytes, max(0, limit - n_bytes))
    passed_over(rows)
    heads, lost = rows.heads(slice(8000, 8001))
    assert np.array_equal(heads.numpy(), X[8000:8001].astype(np.float16))
    assert 0 < lost < 0.1
    passed_over(rows)


@pytest.mark.parametrize("name", ["a.npy", "a.parquet"])
def test_heads_in_memory_are_read_once(files, tmp_path, name):
    """The file of the heads loses its contents after the second epoch."""
    np.save(tmp_path / "a.npy", X)
    path = files / name if name == "a.parquet" else tmp_path / name
    init = unit_rows(40, 256)
    limit = 6000 * HEAD + (FIRST if name == "a.parquet" else 0)
    rows, _ = hold(open_rows(path), limit, tmp_path / "cache", halved=True)
    session = CpuBackend().session(rows, Task(40, batch_size=3000), Alone(), Silent(), print)
    session.read(torch.from_numpy(init))
    heads = next(path for path in (tmp_path / "cache").iterdir() if path.suffix == ".heads")
    epochs = session.epochs(torch.from_numpy(init), 5)
    for _ in range(2):
        next(epochs)
    with heads.open("r+b") as file:
        file.write(bytes(6000 * HEAD))
    found = list(epochs)[-1]
    assert rows.n_bytes_held == 6000 * HEAD, "decoded rows that were held before the copy was there make room"
    expected = KMeans(40, init=init, epochs=5, verbose=0, device="cpu").fit(X)
    assert found.update.centroids.numpy().tobytes() == expected.cluster_centers_.tobytes()


def test_rows_that_are_made_of_halves_come_in_batches_as_decoded_ones_do(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 1 << 17), np.float32))
    for cache, size in ((tmp_path / "cache", 32), (None, 100)):
        rows, _ = hold(open_rows(tmp_path / "x.npy"), 0, cache, halved=True)
        session = CpuBackend().session(rows, Task(2, batch_size=100, zero_rows="keep"), Alone(), Silent(), print)
        session.read()
        assert session.rows.batch_size == size


def test_samples_may_take_the_room_of_heads_that_are_not_there_yet(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    rows, _ = hold(open_rows(tmp_path / "x.npy"), 8000 * HEAD, tmp_path / "cache", halved=True)
    passed_over(rows)
    some, files = torch.arange(0, 9000, 9), []
    made = tempfile.TemporaryFile
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **options: files.append(options) or made(**options))
    for n_files in (0, 1):
        part = rows.part(some)
        assert np.array_equal(part.read(slice(0, len(some))).numpy(), X[some])
        assert len(files) == n_files
        rows.heads(slice(0, 9000))


@pytest.mark.parametrize("options", [{"backend": "reference"}, {"epochs": 3}, {"memory_limit": "10MB"}], ids=str)
def test_no_copy_is_made_of_a_mapped_file_that_does_not_repay_it(tmp_path, options):
    np.save(tmp_path / "x.npy", X)
    options = {"epochs": 5, "verbose": 0, "memory_limit": 0, "device": "cpu", "cache": tmp_path / "cache"} | options
    KMeans(5, **options).fit(tmp_path / "x.npy")
    assert not (tmp_path / "cache").exists()


def test_rows_are_decoded_once_and_by_a_second_reader_never(files, tmp_path, layouts):
    source = Counted(open_rows(files / "a.parquet"))
    rows = CopiedRows(source, tmp_path, layouts=layouts)
    assert not rows.complete
    for _ in range(3):
        passed_over(rows)
    assert rows.complete
    assert source.asked == len(X)

    again = Counted(open_rows(files / "a.parquet"))
    rows = CopiedRows(again, tmp_path, make=False, layouts=layouts)
    passed_over(rows)
    some = torch.tensor([5, 8999, 0, 5])
    assert np.array_equal(rows.gather(some).numpy(), X[some])
    assert again.asked == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "float64"])
def test_every_type_is_copied_as_it_is_stored(tmp_path, dtype):
    rows = torch.from_numpy(X[:50] * 9).to(getattr(torch, dtype))
    copied = CopiedRows(BatchRows(lambda: iter([rows[:20], rows[20:]]), "Rows", 0), tmp_path)

    copied.view()

    assert copied.read(slice(0, 50)).dtype == rows.dtype
    assert torch.equal(copied.read(slice(0, 50)), rows)


def test_a_pass_that_was_broken_off_goes_on_where_it_was(files, tmp_path):
    source = Counted(open_rows(files / "a.parquet"))
    rows = CopiedRows(source, tmp_path)
    rows.read(slice(0, 1000))
    rows.read(slice(5000, 6000))  # not in order: not copied
    rows.read(slice(300, 2000))
    passed_over(rows)
    assert rows.complete
    passed_over(rows)
    assert source.asked == 1000 + 1000 + 1700 + len(X)


def flip(path, mark):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, mark):
    path.write_bytes(path.read_bytes()[:-4])


def gone(path, mark):
    path.unlink()


def other_mark(path, mark):
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"dtype": "torch.int32"}))


def no_mark(path, mark):
    mark.unlink()


def torn_mark(path, mark):
    mark.write_text('{"format": "cosm')


DAMAGE = {
    "rows": (WholeRows, 0, [flip, cut, gone, other_mark, no_mark, torn_mark]),
    **{name: (HalvedRows, n, [flip, cut, gone]) for n, name in enumerate(("heads", "tails", "index", "listed"))},
}


@pytest.mark.parametrize(
    ("layout", "file", "damage"),
    [(layout, file, damage) for layout, file, kinds in DAMAGE.values() for damage in kinds],
    ids=[f"{name}-{damage.__name__}" for name, (_, _, kinds) in DAMAGE.items() for damage in kinds],
)
def test_a_copy_that_is_damaged_is_made_again(files, tmp_path, layout, file, damage):
    layouts = (layout,)
    CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=layouts).view()
    *paths, mark = copy_files(open_rows(files / "a.parquet"), tmp_path, layouts)
    damage(paths[file], mark)

    rows = CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=layouts)

    assert not rows.complete
    passed_over(rows)
    passed_over(rows)
    assert CopiedRows(open_rows(files / "a.parquet"), tmp_path, make=False, layouts=layouts).complete


def test_a_copy_of_either_kind_is_taken_where_both_will_do(files, tmp_path):
    CopiedRows(open_rows(files / "a.parquet"), tmp_path).view()
    rows = CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=LAYOUTS["halved"])
    assert rows.complete
    assert rows.heads(slice(0, 5)) is None
    passed_over(rows)


def test_other_files_and_other_options_have_other_copies(files, tmp_path):
    named = [copy_files(open_rows(path), tmp_path)[0] for path in (files / "a.parquet", files / "b.parquet", files)]
    assert len(set(named)) == 3
    path = tmp_path / "c.parquet"
    path.write_bytes((files / "a.parquet").read_bytes())
    before = copy_files(open_rows(path), tmp_path)
    path.write_bytes((files / "b.parquet").read_bytes())
    assert copy_files(open_rows(path), tmp_path) != before


def test_the_checksum_is_that_of_the_rows(files, tmp_path):
    CopiedRows(open_rows(files / "a.parquet"), tmp_path).view()
    rows, mark = copy_files(open_rows(files / "a.parquet"), tmp_path, (WholeRows,))
    assert rows.read_bytes() == X.tobytes()
    assert json.loads(mark.read_text())["files"] == {".rows": {"bytes": X.nbytes, "crc32": zlib.crc32(X.tobytes())}}


def test_a_copy_that_is_not_complete_leaves_nothing(files, tmp_path, layouts):
    rows = CopiedRows(open_rows(files / "a.parquet"), tmp_path, layouts=layouts)
    rows.read(slice(0, 4000))
    rows.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_meanwhile_does_no_harm(files, tmp_path, layouts):
    rows = CopiedRows(open_rows(files / "a.parquet"), tmp_path / "cache", layouts=layouts)
    rows.view()
    remove_copy(open_rows(files / "a.parquet"), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    passed_over(rows)


def test_what_a_disk_has_no_room_for_is_told_before_any_work(files, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(WriteError, match=r"No space left for the copy of the rows: 9.2 MB .* 100 bytes are free.*off"):
        KMeans(5, memory_limit=0, cache=tmp_path / "cache", verbose=0).fit(files / "a.parquet")


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of a process")
def test_a_disk_that_fills_up_is_told(files, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (X.nbytes // 2, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"larger than the file system, or the limit of this process, allows"):
            CopiedRows(open_rows(files / "a.parquet"), tmp_path).view()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_none_is_told(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file"):
        KMeans(5, memory_limit=0, cache=tmp_path / "file", verbose=0).fit(files / "a.parquet")

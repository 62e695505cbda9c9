"""Rows and texts behind URLs: the bits of the same rows in memory, what is fetched, and what goes wrong."""

import io
import json
import pickle
import re
import sys
import traceback

import fsspec
import numpy as np
import pyarrow
import pytest
import torch
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from pyarrow import parquet

from cosmeans import KMeans, open_rows
from cosmeans.cli import run
from cosmeans.errors import CosmeansWarning, FileError, FileOrderWarning, InputError
from cosmeans.rows.formats import open_reader
from cosmeans.rows.look import look
from cosmeans.rows.reader import Wanted
from cosmeans.rows.readers.array_files import open_array
from cosmeans.rows.remote import place_of
from cosmeans.rows.texts import read_texts
from elsewhere import Web
from files_of import EMBEDDING, KINDS, lists, table
from refusing import leave_memory

pytest.importorskip("aiohttp")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 12)).astype(np.float32)


class FakeHub(MemoryFileSystem):
    """Stands for the hub of Hugging Face, which has a file system of fsspec."""

    protocol = "hf"
    store: dict = {}  # noqa: RUF012  as MemoryFileSystem has it
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("hf://").strip("/")


@pytest.fixture
def hub():
    fsspec.register_implementation("hf", FakeHub, clobber=True)
    yield fsspec.filesystem("hf")
    FakeHub.store.clear()
    vars(sys.modules["fsspec.registry"])["_registry"].pop("hf")  # by which the real one is found again


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(folder):
    web = Web(folder)
    yield web
    web.close()


@pytest.fixture
def web(served):
    served.asked.clear()
    served.refused.clear()
    return served


def written(folder, name):
    make, library = KINDS[name]
    if library is not None:
        pytest.importorskip(library)
    if not (folder / name).exists():
        make(folder / name, X)
    return folder / name


def fitted(rows, **options):
    return KMeans(7, epochs=3, random_state=0, verbose=0, **options).fit(rows)


@pytest.fixture(scope="module")
def expected():
    return fitted(X)


def same(found, expected):
    return found.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes() and np.array_equal(
        np.asarray(found.labels_), expected.labels_
    )


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("a.lance", "saved")])
def test_every_kind_of_file_gives_the_bits_of_memory(folder, web, memory, expected, name):
    path = written(folder, name)
    memory.put(str(path), f"/emb/{name}", recursive=True)

    for url in (f"memory://emb/{name}", f"{web.url}/{name}"):
        rows = open_rows(url)

        assert (rows.names, rows.shape, rows.mapped) == ([url], X.shape, False)
        found = fitted(rows)
        assert (np.asarray(found.cluster_centers_) == expected.cluster_centers_).all()
        assert (np.asarray(found.labels_) == expected.labels_).all()
        order = torch.tensor([299, 0, 0, 41, 150])
        assert np.array_equal(rows.gather(order).to(torch.float32).numpy(), X[order.numpy()])


def test_the_same_rows_have_one_hash_wherever_they_are(folder, web, memory, hub, expected):
    path = written(folder, "a.parquet")
    memory.put(str(path), "/a.parquet")
    hub.put(str(path), "/datasets/me/mine/a.parquet")

    for url in (path.as_uri(), "memory://a.parquet", f"{web.url}/a.parquet", "hf://datasets/me/mine/a.parquet"):
        assert same(fitted(url), expected), url
        assert same(fitted(open_rows([url]), memory_limit=0), expected), "and if it is fetched in every pass"


def test_patterns_folders_and_lists(tmp_path, memory, hub, expected):
    for number, part in enumerate(np.split(X, [50, 150, 290])):
        parquet.write_table(table(part), tmp_path / f"{number}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "_other.npy").write_text("")
    for files, start in ((memory, "memory://"), (hub, "hf://datasets/me/")):
        files.put(str(tmp_path) + "/", start + "run/emb/", recursive=True)
        urls = [f"{start}run/emb/{number}.parquet" for number in range(4)]

        assert open_rows(f"{start}run/emb/*.parquet").names == urls
        assert open_rows(f"{start}run/emb").names == urls
        assert open_rows(f"{start}run/").names == urls
        assert open_rows(f"{start}run/emb/[0-3].parquet").names == urls
        assert same(fitted(urls), expected)
        assert same(fitted(f"{start}run/**/*.parquet"), expected)
    with pytest.raises(FileError, match=r"No file matches memory://run/\*\.parquet"):
        open_rows("memory://run/*.parquet")
    np.save(tmp_path / "b.npy", X)
    memory.put(str(tmp_path / "b.npy"), "/run/emb/b.npy")
    with pytest.raises(FileError, match=r"holds files of 2 kinds \(4 \.parquet, 1 \.npy\).*memory://run/\*\*/\*\.par"):
        open_rows("memory://run")
    memory.mkdir("/none")
    with pytest.raises(FileError, match="has no files with rows"):
        open_rows("memory://none")
    assert open_rows([tmp_path / "0.parquet", "memory://run/emb/1.parquet"]).shape == (150, 12)


def test_a_folder_and_a_pattern_of_a_web_server_that_lists_its_files(tmp_path, expected):
    (tmp_path / "emb").mkdir()
    for number, part in enumerate(np.split(X, [50, 150, 290])):
        parquet.write_table(table(part), tmp_path / "emb" / f"{number}.parquet")
    web = Web(tmp_path)
    urls = [f"{web.url}/emb/{number}.parquet" for number in range(4)]

    assert open_rows(f"{web.url}/emb/").names == urls
    assert open_rows(f"{web.url}/emb/*.parquet").names == urls
    assert same(fitted(f"{web.url}/emb/[0-3].parquet"), expected)
    web.close()


def test_folders_that_are_data_sets_are_found_in_folders(tmp_path, memory):
    pytest.importorskip("zarr")
    for name in ("1.zarr", "2.zarr"):
        KINDS["three.zarr"][0](tmp_path / name, X)
        memory.put(str(tmp_path / name), f"/emb/{name}", recursive=True)

    assert open_rows("memory://emb").names == ["memory://emb/1.zarr", "memory://emb/2.zarr"]
    assert open_rows("memory://emb/*.zarr").shape == (600, 12)


def test_a_folder_that_datasets_saved(tmp_path, memory, expected):
    """Its state and its files, as `datasets` writes them, with an indices mapping."""
    order = RNG.permutation(300)
    for name, columns in (("data", table(X[order])), ("indices", pyarrow.table({"indices": np.argsort(order)}))):
        with pyarrow.ipc.new_stream(str(tmp_path / f"{name}.arrow"), columns.schema) as stream:
            stream.write_table(columns, max_chunksize=70)
        memory.put(str(tmp_path / f"{name}.arrow"), f"/saved/{name}.arrow")
    state = '{"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": [{"filename": "indices.arrow"}]}'
    memory.pipe("/saved/state.json", state.encode())

    assert same(fitted("memory://saved"), expected)


def test_files_are_sorted_by_their_urls_or_by_their_numbers(memory):
    for number in range(12):
        file = io.BytesIO()
        np.save(file, X[25 * number :][:25])
        memory.pipe(f"/emb/part_{number}.npy", file.getvalue())

    with pytest.warns(FileOrderWarning, match=r"memory://emb: 12 files by their paths \(part_10.npy before part_2.npy"):
        by_path = open_rows("memory://emb")
    assert by_path.names[2] == "memory://emb/part_10.npy"
    assert open_rows("memory://emb/part_*.npy", order="natural").names[2] == "memory://emb/part_2.npy"


def test_numbers_that_torch_stores_and_weights(tmp_path, memory):
    from safetensors.torch import save_file

    narrow = torch.from_numpy(X).to(torch.bfloat16)
    save_file({"rows": narrow, "other": torch.ones(3)}, tmp_path / "a.safetensors")
    memory.put(str(tmp_path / "a.safetensors"), "/a.safetensors")
    np.save(tmp_path / "bits.npy", X.astype(np.float16).view(np.uint16))
    memory.put(str(tmp_path / "bits.npy"), "/bits.npy")
    np.save(tmp_path / "w.npy", np.arange(300.0))
    memory.put(str(tmp_path / "w.npy"), "/w.npy")
    X.tofile(tmp_path / "a.bin")
    memory.put(str(tmp_path / "a.bin"), "/a.bin")

    rows = open_rows("memory://a.safetensors", key="rows")
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows.read(slice(7, 90)), narrow[7:90])
    bits = open_rows("memory://bits.npy", dtype="float16")
    assert np.array_equal(bits.read(slice(0, 300)).numpy(), X.astype(np.float16))
    assert np.array_equal(open_array("memory://w.npy", n_dims=1), np.arange(300.0))
    raw = open_rows("memory://a.bin", shape=(300, 12), dtype="float32")
    assert np.array_equal(raw.read(slice(290, 300)).numpy(), X[290:])


def test_no_more_is_fetched_than_is_asked_for(tmp_path):
    rows = RNG.standard_normal((20_000, 64)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows)
    parquet.write_table(
        pyarrow.table({EMBEDDING: lists(rows), "text": ["x" * 100] * 20_000}), tmp_path / "a.parquet",
        compression="none", use_dictionary=False,
    )  # fmt: skip
    web = Web(tmp_path)

    reader = open_reader(place_of(f"{web.url}/a.npy"), Wanted())
    web.asked.clear()
    found = reader.read(4000, 8000)
    ranges = [asked for _, asked, _ in web.asked if asked]
    assert np.array_equal(found.numpy(), rows[4000:8000])
    assert ranges == [f"bytes={128 + 4000 * 256}-{128 + 8000 * 256 - 1}"]

    web.asked.clear()
    facts = look(f"{web.url}/a.parquet")
    assert (facts.rows, facts.features, facts.mapped) == (20_000, 64, False)
    fetched = sum(length(asked) for _, asked, _ in web.asked if asked)
    assert fetched <= (64 << 10) + 8, "the end of the file, in which the footer is"
    assert len([path for path, *_ in web.asked]) <= 5

    web.asked.clear()
    reader = open_reader(place_of(f"{web.url}/a.parquet"), Wanted())
    assert np.array_equal(reader.read(0, 20_000).numpy(), rows)
    fetched = sum(length(asked) for _, asked, _ in web.asked if asked)
    column = parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).total_compressed_size
    assert column <= fetched <= column + (64 << 10) + 8, "one column and the footer"
    web.close()


def length(asked):
    start, end = asked.removeprefix("bytes=").split("-")
    return int(end) - int(start) + 1


def test_single_rows_cost_a_piece_each_not_the_file(tmp_path, memory, monkeypatch):
    np.save(tmp_path / "a.npy", np.tile(X, (100, 30)))  # 43 MB
    memory.put(str(tmp_path / "a.npy"), "/a.npy")
    opened = open_rows("memory://a.npy")
    fetched = []
    plain = MemoryFile.read
    monkeypatch.setattr(MemoryFile, "read", lambda self, n=-1: fetched.append(n) or plain(self, n))

    found = opened.gather(torch.tensor([29_999, 3, 4, 15_000]))

    assert np.array_equal(found.numpy(), np.tile(X, (100, 30))[[29_999, 3, 4, 15_000]])
    assert len(fetched) == 3
    assert sum(fetched) <= 3 << 20


def test_texts_of_urls(tmp_path, memory, web, folder):
    texts = [f"text {number}" for number in range(300)]
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet")
    memory.put(str(tmp_path / "t.parquet"), "/t.parquet")
    np.save(folder / "rows.npy", X)

    assert read_texts(f"{web.url}/texts.txt", 300) == texts
    assert read_texts("memory://t.parquet", 300) == texts


def test_commands_take_urls(tmp_path, monkeypatch, memory, capsys):
    monkeypatch.chdir(tmp_path)
    parquet.write_table(table(X).append_column("text", pyarrow.array(["a text"] * 300)), "a.parquet")
    memory.put("a.parquet", "/emb/a.parquet")
    memory.pipe("/texts.txt", b"a text\n" * 300)
    np.save("w.npy", np.ones(300))
    memory.put("w.npy", "/w.npy")

    texts = ["--texts", "memory://texts.txt", "--weights", "memory://w.npy", "--id-column", "id", "-q"]
    assert run(["fit", "memory://emb/*.parquet", "-k", "5", *texts]) == 0
    assert run(["predict", "cosmeans-emb", "memory://emb/a.parquet", "-q"]) == 0
    assert np.array_equal(np.load("labels.npy"), np.load("cosmeans-emb/labels.npy"))
    assert run(["predict", "cosmeans-emb", "memory://emb/*.parquet", "--id-column", "id", "--out", "all/", "-q"]) == 0
    table_of_labels = parquet.read_table("all/a.parquet")
    assert np.array_equal(table_of_labels["cluster"], np.load("labels.npy"))
    assert "a text" in (tmp_path / "cosmeans-emb" / "clusters.md").read_text()
    assert run(["info", "memory://emb/a.parquet"]) == 0
    assert "300 rows x 12 float32" in capsys.readouterr().out
    assert run(["fit", "memory://emb/none.parquet", "-k", "5"]) == 2
    assert "No such file: memory://emb/none.parquet." in capsys.readouterr().err
    assert run(["fit", "memory://emb/a.parquet", "-k", "5", "--out", "s3://bucket/out"]) == 2
    assert "everything else needs a path on a disk" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["web", "memory"])
def test_labels_of_a_url_that_changes_are_not_continued(where, web, folder, memory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    KMeans(3, random_state=0, verbose=0).fit(X).save("model")
    url = f"{web.url}/labelled.npy?token=SECRET" if where == "web" else "memory://labelled.npy"

    def put(rows):
        np.save(folder / "labelled.npy", rows)
        memory.put(str(folder / "labelled.npy"), "/labelled.npy")

    put(X)
    command = ["predict", "model", url, "--out", "labels/", "-q"]
    assert run(command) == 0
    written = (tmp_path / "labels" / "labelled.parquet").stat().st_mtime_ns
    assert run(command) == 0
    assert (tmp_path / "labels" / "labelled.parquet").stat().st_mtime_ns == written
    manifest = (tmp_path / "labels" / "_manifest.json").read_text()
    entry = json.loads(manifest)["inputs"][0]
    changed = str(memory.info("/labelled.npy")["created"])
    version = fsspec.filesystem("http").info(url)["ETag"] if where == "web" else changed
    assert (entry["bytes"], entry["version"]) == ((folder / "labelled.npy").stat().st_size, version)
    assert "SECRET" not in manifest

    put(-X)  # of the same size
    capsys.readouterr()
    assert run(command) == 2
    assert "labelled.npy was changed since" in capsys.readouterr().err
    assert run([*command, "--force"]) == 0
    labels = parquet.read_table("labels/labelled.parquet")["cluster"].to_numpy()
    assert np.array_equal(labels, KMeans.load("model").predict(-X))


def test_a_folder_behind_a_url_is_known_by_its_files(memory, web):
    memory.pipe({"/a.zarr/zarr.json": b"{}", "/a.zarr/c/0": b"1234"})
    place = place_of("memory://a.zarr")
    before = place.fingerprint()
    assert (before.bytes, place.fingerprint()) == (6, before)

    memory.pipe("/a.zarr/c/0", b"4321")
    assert place.fingerprint().bytes == 6
    assert place.fingerprint().version != before.version
    assert place_of(f"{web.url}/a.zarr").fingerprint() == (None, None, None, None)  # web servers don't tell


def test_a_file_that_changes_is_an_error(memory, tmp_path, web, folder):
    np.save(tmp_path / "a.npy", X)
    parquet.write_table(table(X), folder / "changing.parquet")
    memory.put(str(tmp_path / "a.npy"), "/a.npy")
    array, rows = open_rows("memory://a.npy"), open_rows(f"{web.url}/changing.parquet")

    np.save(tmp_path / "a.npy", -X)
    memory.put(str(tmp_path / "a.npy"), "/a.npy")
    parquet.write_table(table(-X), folder / "changing.parquet")

    for opened in (array, rows):
        with pytest.raises(FileError, match=r"has changed since it was opened\. Open it again"):
            opened.read(slice(0, 300))


@pytest.mark.parametrize("name", ["a.parquet", "a.npy", "a.csv", "a.feather", "a.npz"])
def test_what_a_server_refuses_is_told_without_credentials(folder, web, name):
    written(folder, name)
    secret = f"http://me:pass%20word@{web.host}/{name}?token=SECRET"
    web.refused[f"/{name}?token=SECRET"] = 403

    with pytest.raises(FileError) as caught:
        open_rows(secret)

    assert str(caught.value).startswith(f"{web.url}/{name} can't be read (403, message='Forbidden'")
    shown = "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in shown
    assert "pass" not in shown


def test_credentials_are_used_and_not_shown(folder, web, capsys):
    written(folder, "a.npy")
    secret = f"http://me:password@{web.host}/a.npy?token=SECRET"
    web.asked.clear()

    rows = open_rows(secret)

    assert rows.names == [f"{web.url}/a.npy"]
    assert "SECRET" not in repr(rows)
    assert {path for path, *_ in web.asked} == {"/a.npy?token=SECRET"}
    assert all(authorization and authorization.startswith("Basic ") for *_, authorization in web.asked)
    assert run(["look", secret, "--json"]) == 0
    assert run(["look", secret, "--id-column", "id"]) == 2
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert f"{web.url}/a.npy" in text
        assert "SECRET" not in text
        assert "password" not in text


@pytest.mark.parametrize("name", ["a.parquet", "a.npy", "a.csv", "a.feather", "a.npz", "a.h5"])
def test_what_is_missing_is_told(web, memory, name):
    if name == "a.h5":
        pytest.importorskip("h5py")
    for url in (f"{web.url}/none-{name}", f"memory://none-{name}"):
        with pytest.raises(FileError, match=rf"No such file: {url}\."):
            open_rows(url)


def test_a_server_that_is_not_there(web):
    with pytest.raises(FileError, match=r"http://127\.0\.0\.1:9/a\.npy can't be read .* Check the address"):
        open_rows("http://127.0.0.1:9/a.npy")


@pytest.mark.parametrize("name", ["a.parquet", "a.npy", "a.csv"])
def test_a_connection_that_is_lost_while_rows_are_read(folder, web, name):
    rows = open_rows(f"{web.url}/{written(folder, name).name}")
    web.refused[f"/{name}"] = 503

    with pytest.raises(FileError, match=rf"{web.url}/{name} can't be read \(503.* Check the address, the right to"):
        rows.read(slice(0, 300))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", ["a.parquet", "a.npy", "a.feather"])
def test_a_server_without_ranges(tmp_path, name, told):
    web = Web(tmp_path, ranges=False, told=told)
    url = f"{web.url}/{written(tmp_path, name).name}"

    ours, theirs = (
        "its server does not give parts of files. Copy it to a disk",
        "doesn't appear to support range requests",
    )
    with pytest.raises(FileError, match=f"{url}.* (?:{re.escape(ours)}|{theirs})"):
        open_rows(url).read(slice(200, 300))
    web.close()


def test_a_file_that_is_cut_is_an_error(tmp_path, memory):
    for name in ("a.npy", "a.fbin", "a.safetensors", "a.parquet", "a.npz"):
        written(tmp_path, name)
        memory.pipe("/" + name, (tmp_path / name).read_bytes()[:-5])
        with pytest.raises(FileError, match=f"memory://{name}"):
            open_rows(f"memory://{name}").read(slice(0, 300))


def test_what_has_no_ranges_of_rows_is_refused(tmp_path, memory, monkeypatch):
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    memory.put(str(tmp_path / "f.npy"), "/f.npy")
    with pytest.raises(FileError, match=r"memory://f.npy is stored column by column.*ascontiguousarray"):
        open_rows("memory://f.npy")
    with pytest.raises(FileError, match=r"memory://a.lance: Lance reads s3, gs, az and disks. Copy the data set"):
        open_rows("memory://a.lance")
    written(tmp_path, "a.npz")
    memory.put(str(tmp_path / "a.npz"), "/a.npz")
    leave_memory(monkeypatch, 100)
    with pytest.raises(FileError, match=r"memory://a.npz has .*, and 100 bytes of memory are free"):
        open_rows("memory://a.npz")


def test_urls_that_no_file_system_knows():
    with pytest.raises(FileError, match=r"nonsense://a/b\.npy: .*nonsense.* Known are s3, gs, hf, https"):
        open_rows("nonsense://a/b.npy")


@pytest.mark.parametrize("module", ["fsspec", "aiohttp"])
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, module):
    for name in [name for name in sys.modules if name.split(".")[0] in ("fsspec", module)]:
        monkeypatch.delitem(sys.modules, name)  # what fsspec knows is read again
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(FileError, match=r"https://x\.org/a\.npy needs .*pip install \"cosmeans\[remote\]\""):
        open_rows("https://x.org/a.npy?token=1")


def test_a_file_system_whose_library_is_missing_is_told_with_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(FileError, match=r"Reading hf://datasets/me/a\.npy needs a library .*: Install huggingface_hub"):
        open_rows("hf://datasets/me/a.npy")


def test_urls_are_never_taken_for_paths(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=r"'s3:/bucket/a.npy', a URL. .* must be strings"):
        open_rows(Path("s3://bucket/a.npy"))
    with pytest.raises(FileError, match=r"a URL"):
        fitted(X).save("s3://bucket/model")
    assert list(tmp_path.iterdir()) == []
    np.save(tmp_path / "a.npy", X)
    assert place_of((tmp_path / "a.npy").as_uri()).name == str(tmp_path / "a.npy")
    assert place_of("C:/emb/a.npy").name == "C:/emb/a.npy"
    (tmp_path / "odd:").mkdir()
    np.save("odd:/a.npy", X)
    assert open_rows("odd:/a.npy").shape == X.shape


def test_a_list_of_urls_is_a_list_of_files_and_texts_are_not():
    with pytest.raises(FileError, match=r"memory://none\.npy"):
        KMeans(2).fit(["memory://none.npy", "memory://other.npy"])
    with pytest.raises(TypeError, match="text"):
        KMeans(2).fit(["see https://x.org for more", "the cat"])


def test_a_pickle_holds_the_url_with_its_credentials_and_shows_none(folder, web):
    """Another process needs them."""
    written(folder, "a.npy")
    rows = open_rows(f"http://me:password@{web.host}/a.npy?token=SECRET")
    web.asked.clear()

    again = pickle.loads(pickle.dumps(rows))

    assert again.names == [f"{web.url}/a.npy"]
    assert np.array_equal(again.read(slice(0, 300)).numpy(), X)
    assert {path for path, *_ in web.asked} == {"/a.npy?token=SECRET"}


def test_a_warning_shows_no_credentials():
    warning = CosmeansWarning("see https://me:word@x.org/a?token=1, and https://x.org/b?c.")

    assert str(warning) == "see https://x.org/a, and https://x.org/b."


def test_the_file_systems_error_is_the_cause(web):
    with pytest.raises(FileError) as caught:
        open_rows(f"{web.url}/none.npy")

    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_rows_of_other_lengths_are_told_with_their_url(tmp_path, memory):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :5])
    for name in ("a.npy", "b.npy"):
        memory.put(str(tmp_path / name), f"/{name}")

    with pytest.raises(InputError, match=r"memory://b.npy has rows of 5 numbers, memory://a.npy has rows of 12"):
        open_rows(["memory://a.npy", "memory://b.npy"])


@pytest.fixture
def s3(monkeypatch):
    """A server that answers as S3 does, with one bucket; Arrow finds it by the variables that AWS's tools know."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    from pyarrow.fs import S3FileSystem

    files = S3FileSystem(allow_bucket_creation=True, endpoint_override=f"{host}:{port}", scheme="http")
    files.create_dir("bucket")
    yield files
    server.stop()


@pytest.mark.soak
@pytest.mark.filterwarnings("default")  # of moto's own libraries
def test_rows_in_s3(tmp_path, s3, expected):
    def put(key, content):
        with s3.open_output_stream(f"bucket/{key}") as file:
            file.write(content)

    for number, part in enumerate(np.split(X, [50, 150])):
        parquet.write_table(table(part), tmp_path / "a.parquet")
        put(f"emb/{number}.parquet", (tmp_path / "a.parquet").read_bytes())
    for name in ("a.npy", "a.csv", "a.feather", "a.pt", "a.h5", "a.safetensors"):
        put(f"all/{name}", written(tmp_path, name).read_bytes())
    for path in written(tmp_path, "three.zarr").rglob("*"):
        if path.is_file():
            put(f"all/{path.relative_to(tmp_path)}", path.read_bytes())

    for url in ("s3://bucket/emb/*.parquet", "s3://bucket/emb", "s3://bucket/emb/"):
        rows = open_rows(url)
        assert rows.names == [f"s3://bucket/emb/{number}.parquet" for number in range(3)]
        assert same(fitted(rows), expected)
    for name in ("a.npy", "a.csv", "a.feather", "a.pt", "a.h5", "a.safetensors", "three.zarr"):
        found = fitted(f"s3://bucket/all/{name}")
        assert (np.asarray(found.cluster_centers_) == expected.cluster_centers_).all(), name
    rows = open_rows("s3://bucket/all/a.npy")
    put("all/a.npy", np.lib.format.MAGIC_PREFIX)
    with pytest.raises(FileError, match=r"s3://bucket/all/a\.npy has changed"):
        rows.read(slice(0, 300))
    word = "hidden"[::-1]
    for bucket in ("bucket", "nobody"):
        with pytest.raises(FileError, match=rf"No such file: s3://{bucket}/none\.parquet\.") as caught:
            open_rows(f"s3://me:{word}@{bucket}/none.parquet")
        assert word not in "".join(traceback.format_exception(caught.value))

"""Damaged files of every kind: what is read is what the format's own library reads, or one error of ours says why not.

Each kind starts from a small whole file; bytes are cut, flipped, put in, taken out, or set to the largest numbers. The
reader runs in a child with little memory and a limit of time, so a crash, a hang or a size that was believed fails the
test and not its run. Every case has a number: `mutated(whole, number)` makes it again.
"""

import csv
import gzip
import io
import json
import os
import random
import signal
import traceback

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from cosmeans import open_rows
from cosmeans.cli.texts import read_texts
from cosmeans.errors import CosmeansError, FileError
from cosmeans.model_file import load_model
from cosmeans.page.thumbnails import thumbnails
from cosmeans.rows.readers.array_files import open_array
from files_of import KINDS

ROWS = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
TEXTS = ["one", "", "zwölf", 'say "hi", you', "5", "a\tb", "7", "true", "9"]
VECTORS = [
    "a.parquet", "groups.parquet", "a.feather", "stream.arrow", "a.jsonl", "a.csv", "a.h5", "a.fvecs", "a.fbin"
]  # fmt: skip
MEMORY = 1 << 30  # bytes that the child may have beyond those it begins with
SECONDS = 20  # for one case, on a machine that does other work


def tables():
    """The texts as CSV and as JSON lines."""
    table = io.StringIO()
    csv.writer(table).writerows([("n", "text"), *enumerate(TEXTS)])
    lines = "".join(json.dumps({"n": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
    return table.getvalue().encode(), lines.encode()


def written(folder):
    """A whole file of every kind: {name: bytes}."""
    np.save(folder / "a.npy", ROWS)
    np.savez(folder / "a.npz", rows=ROWS)
    np.savez_compressed(folder / "packed.npz", rows=ROWS)
    torch.save(torch.from_numpy(ROWS), folder / "a.pt")
    torch.save({"rows": torch.from_numpy(ROWS)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file({"rows": torch.from_numpy(ROWS)}, folder / "a.safetensors")
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(folder / "a.png")
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(folder / "a.jpg")
    parquet.write_table(pyarrow.table({"n": range(9), "text": TEXTS}), folder / "t.parquet")
    table, lines = tables()
    plain = "\n".join(TEXTS).encode()
    for name, content in (("t.csv", table), ("t.jsonl", lines), ("t.txt", plain)):
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    for name in VECTORS:
        KINDS[name][0](folder / f"rows of {name}", ROWS)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mutated(whole, number):
    """The file with one to three wounds, the same for the same number."""
    chosen = random.Random(number)
    content = bytearray(whole)
    for _ in range(chosen.randint(1, 3)):
        # headers stand at one of the ends
        place = min(int(chosen.paretovariate(0.5)), len(content)) - 1 if chosen.random() < 0.5 else None
        place = chosen.randrange(len(content) + 1) if place is None else max(0, place)
        place = max(0, len(content) - place) if chosen.random() < 0.3 else place
        match chosen.randrange(8):
            case 0:
                del content[place:]
            case 1 | 2:
                for at in range(place, min(place + chosen.randint(1, 3), len(content))):
                    content[at] ^= 1 << chosen.randrange(8)
            case 3:
                content[place:place] = chosen.randbytes(chosen.randint(1, 40))
            case 4:
                del content[place : place + chosen.randint(1, 20)]
            case 5:
                width = chosen.choice((1, 2, 4, 8))
                content[place : place + width] = b"\xff" * (width - 1) + bytes([chosen.choice((0x7F, 0xFF))])
            case 6:
                digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
                for at in chosen.sample(digits, min(len(digits), 3)):
                    content[at] = ord("9")
            case 7:
                content[place:place] = content[place : place + chosen.randint(1, 60)] * chosen.randint(1, 3)
    return bytes(content)


def official(path):
    """What the format's own library reads, or None if it can't."""
    if path.name.startswith("rows of "):
        return None  # values that are wounded are other values, and what is not read is an error
    try:
        match path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes:
            case [".npy"]:
                return np.load(path)
            case [".npz"]:
                with np.load(path) as archive:
                    return archive["rows"]
            case [".pt"]:
                loaded = torch.load(path, weights_only=True)
                return np.asarray(loaded["rows"] if isinstance(loaded, dict) else loaded)
            case [".safetensors"]:
                return load_file(path)["rows"].numpy()
            case [".parquet"]:
                return ["" if text is None else str(text) for text in parquet.read_table(path)["text"].to_pylist()]
            case [kind] | [kind, ".gz"]:
                raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                return official_texts(kind, raw.decode("utf-8-sig"))
    except BaseException:  # noqa: BLE001  other people's readers
        return None


def official_texts(kind, text):
    match kind:
        case ".txt":
            return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
        case ".jsonl":
            cells = [json.loads(line).get("text") for line in text.removesuffix("\n").split("\n")]
            return ["" if cell is None else str(cell) for cell in cells]
        case ".csv":
            return [row["text"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def ours(path):
    if path.name.startswith("rows of "):
        rows = open_rows(path)
        return rows.read(slice(0, len(rows))).numpy()
    match path.suffix:
        case ".png" | ".jpg":
            (found,) = thumbnails([str(path)], 8)
            if isinstance(found, FileError):
                raise found
            return found
        case ".npy" | ".npz" | ".pt" | ".safetensors":
            opened = open_array(path, None if path.name in ("a.npy", "a.pt") else "rows")
            return np.array(opened) if isinstance(opened, np.ndarray) else opened.float().numpy().copy()
        case _:
            return read_texts(path, len(TEXTS), None if ".txt" in path.name else "text")


def wrong(path):
    """What is wrong with the answer to a damaged file; None for the right array, or an error that names the file."""
    try:
        found = ours(path)
    except CosmeansError as error:
        return None if path.name in str(error) else f"the error does not name the file: {error}"
    except BaseException:  # noqa: BLE001  this is what is looked for
        return traceback.format_exc()
    expected = official(path)
    if expected is None or path.suffix in (".png", ".jpg"):
        return None
    same = np.array_equal(found, np.asarray(expected, np.float32), equal_nan=True) if path.suffix in (
        ".npy", ".npz", ".pt", ".safetensors") else found == expected  # fmt: skip
    return None if same else f"read {found!r:.300} instead of {expected!r:.300}"


def in_a_child(work):
    """The lines that `work` yields in a child with little memory; the last one says how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource = pytest.importorskip("resource")
        begin = int(open("/proc/self/statm").read().split()[0]) * 4096  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (begin + MEMORY, begin + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 1
        try:
            with os.fdopen(writer, "w") as told:
                for line in work():
                    told.write(json.dumps(line) + "\n")
                    told.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as told:
        lines = [json.loads(line) for line in told]
    return [*lines, ["ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]]


def check(folder, numbers):
    whole = written(folder)

    def work():
        for name, content in whole.items():
            assert wrong(folder / name) is None
            ours(folder / name)  # whole files are read
            for number in numbers:
                (folder / name).write_bytes(mutated(content, number))
                signal.alarm(SECONDS)
                yield ["at", name, number]
                if found := wrong(folder / name):
                    yield ["wrong", name, number, found]
                signal.alarm(0)

    lines = in_a_child(work)
    failed = [line for line in lines if line[0] == "wrong"]
    assert not failed, f"{len(failed)}, as {failed[:3]}"
    assert lines[-1] == ["ended", 0], f"ended at {lines[-2]} with {lines[-1]}"


linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the memory of a process from /proc")


@pytest.mark.linux
@linux
def test_damaged_files_are_read_right_or_told(tmp_path):
    check(tmp_path, range(25))


@pytest.mark.linux
@linux
@pytest.mark.soak
@pytest.mark.parametrize("start", range(0, 4000, 500))
def test_many_damaged_files_are_read_right_or_told(tmp_path, start):
    check(tmp_path, range(1000 + start, 1500 + start))


@pytest.mark.linux
@linux
@pytest.mark.soak
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_damaged_models_are_loaded_right_or_told(tmp_path, fitted_model, name):
    whole = (fitted_model / name).read_bytes()
    expected = load_model(fitted_model).centroids

    def work():
        for number in range(1500):
            (fitted_model / name).write_bytes(mutated(whole, number))
            signal.alarm(SECONDS)
            yield ["at", number]
            try:
                if not torch.equal(load_model(fitted_model).centroids, expected):
                    yield ["wrong", number, "other centroids"]
            except CosmeansError:
                pass
            except BaseException:  # noqa: BLE001  this is what is looked for
                yield ["wrong", number, traceback.format_exc()]
            signal.alarm(0)

    lines = in_a_child(work)
    assert [line for line in lines if line[0] == "wrong"] == []
    assert lines[-1] == ["ended", 0], f"ended at {lines[-2]} with {lines[-1]}"


@pytest.fixture
def fitted_model(tmp_path):
    from cosmeans import KMeans

    KMeans(3, random_state=0, verbose=0).fit(ROWS).save(tmp_path / "model")
    return tmp_path / "model"


def test_the_same_number_makes_the_same_damage():
    assert mutated(bytes(100), 5) == mutated(bytes(100), 5)
    assert len({mutated(bytes(100), number) for number in range(50)}) > 25

"""The outputs of a command are one: all of one fit, or what was there before, whatever happens in between."""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from pyarrow import parquet

import refusing
from cosmeans import KMeans, atomic
from cosmeans.cli import outputs, run
from cosmeans.cli.outputs import output_folder, write_fit
from cosmeans.errors import OutputExistsError

ROWS = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
FIT = "fit rows.npy -k 3 --out result --quiet"
EVERYTHING = f"{FIT} --texts texts.txt --report"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with rows, texts and the outputs of a fit of other options."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    (tmp_path / "texts.txt").write_text("".join(f"text {row}\n" for row in range(60)))
    return tmp_path


def content(path):
    """Every file under a path, with its bytes in short."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


STEPS = {  # what is flushed when this happens
    "model.safetensors": refusing.FULL,
    "labels.npy": refusing.FULL,
    "labels.parquet": RuntimeError("odd"),
    "history.json": KeyboardInterrupt(),
    "convergence.png": refusing.FULL,
    "clusters.md": KeyboardInterrupt(),
    "report.html": RuntimeError("odd"),
}


def test_a_fit_that_fails_half_way_leaves_everything_of_the_one_before(folder, monkeypatch, capfd):
    run(f"{EVERYTHING} --seed 5".split())
    before = content(folder)

    for name, error in STEPS.items():
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            refused = refusing.refuse_flush(patch, name, error=error)
            try:
                assert run(f"{EVERYTHING} --force".split()) == 1
            except RuntimeError as raised:
                assert raised is error  # noqa: PT017
        assert len(refused) == 1
        assert content(folder) == before, name
        assert sorted(os.listdir(folder)) == ["result", "rows.npy", "texts.txt"]
        if error is refusing.FULL:  # the folder is named, not what is written beside it
            path = os.path.join("result", "model" if name.startswith("model") else name)
            assert capfd.readouterr().err.startswith(f"Error: No space left to write {path};")


@pytest.mark.linux
def test_a_folder_belongs_to_one_fit_and_keeps_what_is_not_of_a_fit(folder):
    assert run(f"{EVERYTHING} --seed 5".split()) == 0
    (folder / "result" / "mine.txt").write_text("mine")
    (folder / "result" / "more" / "deep").mkdir(parents=True)
    (folder / "result" / "more" / "deep" / "notes.txt").write_text("notes")
    (folder / "result" / "link").symlink_to("nowhere")
    os.mkfifo(folder / "result" / "pipe")

    assert run(f"{FIT} --force".split()) == 0

    assert sorted(os.listdir("result")) == sorted(
        ["model", "labels.npy", "labels.parquet", "history.json", "convergence.png", "mine.txt", "more", "link", "pipe"]
    )
    assert (folder / "result/mine.txt").read_text() == "mine"
    assert (folder / "result/more/deep/notes.txt").read_text() == "notes"
    assert os.readlink("result/link") == "nowhere"
    assert KMeans.load("result/model").random_state == 0
    assert sorted(os.listdir(folder)) == ["result", "rows.npy", "texts.txt"]


@pytest.mark.linux
@pytest.mark.parametrize(
    "name", ["result", "result/labels.npy", "result/model", "result/model/notes", "result/report.html"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a file", "link to a folder", "socket"])
def test_force_replaces_no_other_thing_than_what_a_fit_writes(folder, monkeypatch, capsys, name, kind):
    path, aim = folder / name, folder / "aim"
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/null")
        case "link to a file":
            aim.write_text("precious")
            path.symlink_to(aim)
        case "link to a folder":
            aim.mkdir()
            (aim / "labels.npy").write_text("precious")
            path.symlink_to(aim)
        case "socket":
            monkeypatch.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as held:
                held.bind(path.name)
            monkeypatch.chdir(folder)
    before = os.lstat(path)
    monkeypatch.setattr(KMeans, "fit", lambda *_, **__: pytest.fail("outputs are checked before the work"))

    assert run(f"{FIT} --force".split()) == 2

    assert "--force replaces" in capsys.readouterr().err or name.endswith("notes")
    assert os.path.samestat(before, os.lstat(path))
    assert not aim.is_file() or aim.read_text() == "precious"
    assert not aim.is_dir() or (aim / "labels.npy").read_text() == "precious"


@pytest.mark.linux
@pytest.mark.parametrize(
    "command",
    [
        "predict result rows.npy --out x.npy",
        "outliers result rows.npy --out x.npy",
        "exemplars result rows.npy --out x.csv",
        "top result rows.npy --out x.csv",
        "dedup result rows.npy --out x.npy",
        "dedup result rows.npy --out y.npy --removed x.csv",
        "plot result --out x.png",
        "match result result --out x.json",
        "match result result --embeddings rows.npy --plot x.png",
        "report result rows.npy --out x.html",
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_no_command_replaces_anything_but_a_file(folder, fitted, command, kind):
    path = folder / next(part for part in command.split() if part.startswith("x."))
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/null")
        case "link":
            path.symlink_to(folder / "rows.npy")
        case "folder":
            path.mkdir()
    before, rows = os.lstat(path), (folder / "rows.npy").read_bytes()

    assert run(f"{command} --force".split()) == 2

    assert os.path.samestat(before, os.lstat(path))
    assert (folder / "rows.npy").read_bytes() == rows
    assert not (folder / "y.npy").exists()


@pytest.fixture
def fitted(folder):
    """A fitted model, also as a folder `result`."""
    kmeans = KMeans(3, random_state=0, verbose=0).fit(ROWS)
    kmeans.save(folder / "result")
    return kmeans


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("dedup result rows.npy --out a.npy --removed b.parquet --threshold 0.9", ["a.npy", "b.parquet"]),
        ("match result result --embeddings rows.npy --out a.json --plot b.png", ["a.json", "b.png"]),
    ],
)
def test_two_outputs_of_a_command_appear_together(folder, fitted, command, names):
    assert run(f"{command} --quiet".split()) == 0
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        with pytest.MonkeyPatch.context() as patch:
            refused = refusing.refuse_flush(patch, f".{name}.")
            assert run(f"{command} --quiet --force --json".split()) == 1

        assert len(refused) == 1
        assert {name: (folder / name).read_bytes() for name in names} == before


def test_one_file_for_two_outputs_is_refused(folder, fitted, capsys):
    assert run(["dedup", "result", "rows.npy", "--out", "a.csv", "--removed", "a.csv"]) == 2
    assert "both" in capsys.readouterr().err


def write(path, text):
    """Outputs as those of a fit, in the same steps: a folder in the folder, and files."""
    with output_folder(path, force=True) as new:
        with atomic.new_folder(new / "model") as model:
            (model / "model.json").write_text(text)
        for name in ("labels.npy", "history.json"):
            outputs.write_text(new / name, text)


def stepped(step, *arguments):
    """Write the outputs in a child that is killed before the given one of its calls; whether it was."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event, _):
            if event == "open" or event.startswith(("os.", "fcntl.", "ctypes.", "shutil.")):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            write(*arguments)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.linux
@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.soak)])
def test_outputs_killed_at_any_step_are_all_of_the_old_or_all_of_the_new(folder, monkeypatch, stride):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path = folder / "out"
    for step in range(1, 2000, stride):
        write(path, "old")
        killed = stepped(step, path, "new")

        texts = {file.read_text() for file in path.rglob("*") if file.is_file()}
        assert texts in ({"old"}, {"new"}), step
        assert len(content(path)) == 3
        if not killed:
            break
    assert not killed
    assert step > 50
    write(path, "newer")
    assert [name for name in os.listdir(folder) if name.startswith(".out")] == []


ENDLESS = """
from cosmeans.cli import run
for seed in range(10**9):
    run(f"fit rows.npy -k 3 --out result --quiet --force --texts texts.txt --report --seed {seed % 2}".split())
"""


@pytest.mark.soak
@pytest.mark.parametrize("start", range(4))
def test_fits_killed_at_any_moment_leave_the_outputs_of_one_fit(folder, start):
    times, fits = random.Random(start), [KMeans(3, random_state=seed, verbose=0).fit(ROWS) for seed in (0, 1)]
    labels = {fit.random_state_: fit.labels_ for fit in fits}  # by the seed that each has drawn
    assert run(f"{EVERYTHING} --seed 0".split()) == 0
    for _ in range(50):
        with subprocess.Popen([sys.executable, "-c", ENDLESS]) as fits:
            time.sleep(3 + 2 * times.random())
            fits.kill()

        seed = KMeans.load("result/model").random_state_
        assert np.array_equal(np.load("result/labels.npy"), labels[seed])
        assert parquet.read_table("result/labels.parquet")["cluster"].to_pylist() == labels[seed].tolist()
        assert json.loads((folder / "result/history.json").read_text())["seed"] == seed
        assert len(content(folder / "result")) == 8
    assert run(f"{EVERYTHING} --force".split()) == 0
    assert sorted(os.listdir(folder)) == ["result", "rows.npy", "texts.txt"]


def test_a_second_fit_into_one_folder_is_told_before_its_work(folder, monkeypatch, capsys):
    with output_folder(folder / "result", force=False):
        monkeypatch.setattr(KMeans, "fit", lambda *_, **__: pytest.fail("outputs are checked before the work"))
        assert run(FIT.split()) == 2
    assert "result is being written by another process" in capsys.readouterr().err
    with pytest.raises(OutputExistsError, match="already exists"), output_folder(folder / "result", force=False):
        pytest.fail("the block began")


def test_outputs_that_were_set_aside_are_found(folder, fitted):
    with output_folder(folder / "out", force=False) as new:
        write_fit(fitted, new)
    expected = content(folder / "out")
    (folder / "out").rename(folder / ".out.01234567.old")

    assert run(["info", "out", "--json"]) == 0
    assert content(folder / "out") == expected
    (folder / "result").rename(folder / ".result.01234567.old")
    assert KMeans.load(folder / "result").n_clusters == 3

"""Commands whose streams are closed, broken or odd: what is for people may be missing, what is a result may not."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cosmeans import KMeans
from cosmeans.cli import run
from cosmeans.demo_data import sample


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    (folder / "texts.txt").write_text("".join(f"é {row}\n" for row in range(60)), encoding="utf-8")
    KMeans(3, random_state=0, verbose=0).fit(rows).save(folder / "model")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """rows.npy (60 x 8), texts.txt and a model."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Ascii(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)


class OnlyWrite:
    def write(self, text):
        return len(text)

    def flush(self):
        pass


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


class Bad(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


# what comes of a table for people, and of JSON for a program
STDOUTS = {
    "none": (lambda: None, 0, 2),
    "closed": (closed, 0, 2),
    "ascii": (Ascii, 0, 0),
    "only write": (OnlyWrite, 0, 0),
    "broken": (Broken, 0, 1),
    "full": (Full, 1, 1),
    "bad": (Bad, 1, 1),
}
TOLD = ["evaluate model rows.npy", "top model rows.npy --texts texts.txt --force", "info model"]
SLOWER = [
    "fit rows.npy -k 3 --texts texts.txt --force",
    "outliers model rows.npy --force",
    "exemplars model rows.npy --texts texts.txt --force",
    "dedup model rows.npy --force",
    "match model model",
    "choose-k rows.npy --ks 2 --seeds 1",
    "info rows.npy",
]
ALL = [*TOLD, *(pytest.param(line, marks=pytest.mark.soak) for line in SLOWER)]


def first_word(line):
    return line.split()[0]


@pytest.mark.parametrize("kind", STDOUTS)
@pytest.mark.parametrize("line", ALL, ids=first_word)
def test_a_result_is_written_or_its_loss_is_told(folder, monkeypatch, capsys, kind, line):
    stream, table, record = STDOUTS[kind]
    for arguments, expected in ((line.split(), table), ([*line.split(), "--json"], record)):
        monkeypatch.setattr(sys, "stdout", stream())
        code = run(arguments)

        told = capsys.readouterr().err
        assert code == expected, told
        if code == 2:
            assert told == "Error: --json writes to the standard output, which is closed. Send it somewhere (> FILE).\n"
        if kind in ("full", "bad"):
            assert "write the standard output" in told
            assert told.count("Error") == 1


@pytest.mark.parametrize("kind", ["none", "closed", "ascii", "only write", "broken", "full"])
@pytest.mark.parametrize("line", [*ALL, "predict model none.npy", "nothing"], ids=first_word)
def test_without_a_stderr_everything_else_is_the_same(folder, monkeypatch, capsys, kind, line):
    code = run(line.split())
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stderr", STDOUTS[kind][0]())

    assert run(line.split()) == code
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("flags", "flag"),
    [("--out x.npy", "--out"), ("--json", "--json"), ("--key a", "--key"), ("--force", "--force")],
)
def test_what_has_no_effect_with_a_stream_is_told(folder, capsys, flags, flag):
    assert run(["predict", "model", "-", *flags.split()]) == 2
    assert f"Error: {flag} has no effect with -: rows come from stdin" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--arrow"])
def test_what_has_no_effect_with_a_file_is_told(folder, capsys, flags):
    assert run(["predict", "model", "rows.npy", *flags.split()]) == 2
    assert f"Error: {flags.split()[0]} has no effect without -" in capsys.readouterr().err


@pytest.mark.parametrize("stdin", [None, closed()])
def test_a_closed_stdin_is_told(folder, monkeypatch, capsys, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)

    assert run(["predict", "model", "-"]) == 2
    assert "Error: The standard input is closed, and rows are read from there." in capsys.readouterr().err


def test_a_stream_of_answers_ends_quietly_with_its_reader(folder, monkeypatch, capsys):
    rows = "\n".join(map(json.dumps, np.load("rows.npy").tolist())).encode()
    for kind, code, told in ((Broken, 1, ""), (Full, 1, "Error: No space left to write the standard output.")):
        stdin, stdout = io.TextIOWrapper(io.BytesIO(rows)), io.StringIO()
        stdout.buffer = kind()
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)

        assert run(["predict", "model", "-"]) == code
        assert capsys.readouterr().err.startswith(told)
        assert "Traceback" not in capsys.readouterr().err


def shell(line, **options):
    command = line.replace("cosmeans", f"{sys.executable} -m cosmeans")
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200, check=False, **options)


def test_a_process_without_any_stream_writes_the_same_files(folder):
    """What libraries write to 0, 1 and 2 must not get into a file that took the free number."""
    done = shell("cosmeans fit rows.npy -k 3 --texts texts.txt --out none <&- >&- 2>&-")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(["fit", "rows.npy", "-k", "3", "--texts", "texts.txt", "--out", "some", "--quiet"]) == 0
    for name in ("labels.npy", "labels.parquet", "clusters.md"):
        assert (folder / "none" / name).read_bytes() == (folder / "some" / name).read_bytes()


@pytest.mark.linux
@pytest.mark.soak
@pytest.mark.parametrize(
    "pipe", ["2>&-", ">&-", "<&-", "2>/dev/full", "| head -c 0", "2>&1 | head -c 0", "> /dev/full"]
)
@pytest.mark.parametrize("line", [*TOLD, "predict model rows.npy --force", "--help", "--version", "nothing"])
def test_processes_end_without_a_traceback(folder, line, pipe):
    done = shell(f"set -o pipefail; cosmeans {line} {pipe}")

    assert done.returncode in ((0, 1, 2, 141) if "|" in pipe or "full" in pipe else (2,) if line == "nothing" else (0,))
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.soak
def test_a_reader_that_leaves_ends_a_stream_of_answers_quietly(folder):
    rows, _ = sample()
    KMeans(3, random_state=0, verbose=0).fit(rows).save("texts")
    with open("lines", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row.tolist()) + "\n" for row in rows)

    done = shell("cosmeans predict texts - < lines | head -n 1; echo ${PIPESTATUS[0]}")

    assert done.stderr == ""
    assert done.stdout.split("\n")[1] == "1"
    assert os.path.exists("lines")

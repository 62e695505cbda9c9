"""Random command lines: whatever is typed, a command ends with 0, 1 or 2, and an error is one clear line.

The grammar is that of the commands themselves, so a new flag takes part at once. The oracle knows nothing of what the
flags mean: no exception, one printable line for an error, JSON where it was asked for, and no file left behind by a
command line that was refused.
"""

import json
import random
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from typer.main import get_command

from cosmeans import KMeans
from cosmeans.cli import app, run

COMMANDS = {name: command for name, command in get_command(app).commands.items() if name != "demo"}
WHOLE = ["0", "1", "2", "3", "-1", "61", "1000", "9" * 20, "1" + "0" * 400, "2.5", "x", "", "nan", "٣", "1_0"]
FEW = ["0", "1", "2", "-1", "x", "", "9" * 20]  # of what takes time in proportion
REAL = ["0", "0.5", "1", "-1", "2", "nan", "inf", "-inf", "1e400", "x", "", "1e-400"]
WORDS = [
    "",
    "x",
    "auto",
    "cpu",
    "gpu",
    "cuda:7",
    "cuda:x",
    "meta",
    "reference",
    "float32",
    "random",
    "nested",
    "k-means++",
]
WORDS += ["size", "closest", "farthest", "pca", "umap", "warn", "skip", "error", "move", "keep", "a", "\ud800\x1b[31m"]
READ = ["rows.npy", "a.npz", "model", "other", "texts.txt", "t.csv", "nothing.npy", "", ".", "/dev/null", "rows.npy/x"]
READ += ["bad.npy", "bad.npz", "bad.pt", "bad.safetensors", "bad.csv", "bad.parquet", "x" * 300 + ".npy", "a\0b.npy"]
WRITTEN = [
    "o.npy",
    "o.parquet",
    "o.csv",
    "o.json",
    "o.png",
    "o.html",
    "o",
    "",
    ".",
    "rows.npy",
    "model",
    "rows.npy/x.csv",
]
WRITTEN += ["x" * 300 + ".csv", "new/sub/o.csv", "a\0b.npy", "O.CSV"]
VALUES = {
    "n_init": FEW, "n_seeds": FEW, "ks": ["2", "2,3", "3,x", "", "2,,3", "1", "100", "9" * 20, "-2"],
    "out": WRITTEN, "plot": WRITTEN, "removed": WRITTEN,
    "model": ["model"] * 60 + READ, "old": ["model"] * 60 + READ, "new": ["other"] * 60 + READ,
    "embeddings": ["rows.npy"] * 60 + READ + ["-"], "path": READ,
    "n_clusters": ["3"] * 30 + WHOLE,
}  # fmt: skip
KINDS = {"int": WHOLE, "float": REAL, "Path": READ, "str": WORDS}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two models and rows that fit them, texts, tables, and damaged files of every kind."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    np.save("rows.npy", rows)
    np.savez("a.npz", a=rows, b=rows)
    Path("texts.txt").write_text("word\n" * 60)
    Path("t.csv").write_text("a,b\n" + "x,1\n" * 60)
    for ending in ("npy", "npz", "pt", "safetensors", "csv", "parquet"):
        Path("bad." + ending).write_bytes(bytes(range(200)))
    for k, name in ((3, "model"), (2, "other")):
        KMeans(k, random_state=0, verbose=0).fit(rows).save(name)
    return tmp_path


def random_line(source):
    """A command, its arguments and some of its flags, mostly with values of their kind."""
    if source.random() < 0.02:
        return [source.choice(["", "fly", "--x", "-", "fit", "\x1b"])]
    name = source.choice([*COMMANDS, "predict", "top", "match"])
    line, hints = [name], get_type_hints(COMMANDS[name].callback)
    for parameter in COMMANDS[name].params:
        kind = str(hints.get(parameter.name))
        values = VALUES.get(parameter.name) or next((KINDS[known] for known in KINDS if known in kind), WORDS)
        if parameter.param_type_name == "argument":
            line += [source.choice(values)] if source.random() < 0.98 else []
        elif parameter.name == "help":
            continue
        elif parameter.name == "n_clusters" or source.random() < 0.06:
            line += [source.choice(parameter.opts)]
            line += [] if "bool" in kind else [source.choice(values)]
    return line if source.random() < 0.98 else [*line, source.choice(WORDS)]


def check(line, folder, capsys):
    before = sorted(folder.rglob("*"))
    code = run(line)
    told = capsys.readouterr()
    errors = [text for text in told.err.split("\n") if text.startswith("Error: ")]
    assert code in (0, 1, 2)
    for text in (told.out, told.err):
        text.encode("utf-8")
        assert not set(text) & set("\x00\x1b\x07\r\x9b\u202e")
        assert "Traceback" not in text
    if code == 0:
        assert not errors
        if "--json" in line:
            json.loads(told.out)
    else:
        assert len(errors) == 1
        assert len(errors[0]) < 2500
        assert errors[0].endswith((".", "--help", "?", ")"))
    if code == 2:
        assert sorted(folder.rglob("*")) == before


def fuzz(folder, capsys, monkeypatch, seeds):
    monkeypatch.setattr("sys.stdin", None)
    for seed in seeds:
        line = random_line(random.Random(seed))
        try:
            check(line, folder, capsys)
        except BaseException as error:
            error.add_note(f"seed {seed}: cosmeans {line!a}")
            raise


@pytest.mark.linux
@pytest.mark.filterwarnings("default::UserWarning")
def test_random_command_lines(folder, capsys, monkeypatch):
    fuzz(folder, capsys, monkeypatch, range(25))


@pytest.mark.linux
@pytest.mark.soak
@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("start", range(1000, 11_000, 1000))
def test_many_random_command_lines(folder, capsys, monkeypatch, start):
    fuzz(folder, capsys, monkeypatch, range(start, start + 1000))

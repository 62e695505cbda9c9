"""Where an extra is not installed: each command works, or says before its work what is missing and how to get it."""

import json
import subprocess
import sys

import numpy as np
import pytest

HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding:
    names = sys.argv.pop(1).split(",")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.names else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
CHILD = """
import contextlib, io, json
from cosmeans.cli import run

told = []
for line in sys.stdin.read().splitlines():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(line.split())
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""
EXTRAS = "matplotlib,pyarrow,jinja2,PIL,pandas,h5py,zarr,fsspec,aiohttp"
INSTALL = 'is not installed. Install it with: pip install "cosmeans[{}]"'
PLOT = "Warning: {} is left out: matplotlib " + INSTALL.format("plot") + "\n"
TABLE = "Warning: labels.parquet is left out: pyarrow " + INSTALL.format("tables") + "\n"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """ran(lines, without): (exit code, stdout, stderr) of each command, where these packages are not installed."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(8)[:4], 50, axis=0) * 3 + rng.standard_normal((200, 8))
    np.save("rows.npy", rows.astype(np.float32))
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "texts.txt").write_text("text\n" * 200)

    def call(lines, without=EXTRAS):
        done = subprocess.run(
            [sys.executable, "-c", HIDING + CHILD, without], input="\n".join(lines), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return dict(zip(lines, json.loads(done.stdout), strict=True))

    return call


def test_commands_without_any_extra_but_cli(ran, tmp_path):
    works = {
        "fit rows.npy -k 4 --texts texts.txt --out a": PLOT.format("convergence.png") + TABLE,
        "fit rows.npy -k 4 -q --out b": PLOT.format("convergence.png") + TABLE,
        "predict a rows.npy --out l.npy": "",
        "info a": "",
        "look rows.npy": "",
        "choose-k rows.npy --ks 2,4 --seeds 2 --out c": PLOT.format("curve.png"),
        "evaluate a rows.npy": "",
        "match a b": "",
        "outliers a rows.npy --out o.npy": "",
        "exemplars a rows.npy --out e.npy": "",
        "dedup a rows.npy": "",
    }
    refused = {
        "fit rows.npy -k 4 --report --out n": 'jinja2, which is missing. Install it with: pip install "cosmeans[rep',
        "fit rows.npy -k 4 --partition-by-cluster --out n": 'pip install "cosmeans[tables]"',
        "fit rows.npy rows.npy -k 4 --out n": 'pip install "cosmeans[tables]". For labels alone, write .npy',
        "predict a rows.npy --out n.parquet": 'pip install "cosmeans[tables]"',
        "predict a - --arrow": "--arrow needs pyarrow, which " + INSTALL.format("tables"),
        "plot a": "A plot needs matplotlib, which " + INSTALL.format("plot"),
        "match a b --embeddings rows.npy --plot n.png": "--plot needs matplotlib, which " + INSTALL.format("plot"),
        "outliers a rows.npy": "outliers.parquet: a table needs pyarrow, which " + INSTALL.format("tables"),
        "dedup a rows.npy --out n.npy --removed n.csv": "n.csv: a table needs pyarrow, which "
        + INSTALL.format("tables"),
        "top a rows.npy": "top.parquet: a table needs pyarrow, which " + INSTALL.format("tables"),
        "report a rows.npy": 'jinja2, which is missing. Install it with: pip install "cosmeans[report]"',
        "fit rows.csv -k 4 --out n": "Reading rows.csv needs pyarrow",
    }

    told = ran([*works, *refused])

    for line, beginning in works.items():
        code, _, stderr = told[line]
        assert code == 0, (line, stderr)
        assert stderr.startswith(beginning), (line, stderr)
    for line, text in refused.items():
        code, stdout, stderr = told[line]
        assert (code, stdout) == (2, ""), (line, stderr)
        assert stderr.startswith("Error: "), (line, stderr)
        assert text in stderr, (line, stderr)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "clusters.md",
        "history.json",
        "labels.npy",
        "model",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("n")] == []


def test_the_demo_leaves_out_what_it_can_not_write(ran, tmp_path):
    ((code, stdout, stderr),) = ran(["demo --epochs 2"]).values()

    told = PLOT.format("convergence.png") + TABLE
    told += "Warning: report.html is left out: jinja2 " + INSTALL.format("report") + "\n"
    assert (code, stdout.splitlines()[0].split()) == (0, ["cluster", "rows", "similarity", "words"])
    assert stderr.startswith(told)
    assert not (tmp_path / "demo-output" / "report.html").exists()


def test_json_names_no_file_that_was_left_out(ran):
    lines = ["fit rows.npy -k 4 --json --out a", "choose-k rows.npy --ks 2,4 --seeds 2 --json --out c"]

    (_, fit, _), (_, choice, _) = ran(lines, "matplotlib").values()

    assert set(json.loads(fit)["files"]) == {"model", "labels", "table", "history"}
    assert "plot" not in json.loads(choice)


@pytest.mark.parametrize("missing", ["typer", "rich", "typer,rich"])
def test_the_version_needs_no_extra_and_help_says_which_it_needs(missing):
    code = HIDING + "from cosmeans.__main__ import main; main()"

    def child(argument):
        return subprocess.run([sys.executable, "-c", code, missing, argument], capture_output=True, text=True)

    version, told = child("--version"), child("--help")

    assert (version.returncode, version.stdout.split()[0], version.stderr) == (0, "cosmeans", "")
    words = missing.replace(",", ", ")
    assert (told.returncode, told.stdout) == (2, "")
    assert f'The command line needs {words}. Install what is missing with: pip install "cosmeans[cli]"' in told.stderr

"""The code of the README runs, and prints what the README says."""

import re
from pathlib import Path

import pytest

from cosmeans.cli import run

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
OUTPUT = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^cosmeans (.*?)(?: {2,}#.*)?$", README, re.MULTILINE)


def test_first_code_prints_what_stands_below_it(capsys):
    exec(compile(PYTHON[0], "README", "exec"), {})

    assert capsys.readouterr().out == OUTPUT[0]


def test_first_code_is_short():
    assert len([line for line in PYTHON[0].splitlines() if line]) <= 10


def test_tutorial_code_runs_and_goes_on():
    pytest.importorskip("matplotlib").use("Agg")
    names = {}
    exec(compile(PYTHON[1], "README", "exec"), names)
    names["plt"].close("all")

    assert len(names["kmeans"].similarities) == 20
    assert len(PYTHON) == 2


def test_commands_exist_with_their_options(capsys):
    """Every command of the README names options that its help knows."""
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        name, *words = command.split()
        assert run([name, "--help"]) == 0
        text = capsys.readouterr().out
        for option in (word for word in words if re.match(r"-{1,2}[a-z]", word)):
            assert option in text, f"{name} {option}"


def test_commands_have_their_files_from_the_first_one(tmp_path, monkeypatch):
    """Those that take seconds run; the others name files and models that are there by then."""
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        name, *words = command.split()
        for word in words:
            assert not word.startswith(("data/", "clusters")) or Path(word).exists() or words[-1] == word, command
        if name in ("fit", "predict", "dedup") or "--data" in words:
            assert run([name, *words, "-q"]) == 0
    assert {"labels.npy", "keep.npy", "clusters"} <= {path.name for path in tmp_path.iterdir()}


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target

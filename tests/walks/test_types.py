"""A program of ours as type checkers see it. mypy reads it in `make check`, with the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cosmeans

PROGRAM = Path(__file__).with_name("typed_program.py")
SOURCES = Path(cosmeans.__file__).parent.parent
WRONG = """
KMeans(3, zero_rows="drop")
KMeans(3).fit(torch.zeros(9, 2)).labels_.astype(int)
deduplicate(KMeans(3), [[1.0]], keep="best")
"""


def found_by_basedpyright(program, folder):
    checker = shutil.which("basedpyright", path=str(Path(sys.executable).parent)) or shutil.which("basedpyright")
    if checker is None:
        pytest.skip("basedpyright is not installed: pip install basedpyright")
    shutil.copytree(SOURCES / "cosmeans", folder / "cosmeans", ignore=shutil.ignore_patterns("*.npy", "__pycache__"))
    settings = {"include": [str(program)], "typeCheckingMode": "standard", "extraPaths": [str(folder)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [checker, "-p", str(folder / "pyrightconfig.json"), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return [found for found in report["generalDiagnostics"] if found["severity"] in ("error", "warning")]


@pytest.mark.soak
def test_basedpyright_finds_nothing_in_our_program_and_knows_its_types(tmp_path):
    assert found_by_basedpyright(PROGRAM, tmp_path) == []


@pytest.mark.soak
def test_basedpyright_finds_what_is_wrong(tmp_path):
    wrong = tmp_path / "wrong.py"
    text = PROGRAM.read_text(encoding="utf-8")
    wrong.write_text(text + WRONG, encoding="utf-8")

    lines = [found["range"]["start"]["line"] - text.count("\n") for found in found_by_basedpyright(wrong, tmp_path)]

    assert sorted(set(lines)) == [1, 2, 3]


@pytest.mark.soak
def test_the_program_runs(tmp_path):
    subprocess.run([sys.executable, str(PROGRAM)], cwd=tmp_path, check=True)

    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "model"}

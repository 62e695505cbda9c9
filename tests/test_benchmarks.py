"""The scripts of benchmarks/ agree with their tables; nothing is timed."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
HELPERS = {"cases", "common", "gpu_common", "peers"}
FILES = {path.stem: path for path in FOLDER.glob("*.py")}
SCRIPTS = sorted(set(FILES) - HELPERS)
pytestmark = pytest.mark.skipif(not FILES, reason="benchmarks/ is not part of the source distribution")


@pytest.fixture
def cases(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("cases")


def test_every_kind_of_rows_has_the_asked_shape_and_bits_that_never_change(cases):
    for name, make in cases.DATA.items():
        rows, first = make(7000 if name == "demo" else 300, 384, 20)
        again, _ = make(7000 if name == "demo" else 300, 384, 20)

        assert rows.shape == (7000 if name == "demo" else 300, 384), name
        assert first.shape == (20, 384), name
        assert rows.dtype == first.dtype == np.float32, name
        assert rows.tobytes() == again.tobytes(), name


def test_cases_have_names_of_their_own_and_rows_that_exist(cases):
    names = re.findall(r'Case\("([^"]+)"', FILES["cases"].read_text(encoding="utf-8"))

    assert len(names) == len(set(names))
    for case in cases.CASES.values():
        assert case.data in cases.DATA, case
        assert case.call in {"fit", "predict", "first"}, case
        assert case.clusters <= case.rows, case


def test_a_case_runs_and_its_digest_sees_every_bit(cases):
    answer = cases.prepare(cases.CASES["tiny"])()
    before = cases.digest(answer)
    np.asarray(answer.cluster_centers_).view(np.int32)[0, 0] ^= 1

    assert before != cases.digest(answer)
    assert before == cases.digest(cases.prepare(cases.CASES["tiny"])())
    assert len(cases.prepare(cases.CASES["predict, 10 rows"])()) == 10


@pytest.mark.parametrize("script", sorted(FILES))
def test_no_script_imports_another_script(script):
    tree = ast.parse(FILES[script].read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not names & set(SCRIPTS)


def test_the_readme_names_every_script():
    told = set(re.findall(r"^\| `(\w+)\.py", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE))

    assert told == set(SCRIPTS)


def test_the_pages_are_those_that_the_records_make(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["pages.py", "--check"])

    assert importlib.import_module("pages").main() == 0, capsys.readouterr().err


@pytest.mark.parametrize("file", sorted((FOLDER / "results").glob("*.jsonl")), ids=lambda file: file.stem)
def test_every_record_names_its_machine_and_a_command_that_repeats_it(file):
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        record = json.loads(line)

        assert record.get("device") or record.get("processor"), f"{file.name}:{number}"
        assert Path(record["command"].split()[0]).stem in SCRIPTS, f"{file.name}:{number}"

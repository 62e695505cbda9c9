"""The command that writes a page."""

import json

import numpy as np
import pytest

from clusters_page import three_groups
from cosmeans.cli import run
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def fitted():
    return three_groups()


def test_the_command_writes_the_page_that_python_writes(fitted, tmp_path, monkeypatch, capsys):
    kmeans, rows = fitted
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    kmeans.save("model")
    (tmp_path / "texts.csv").write_text("id,title\n" + "".join(f"{i},row number {i}\n" for i in range(90)))

    line = "report model rows.npy --texts texts.csv --column title --title Mine --examples 2 --sample 50 --json"
    assert run(line.split()) == 0

    told = json.loads(capsys.readouterr().out)
    texts = [f"row number {i}" for i in range(90)]
    expected = write_report("model", rows, "python.html", texts=texts, title="Mine", n_examples=2, sample=50)
    assert (tmp_path / "report.html").read_bytes() == expected.read_bytes()
    assert told == {"report": "report.html", "rows": 90, "bytes": expected.stat().st_size}
    assert run(line.split()) == 2
    assert "report.html already exists" in capsys.readouterr().err
    assert run([*line.split()[:3], "--sample", "-1", "--out", "new.html"]) == 2
    assert "sample must be an integer from 0 to 10,000" in capsys.readouterr().err

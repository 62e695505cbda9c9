"""The command that writes a page."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from clusters_page import data_of, rows_of, three_groups
from cosmeans import KMeans
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
    assert "sample must be an integer from 0 to 50,000" in capsys.readouterr().err


def test_columns_of_the_rows_are_filters_ids_and_links(fitted, tmp_path, monkeypatch):
    kmeans, rows = fitted
    monkeypatch.chdir(tmp_path)
    kmeans.save("model")
    KMeans(2, random_state=1, verbose=0).fit(rows).save("before")
    (tmp_path / "names.json").write_text('{"1": "middle"}')
    links = [f"https://example.org/{i}" for i in range(90)]
    table = {"id": list(range(100, 190)), "url": links, "kind": ["a", "b", "c"] * 30, "text": ["x"] * 90}
    pq.write_table(pa.table({"embedding": list(rows)} | table), "rows.parquet")

    line = "report model rows.parquet --column text --id-column id --link url --with kind --names names.json -q"
    assert run([*line.split(), "--compare", "before"]) == 0

    expected = write_report(
        "model", rows, "python.html", texts=table["text"], ids=table["id"], links=links, names={1: "middle"},
        columns={"kind": table["kind"]}, compare="before",
    )  # fmt: skip
    assert (tmp_path / "report.html").read_bytes() == expected.read_bytes()
    assert run([*line.split(), "--link", "nothing", "--out", "new.html"]) == 2
    assert run([*line.split(), "--names", "nothing.json", "--out", "new.html"]) == 2
    assert not (tmp_path / "new.html").exists()


def test_a_fit_names_its_page_after_its_rows(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = {"embedding": list(fitted[1]), "id": list(range(100, 190)), "kind": ["a", "b"] * 45}
    pq.write_table(pa.table(table), "fruits.parquet")
    line = "fit fruits.parquet -k 3 --report -q --out topics --id-column id --with kind"
    assert run(line.split()) == 0
    page = tmp_path / "topics" / "report.html"
    assert "<title>Clusters of fruits</title>" in page.read_text("utf-8")
    assert rows_of(page)["ids"] == [str(i) for i in table["id"]]
    assert data_of(page)["columns"][0]["values"] == ["a", "b"]

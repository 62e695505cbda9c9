"""The command that hands over to an explorer."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from clusters_page import three_groups
from cosmeans.cli import run
from cosmeans.export import write_parquet


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model and its rows."""
    kmeans, rows = three_groups()
    monkeypatch.chdir(tmp_path)
    kmeans.save("model")
    table = {"id": [f"id{i}" for i in range(90)], "kind": ["a", "b", "c"] * 30, "title": ["x", "y", "z"] * 30}
    pq.write_table(pa.table({"embedding": list(rows)} | table), "rows.parquet")
    return kmeans, rows, table


def test_the_command_writes_the_table_that_python_writes(here, tmp_path, capsys):
    kmeans, rows, table = here
    line = "export model rows.parquet --column title --id-column id --with kind --parquet out.parquet --json"
    assert run(line.split()) == 0

    told = json.loads(capsys.readouterr().out)
    columns = {"id": table["id"], "kind": table["kind"]}
    expected = write_parquet(kmeans, rows, "python.parquet", texts=table["title"], columns=columns, id_column="id")
    assert pq.read_table("out.parquet").equals(pq.read_table(expected))
    assert pq.read_table("out.parquet").column_names == [
        "row", "id", "cluster", "name", "similarity", "x", "y", "kind", "text"
    ]  # fmt: skip
    assert told == {"table": "out.parquet", "rows": 90, "bytes": (tmp_path / "out.parquet").stat().st_size}


def test_what_exists_or_has_another_suffix_is_refused_before_the_work(here, capsys):
    np.save("rows.npy", here[1])
    assert run(["export", "model", "rows.npy", "--parquet", "rows.csv"]) == 2
    assert "--parquet rows.csv: the table is written as .parquet" in capsys.readouterr().err
    assert run(["export", "model", "rows.npy", "--parquet", "rows.parquet"]) == 2
    assert "rows.parquet already exists" in capsys.readouterr().err

"""Tables that commands write have one order of columns: row, ids, cluster, similarity, others, carried ones, texts."""

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from cosmeans import KMeans
from cosmeans.cli import run

X = np.random.default_rng(3).standard_normal((90, 8)).astype(np.float32)
X[80:] = X[:10] + 0.001  # duplicates
COLUMNS = {"id": [f"n{row:02d}" for row in range(90)], "year": list(range(1900, 1990))}
TITLES = [f"text {row}" for row in range(90)]


def ran(line):
    return run(line.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), 8)
    table = pyarrow.table({"embedding": vectors, "title": TITLES, **COLUMNS})
    parquet.write_table(table, "rows.parquet")
    parquet.write_table(table.slice(0, 30), "more.parquet")
    cells = pyarrow.table({"embedding": [str(row) for row in X.tolist()], **COLUMNS})
    csv.write_csv(cells, "rows.csv")
    (tmp_path / "texts.txt").write_text("".join(f"{title}\n" for title in TITLES), encoding="utf-8")
    KMeans(4, random_state=0, verbose=0).fit(X).save("model")
    return tmp_path


FIRST = ["row", "id", "cluster", "similarity"]
ORDERS = {
    "fit rows.parquet -k 4 --out new": ("new/labels.parquet", [*FIRST, "year", "label"]),
    "predict model rows.parquet --out x.parquet": ("x.parquet", [*FIRST, "year", "label"]),
    "predict model rows.parquet --out parts/": ("parts/rows.parquet", [*FIRST, "year"]),
    "fit rows.parquet -k 4 --texts texts.txt --out new": ("new/labels.parquet", [*FIRST, "year", "text", "label"]),
    "fit more.parquet rows.parquet -k 4 --column title --out new": (
        "new/labels/rows.parquet",
        [*FIRST, "year", "text"],
    ),
    "predict model rows.parquet --texts texts.txt --out x.parquet": ("x.parquet", [*FIRST, "year", "text", "label"]),
    "predict model rows.parquet --column title --out x.parquet": ("x.parquet", [*FIRST, "year", "text", "label"]),
    "predict model rows.parquet --texts texts.txt --out parts/": ("parts/rows.parquet", [*FIRST, "year", "text"]),
    "predict model rows.csv --embedding embedding --texts texts.txt --out parts/": (
        "parts/rows.csv",
        [*FIRST, "year", "text"],
    ),
    "export model rows.parquet --texts texts.txt --projection pca --parquet x.parquet": (
        "x.parquet",
        ["row", "id", "cluster", "name", "similarity", "x", "y", "year", "text"],
    ),
    "outliers model rows.parquet --texts texts.txt --quantile 0.1 --out x.parquet": (
        "x.parquet",
        [*FIRST, "year", "text"],
    ),
    "outliers model rows.parquet --texts texts.txt --quantile 0.1 --out x.csv": ("x.csv", [*FIRST, "year", "text"]),
    "exemplars model rows.parquet --texts texts.txt --out x.parquet": ("x.parquet", [*FIRST, "year", "text"]),
    "top model rows.parquet --texts texts.txt --out x.csv": (
        "x.csv",
        ["row", "id", "rank", "cluster", "similarity", "year", "text"],
    ),
    "dedup model rows.parquet --texts texts.txt --removed x.parquet": (
        "x.parquet",
        [*FIRST, "original", "year", "text", "id of original", "year of original", "text of original"],
    ),
    "dedup model rows.parquet --texts texts.txt --out x.parquet": ("x.parquet", [*FIRST, "year", "text"]),
}


@pytest.mark.parametrize("command", ORDERS)
def test_each_table_has_the_same_columns_first_and_they_are_those_of_its_rows(folder, capsys, command):
    path, columns = ORDERS[command]

    assert run([*command.split(), "--id-column", "id", "--with", "year", "-q"]) == 0, capsys.readouterr().err

    table = csv.read_csv(path) if path.endswith(".csv") else parquet.read_table(path)
    assert table.column_names == columns
    found = table.to_pydict()
    rows = found["row"]
    assert len(rows) > 5
    assert found["id"] == [COLUMNS["id"][row] for row in rows]
    assert found["year"] == [COLUMNS["year"][row] for row in rows]
    if "text" in found:
        assert found["text"] == [f"text {row}" for row in rows]
    if "cluster" in found and "rank" not in found and not command.startswith("fit"):
        assert found["cluster"] == KMeans.load("model").predict(X)[rows].tolist()


def test_titles_are_lines_above_the_table(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for name, seed in (("old", 0), ("new", 1)):
        KMeans(12, random_state=seed, verbose=0).fit(X).save(name)

    assert ran("match old new --embeddings rows.parquet") == 0

    lines = capsys.readouterr().out.splitlines()
    assert "Clusters, least alike first" in lines
    assert any(line.startswith("Moves in ids of the old model, most rows first") for line in lines)


def test_texts_are_part_of_what_a_folder_of_labels_was_made_of(folder, capsys):
    (folder / "others.txt").write_text("other\n" * 90, encoding="utf-8")
    command = "predict model rows.parquet --out parts/ --json --texts"
    assert ran(f"{command} texts.txt") == 0
    assert ran(f"{command} texts.txt") == 0
    assert '"kept": 1' in capsys.readouterr().out.splitlines()[-1]

    assert ran(f"{command} others.txt") == 2

    assert "parts was written with other texts. Choose another folder" in capsys.readouterr().err
    assert ran("predict model rows.parquet --out parts/") == 2
    assert "parts was written with texts, this call is without texts." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--texts texts.txt", "Pass --out labels.parquet."),
        ("--column title --out x.npy", "Pass --out x.parquet."),
        ("--texts texts.txt --out parts/ --labels npy", "Remove one of them."),
    ],
)
def test_labels_alone_have_no_place_for_texts(folder, capsys, line, told):
    assert ran(f"predict model rows.parquet {line}") == 2

    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["fit rows.parquet -k 4", "predict model rows.parquet --out x.parquet", "top model rows.parquet"]
)
def test_a_carried_column_called_text_is_not_hidden_by_texts(folder, capsys, command):
    table = parquet.read_table("rows.parquet").rename_columns(["embedding", "text", "id", "year"])
    parquet.write_table(table, "rows.parquet")

    assert ran(f"{command} --with text --texts texts.txt") == 2

    assert "'text' can't be carried" in capsys.readouterr().err

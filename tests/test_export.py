"""One table for explorers: every row once, with the cluster that the model gives it, its name and a place."""

import numpy as np
import pytest
from pyarrow import parquet as pq

from cosmeans import KMeans
from cosmeans.errors import InputError, InputTypeError, OptionError, OutputExistsError
from cosmeans.export import write_parquet


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    kind = np.arange(300) % 4
    rows = (np.eye(4, 16)[kind] + 0.1 * rng.standard_normal((300, 16))).astype(np.float32)
    rows[7] = 0
    texts = [["ant", "bee", "cat", "dog"][k] for k in kind]
    texts[9] = "bee \ud800"
    return KMeans(4, init=np.eye(4, 16), verbose=0, zero_rows="skip").fit(rows), rows, texts


def test_every_row_has_its_cluster_name_similarity_and_place(fitted, tmp_path):
    kmeans, rows, texts = fitted
    columns = {"kind": texts, "id": range(1000, 1300), "score": np.linspace(0, 1, 300)}

    path = write_parquet(
        kmeans, rows, tmp_path / "rows.parquet", texts=texts, columns=columns, id_column="id", names={2: "given"}
    )

    table = pq.read_table(path)
    assert table.column_names == ["row", "id", "cluster", "name", "similarity", "x", "y", "kind", "score", "text"]
    found = table.to_pydict()
    assert found["row"] == list(range(300))
    assert found["id"] == list(range(1000, 1300))
    assert found["cluster"] == kmeans.labels_.tolist()
    assert found["similarity"] == pytest.approx(kmeans.similarity_.tolist(), abs=1e-6)
    assert found["score"] == columns["score"].tolist()
    for label, name, text in zip(found["cluster"], found["name"], texts, strict=True):
        expected = None if label < 0 else "given" if label == 2 else text.split()[0]
        assert name == expected
    assert found["text"][:7] == texts[:7]
    assert found["text"][9] == "bee \\ud800", "half of a character is written as its escape"


def test_rows_left_out_have_no_place(fitted, tmp_path):
    kmeans, rows, _ = fitted
    table = pq.read_table(write_parquet(kmeans, rows, tmp_path / "rows.parquet"))
    assert table.slice(7, 1).to_pylist() == [
        {"row": 7, "cluster": -1, "name": None, "similarity": 0.0, "x": None, "y": None}
    ]
    assert table.column("x").null_count == 1
    assert table.column("name")[0].as_py() == f"Cluster {kmeans.labels_[0]}"


def test_rows_of_a_cluster_are_close_on_the_map(fitted, tmp_path):
    kmeans, rows, _ = fitted
    table = pq.read_table(write_parquet(kmeans, rows, tmp_path / "rows.parquet", projection="tsne")).to_pydict()
    kept = kmeans.labels_ >= 0
    points = np.stack([table["x"], table["y"]], axis=1).astype(float)[kept]
    labels = kmeans.labels_[kept]
    middles = np.stack([np.median(points[labels == k], axis=0) for k in range(4)])
    assert (np.linalg.norm(points[:, None] - middles[None], axis=2).argmin(axis=1) == labels).mean() > 0.95


def test_mistakes_are_told_before_any_work(fitted, tmp_path):
    kmeans, rows, texts = fitted
    path = tmp_path / "rows.parquet"
    with pytest.raises(InputError, match="texts has 3 entries, the rows are 300"):
        write_parquet(kmeans, rows, path, texts=texts[:3])
    with pytest.raises(InputError, match=r"columns\['a'\] has 3 values, the rows are 300"):
        write_parquet(kmeans, rows, path, columns={"a": [1, 2, 3]})
    with pytest.raises(InputTypeError, match=r"columns\['a'\] must be a list with one value per row"):
        write_parquet(kmeans, rows, path, columns={"a": 3})
    with pytest.raises(InputError, match=r"columns\['a'\] can't be a column of a table"):
        write_parquet(kmeans, rows, path, columns={"a": [1, "b", *range(298)]})
    with pytest.raises(OptionError, match="The column 'name' can't be carried"):
        write_parquet(kmeans, rows, path, columns={"name": texts})
    with pytest.raises(OptionError, match="id_column is 'id'"):
        write_parquet(kmeans, rows, path, id_column="id")
    with pytest.raises(OptionError, match="projection must be one of"):
        write_parquet(kmeans, rows, path, projection="mds")
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="already exists"):
        write_parquet(kmeans, rows, path)

"""Rows in the page: all of them where they fit, else those of the map."""

import numpy as np
import pytest

from clusters_page import data_of, rows_of, three_groups
from cosmeans import KMeans
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def fitted():
    return three_groups()


def test_all_rows_are_in_the_page_with_what_is_known_of_them(fitted, tmp_path):
    kmeans, rows = fitted
    page = write_report(
        kmeans, rows, tmp_path / "page.html", texts=[f"text {i}" for i in range(90)], ids=range(1000, 1090),
        links=[f"https://example.org/{i}" for i in range(90)], columns={"half": ["a"] * 45 + ["b"] * 45}, sample=30,
    )  # fmt: skip

    found = rows_of(page)

    assert data_of(page)["rows"] == {"count": 90, "complete": True}
    assert found["row"] == list(range(90))
    assert found["cluster"] == kmeans.labels_.tolist()
    assert np.array(found["similarity"]) / 1e4 == pytest.approx(kmeans.similarity_, abs=6e-5)
    assert found["texts"][7] == "text 7"
    assert found["ids"][7] == "1007"
    assert found["links"][7] == "https://example.org/7"
    assert found["columns"] == [[0] * 45 + [1] * 45]
    assert len(found["map"]["at"]) == 30
    for place, cluster in enumerate(data_of(page)["clusters"]["id"]):
        own = kmeans.labels_[:45] == cluster, kmeans.labels_[45:] == cluster
        assert found["counts"][0][place] == [[half, int(rows.sum())] for half, rows in enumerate(own) if rows.any()]
    examples = data_of(page)["examples"]
    assert examples["ids"] == [str(1000 + row) for row in examples["row"]]


def test_rows_that_do_not_fit_are_those_of_the_map(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30_000, 8), np.float32)
    letters = rng.integers(97, 123, (30_000, 200), np.uint8)
    texts = [bytes(line).decode() for line in letters]  # of random letters: nothing to pack
    kmeans = KMeans(4, epochs=1, random_state=0, verbose=0).fit(rows)

    page = write_report(kmeans, rows, tmp_path / "page.html", texts=texts, sample=100)

    assert data_of(page)["rows"] == {"count": 100, "complete": False}
    found = rows_of(page)
    assert found["map"]["at"] == list(range(100))
    assert [texts[row][:50] for row in found["row"]] == [text[:50] for text in found["texts"]]
    assert page.stat().st_size < 1_000_000

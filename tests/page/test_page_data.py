"""What a page holds: its size has a bound, whatever the texts and however many clusters."""

import numpy as np
import pytest

from clusters_page import data_of
from cosmeans import KMeans
from cosmeans.report import write_report


@pytest.mark.soak
def test_ten_thousand_clusters_with_columns_stay_below_ten_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60_000, 4), np.float32)
    words = rng.integers(0, 3000, (60_000, 12))
    texts = [" ".join(f"word{word}" for word in line) for line in words.tolist()]
    kmeans = KMeans(10_000, epochs=1, random_state=0, verbose=0, empty_clusters="keep").fit(rows)
    columns = {str(i): rng.integers(0, 24, 60_000) for i in range(12)}

    page = write_report(
        kmeans, rows, tmp_path / "page.html", texts=texts, columns=columns, sample=50_000, projection="pca"
    )

    assert page.stat().st_size < 10_000_000
    assert len(data_of(page)["clusters"]["id"]) == 10_000


def test_a_thousand_clusters_with_long_texts_stay_below_ten_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((26_000, 16), np.float32)
    words = rng.integers(0, 500, (26_000, 40))
    texts = [" ".join(f"wörd{word}" for word in line) for line in words.tolist()]
    kmeans = KMeans(1000, epochs=1, random_state=0, verbose=0).fit(rows)

    page = write_report(kmeans, rows, tmp_path / "page.html", texts=texts, n_examples=50, sample=50_000)

    assert page.stat().st_size < 10_000_000
    listed = data_of(page)["clusters"]
    assert len(listed["id"]) == 1000
    assert all(best for best, size in zip(listed["best"], listed["size"], strict=True) if size)
    assert len(listed["best"][0]) < 50, "the bound was not tested: everything fitted"

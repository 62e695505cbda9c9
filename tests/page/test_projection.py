"""The map of a page by another projection."""

import json
import re
import sys
import types

import numpy as np
import pytest

from cosmeans import KMeans
from cosmeans.errors import OptionError
from cosmeans.report import write_report


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S).group(1))


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    rows = (np.eye(3, 8)[np.arange(90) % 3] + 0.3 * rng.standard_normal((90, 8))).astype(np.float32)
    return KMeans(3, random_state=0, verbose=0).fit(rows), rows


def test_the_map_is_made_by_umap_where_it_is_installed(fitted, tmp_path, monkeypatch):
    kmeans, rows = fitted
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, units):
            assert np.linalg.norm(units, axis=1) == pytest.approx(1.0)
            return np.stack([np.arange(len(units)), np.zeros(len(units))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    page = write_report(kmeans, rows, tmp_path / "page.html", projection="umap")

    assert (asked["metric"], asked["random_state"]) == ("cosine", kmeans.random_state_ % 2**32)
    assert data_of(page)["map"]["x"] == np.rint(np.arange(90) * 2000 / 89).tolist()
    assert "90 of the rows on a plane that keeps neighbours together (UMAP)" in page.read_text("utf-8")


def test_umap_is_asked_for_before_the_work(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(OptionError, match="pip install umap-learn"):
        write_report(*fitted, tmp_path / "page.html", projection="umap")

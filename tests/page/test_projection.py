"""The map of a page by another projection."""

import sys
import types

import numpy as np
import pytest

from clusters_page import data_of, three_groups
from cosmeans.errors import OptionError
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def fitted():
    return three_groups()


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

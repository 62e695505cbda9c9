"""The map: which projection makes it, where rows are placed, and what is said of it."""

import sys
import types

import numpy as np
import pytest

from clusters_page import rows_of, three_groups
from cosmeans.errors import OptionError
from cosmeans.page.projection import MAX_LANDMARKS, SIDE, announce, chosen, project
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def fitted():
    return three_groups()


@pytest.fixture
def umap(monkeypatch):
    """A stand-in for umap-learn, which puts all rows in a line; and what it was asked for."""
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, units):
            assert np.linalg.norm(units, axis=1) == pytest.approx(1.0)
            return np.stack([np.arange(len(units)), np.zeros(len(units))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    return asked


def groups(n_rows, n_clusters=6, dim=24):
    """Rows in tight groups around orthogonal centroids, their labels, and the centroids."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_rows) % n_clusters
    rows = np.eye(dim)[labels] + 0.1 * rng.standard_normal((n_rows, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels, np.eye(dim)[:n_clusters]


def placed(n_rows, projection="tsne", **options):
    rows, labels, centroids = groups(n_rows, **options)
    size = np.bincount(labels, minlength=len(centroids))
    found = project(lambda indices: rows[indices], np.arange(n_rows), centroids, size, projection, 3)
    return np.stack([found.x, found.y], axis=1), labels


@pytest.mark.parametrize("projection", ["umap", "auto"])
def test_the_map_is_made_by_umap_where_it_is_installed(fitted, tmp_path, umap, projection):
    kmeans, rows = fitted

    page = write_report(kmeans, rows, tmp_path / "page.html", projection=projection)

    assert (umap["metric"], umap["random_state"]) == ("cosine", kmeans.random_state_ % 2**32)
    x = np.array(rows_of(page)["map"]["x"])
    assert abs(np.diff(x)) == pytest.approx(SIDE / 89, abs=1)
    assert "90 of the rows on a plane that keeps neighbours together (UMAP)" in page.read_text("utf-8")


def test_without_umap_the_map_is_made_by_tsne(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert chosen("auto") == "tsne"
    page = write_report(*fitted, tmp_path / "page.html")
    assert "90 of the rows on a plane that keeps neighbours together (t-SNE)" in page.read_text("utf-8")


def test_umap_is_asked_for_before_the_work(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(OptionError, match="pip install umap-learn"):
        write_report(*fitted, tmp_path / "page.html", projection="umap")


def test_the_directions_of_pca_are_those_of_a_decomposition(fitted, tmp_path):
    kmeans, rows = fitted
    page = write_report(kmeans, rows, tmp_path / "page.html", projection="pca")
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    mapped = rows_of(page)["map"]
    for axis, values in enumerate((mapped["x"], mapped["y"])):
        assert abs(np.corrcoef(values, u[:, axis] * s[axis])[0, 1]) > 0.9999


@pytest.mark.parametrize("n_rows", [240, MAX_LANDMARKS + 500], ids=["each itself", "most between landmarks"])
def test_rows_are_next_to_those_of_their_cluster(n_rows):
    points, labels = placed(n_rows)

    assert points.min() == 0
    assert points.max() == SIDE
    middles = np.stack([np.median(points[labels == k], axis=0) for k in range(6)])
    distance = np.linalg.norm(points[:, None] - middles[None], axis=2)
    assert (distance.argmin(axis=1) == labels).mean() > 0.98
    assert len(np.unique(points, axis=0)) > 0.9 * n_rows, "rows of one cluster are not one point"


def test_the_same_rows_give_the_same_map():
    assert np.array_equal(placed(300)[0], placed(300)[0])


@pytest.mark.parametrize(
    ("n_rows", "n_clusters", "dim"), [(3, 3, 8), (4, 1, 8), (5, 2, 8), (9, 2, 2), (4, 4, 4)], ids=str
)
def test_few_rows_clusters_or_features_have_a_map_too(n_rows, n_clusters, dim):
    points, _ = placed(n_rows, n_clusters=n_clusters, dim=dim)
    assert points.shape == (n_rows, 2)
    assert ((points >= 0) & (points <= SIDE)).all()


def test_rows_that_are_all_the_same_have_a_map():
    rows = np.repeat(np.eye(4)[:1], 40, axis=0)
    found = project(lambda indices: rows[indices], np.arange(40), np.eye(4)[:3], np.array([38, 1, 1]), "tsne", 0)
    assert np.isfinite(found.x).all()


def test_two_rows_have_no_map():
    assert project(lambda indices: np.eye(4)[indices], np.arange(2), np.eye(4), np.ones(4), "tsne", 0) is None


@pytest.mark.parametrize(
    ("projection", "says"),
    [("tsne", "by t-SNE: about 6 s"), ("umap", "by UMAP: up to a minute, most of which it compiles"), ("pca", None)],
)
def test_what_takes_its_time_is_said_before(projection, says):
    told = []
    announce(told.append, projection, 10_000)
    assert [line.removeprefix("placing the rows on a map ") for line in told] == ([says] if says else [])
    announce(told.append, projection, 90)
    assert len(told) == bool(says), "few rows take no time"

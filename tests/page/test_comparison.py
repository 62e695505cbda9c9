"""Two models on one page: where the rows of each cluster were, by counting them."""

from collections import Counter

import numpy as np
import pytest

from clusters_page import data_of
from cosmeans import KMeans, match
from cosmeans.errors import InputError
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(0)
    rows = (np.eye(6, 16)[np.arange(300) % 6] + 0.25 * rng.standard_normal((300, 16))).astype(np.float32)
    texts = [["ant", "bee", "cat", "dog", "elk", "fox"][i % 6] for i in range(300)]
    old, new = (KMeans(k, random_state=0, verbose=0).fit(rows) for k in (7, 5))
    return old, new, rows, texts


def test_the_page_counts_where_rows_were(models, tmp_path):
    old, new, rows, texts = models
    old.save(tmp_path / "before")
    page = write_report(new, rows, tmp_path / "page.html", texts=texts, compare=tmp_path / "before")

    data, matched = data_of(page), match(old, new)
    found = data["comparison"]

    assert (found["title"], found["clusters"], found["nEnded"], found["started"]) == ("before", 7, 2, 0)
    for place, cluster in enumerate(data["clusters"]["id"]):
        counted = Counter(old.labels_[new.labels_ == cluster].tolist())
        assert dict(found["sources"][place]) == dict(counted.most_common(5))
        assert found["continues"][place] == matched.old_of_new[cluster]
    stayed = (matched.old_of_new[new.labels_] == old.labels_).sum()
    assert (found["rows"], found["stayed"]) == (300, stayed)
    assert sorted(cluster for cluster, *_ in found["ended"]) == np.flatnonzero(matched.new_of_old < 0).tolist()
    for cluster, size, goes in found["ended"]:
        assert size == (old.labels_ == cluster).sum()
        assert dict(goes) == dict(Counter(new.labels_[old.labels_ == cluster].tolist()))
    assert "Compared with before" in page.read_text("utf-8")


def test_a_model_of_other_features_is_refused_before_the_work(models, tmp_path):
    _, new, rows, _ = models
    other = KMeans(3, random_state=0, verbose=0).fit(rows[:, :8])
    with pytest.raises(InputError, match="8 and 16 features"):
        write_report(new, rows, tmp_path / "page.html", compare=other)

"""The page: right numbers, harmless texts, small, the same every time; used in a real browser by keyboard."""

import inspect
import re

import numpy as np
import pytest

from clusters_page import data_of
from cosmeans import KMeans
from cosmeans.errors import InputError, OptionError, OutputExistsError
from cosmeans.page.write import write_page
from cosmeans.report import write_report

HOSTILE = '</script><script>document.title="hacked"</script><img src=x onerror="document.title=1"> \ud800 &amp;'


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    rows = (np.eye(4, 16)[rng.integers(0, 4, 400)] + 0.2 * rng.standard_normal((400, 16))).astype(np.float32)
    rows[17] = 0
    texts = [
        f"{['apple', 'banana', 'cherry', 'damson'][int(row[:4].argmax())]} number {i}" for i, row in enumerate(rows)
    ]
    texts[5] = HOSTILE
    return KMeans(4, epochs=20, random_state=1, verbose=0, zero_rows="skip").fit(rows), rows, texts


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    kmeans, rows, texts = fitted
    return kmeans.report(rows, tmp_path_factory.mktemp("report") / "page.html", texts=texts, n_examples=50)


def test_sizes_similarities_and_examples_are_those_of_a_float64_brute_force(fitted, page):
    kmeans, rows, _ = fitted
    data = data_of(page)
    kept = np.linalg.norm(rows, axis=1) > 0
    unit = rows.astype(float) / np.where(kept, np.linalg.norm(rows.astype(float), axis=1), 1)[:, None]
    cosines = unit @ np.asarray(kmeans.cluster_centers_, float).T
    labels = np.where(kept, cosines.argmax(1), -1)
    for place, cluster in enumerate(data["clusters"]["id"]):
        own = cosines[labels == cluster, cluster]
        assert data["clusters"]["size"][place] == len(own)
        assert data["clusters"]["mean"][place] == pytest.approx(own.mean(), abs=6e-5)
        assert data["clusters"]["spread"][place] == pytest.approx(own.std(), abs=6e-5)
        assert data["clusters"]["quantiles"][place] == pytest.approx(
            np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95)), abs=6e-5
        )
        shown = [data["examples"]["similarity"][row] for row in data["clusters"]["best"][place]]
        assert shown == pytest.approx(np.sort(own)[::-1][:50], abs=6e-5)
        shown = [data["examples"]["similarity"][row] for row in data["clusters"]["worst"][place]]
        assert shown == pytest.approx(np.sort(own)[: len(shown)], abs=6e-5)


def test_distinctive_words_name_the_clusters(page):
    firsts = {words[0] for words in data_of(page)["clusters"]["words"]}
    assert firsts == {"apple", "banana", "cherry", "damson"}


def test_rows_left_out_are_told(page):
    text = page.read_text("utf-8")
    assert "1 row left out" in text
    assert "the first is row 17" in text


def test_texts_can_not_end_the_script(page):
    text = page.read_text("utf-8")
    assert "<img src=x" not in text
    assert text.count("</script>") == 3


def test_the_page_loads_nothing_and_is_the_same_every_time(fitted, page, tmp_path):
    kmeans, rows, texts = fitted
    again = write_report(kmeans, rows, tmp_path / "again.html", texts=texts, n_examples=50)
    assert again.read_bytes() == page.read_bytes()
    assert not re.search(r'(src|href)="(https?:)?//', page.read_text("utf-8"))


def test_a_model_and_the_function_take_the_same_options():
    """So does the page's own; each is spelled out, so that editors and help name them."""
    method, function, page = (
        dict(list(inspect.signature(f).parameters.items())[3:]) for f in (KMeans.report, write_report, write_page)
    )

    # a comparison is of two models: a method of one has none
    assert method == {name: option for name, option in function.items() if name != "compare"}
    assert method == {name: option for name, option in page.items() if name != "comparison"}
    assert len(method) >= 11


def test_mistakes_are_told_before_any_work(fitted, tmp_path):
    kmeans, rows, texts = fitted
    path = tmp_path / "page.html"
    with pytest.raises(InputError, match="texts has 3 entries, the rows are 400"):
        write_report(kmeans, rows, path, texts=texts[:3])
    with pytest.raises(OptionError, match="projection must be one of"):
        write_report(kmeans, rows, path, projection="mds")
    with pytest.raises(OptionError, match="n_examples must be an integer from 1 to 50"):
        write_report(kmeans, rows, path, n_examples=0)
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="already exists"):
        write_report(kmeans, rows, path)
    assert path.read_text() == "mine"


@pytest.mark.linux
def test_a_page_of_ours_is_replaced_and_a_link_to_one_is_not(fitted, tmp_path):
    kmeans, rows, _ = fitted
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(path)
    kmeans.report(rows, path, title="first", sample=0)
    write_report(kmeans, rows, path, title="second", sample=0)

    assert b"<title>second</title>" in path.read_bytes()
    for force in (False, True):
        with pytest.raises(OutputExistsError):
            kmeans.report(rows, link, force=force)
    path.write_text("<!doctype html><title>mine, of cosmeans</title>")
    with pytest.raises(OutputExistsError, match="already exists"):
        kmeans.report(rows, path)


def test_the_page_shows_the_random_state_that_was_given(page):
    assert "random_state 1 ·" in page.read_text(encoding="utf-8")

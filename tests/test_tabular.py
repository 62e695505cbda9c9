"""Every result is a table: its columns are the numbers of the result, whatever library reads them."""

import sys
from html.parser import HTMLParser

import numpy as np
import pandas
import pyarrow
import pytest
import torch

from cosmeans import KMeans, choose_k, deduplicate, evaluate, exemplars, match, members, moved, outliers, top, topics
from cosmeans.errors import OptionError
from cosmeans.result import History
from cosmeans.tabular import Tabular
from generators import unit_rows

X = unit_rows(400, 8, seed=1).astype(np.float32)
X[7] = 0.0
MODEL = KMeans(12, epochs=15, random_state=0, verbose=0, zero_rows="skip").fit(X)
OTHER = KMeans(10, epochs=15, random_state=1, verbose=0, zero_rows="skip").fit(X)
TEXTS = [f"text {row % 13} of row {row}" for row in range(400)]
LABELS, COSINES = MODEL.labels_, MODEL.similarity_
MADE = {
    "history": lambda rows: MODEL.history_,
    "top": lambda rows: top(MODEL, rows, 2),
    "outliers": lambda rows: outliers(MODEL, rows, quantile=0.1),
    "exemplars": lambda rows: exemplars(MODEL, rows, 3),
    "duplicates": lambda rows: deduplicate(MODEL, rows, 0.8),
    "members": lambda rows: members(MODEL, rows, 5),
    "topics": lambda rows: topics(MODEL, rows, TEXTS),
    "evaluation": lambda rows: evaluate(MODEL, rows),
    "choice": lambda rows: choose_k(rows[:200], [2, 3, 5], n_seeds=2, epochs=5, verbose=0),
    "match": lambda rows: match(MODEL, OTHER),
    "moves": lambda rows: moved(MODEL, OTHER, rows),
}
COLUMNS = {
    "history": ["epoch", "similarity", "shift", "changed", "moved", "imbalance", "largest", "empty"],
    "top": ["row", "rank", "cluster", "similarity"],
    "outliers": ["row", "cluster", "similarity"],
    "exemplars": ["row", "cluster", "similarity"],
    "duplicates": ["row", "cluster", "similarity", "original"],
    "members": ["row", "cluster", "similarity"],
    "topics": ["cluster", "size", "similarity", "words", "exemplars"],
    "choice": ["n_clusters", "similarity", "silhouette", "spread", "stability"],
    "match": ["old", "new", "similarity"],
    "moves": ["cluster", "before", "after", "stayed", "similarity"],
}
FOUND = {name: make(X) for name, make in MADE.items()}


class Table(HTMLParser):
    """The cells of a table, row by row, and all text outside of it."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.told = [], ""
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._cell = tag in ("td", "th") or (self._cell and tag == "br")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data
        else:
            self.told += data


def test_every_public_result_is_tried():
    assert {type(found).__name__ for found in FOUND.values()} == {
        cls.__name__ for cls in Tabular.__subclasses__() if cls.__module__.startswith("cosmeans.")
    }


@pytest.mark.parametrize("name", COLUMNS)
def test_the_columns_are_named_as_everywhere(name):
    assert FOUND[name].to_frame().columns.tolist() == COLUMNS[name]


def test_frames_hold_the_numbers_of_their_results():
    epochs = FOUND["history"].to_frame()
    assert epochs["epoch"].tolist() == list(range(1, len(MODEL.similarities) + 1))
    assert epochs["similarity"].tolist() == MODEL.similarities

    best = FOUND["top"].to_frame()
    first = best[best["rank"] == 1]
    assert first["row"].tolist() == [row for row in range(400) if row != 7]
    assert first["cluster"].tolist() == np.delete(LABELS, 7).tolist()
    assert first["similarity"].tolist() == np.delete(COSINES, 7).tolist()

    worst = FOUND["outliers"].to_frame()
    assert len(worst) == 39
    assert worst["cluster"].tolist() == LABELS[worst["row"]].tolist()
    assert worst["similarity"].tolist() == np.sort(np.delete(COSINES, 7))[:39].tolist()

    near = FOUND["exemplars"].to_frame()
    assert near["cluster"].tolist() == LABELS[near["row"]].tolist()
    assert near["similarity"].tolist() == COSINES[near["row"]].tolist()
    assert near["row"].nunique() == len(near)

    copies = FOUND["duplicates"].to_frame()
    assert len(copies) == 400 - len(FOUND["duplicates"].kept) > 5
    unit = X / np.maximum(1e-9, np.linalg.norm(X, axis=1, keepdims=True))
    cosines = (unit[copies["row"]] * unit[copies["original"]]).sum(axis=1)
    np.testing.assert_allclose(copies["similarity"], cosines, atol=1e-6)

    (measures,) = FOUND["evaluation"].to_frame().to_dict("records")
    assert measures == {k: v for k, v in FOUND["evaluation"].to_json().items() if k != "sizes"}

    pairs = FOUND["match"].to_frame()
    unit = [m.cluster_centers_[pairs[which]] for m, which in ((MODEL, "old"), (OTHER, "new"))]
    assert len(pairs) == pairs["new"].nunique() == 10
    np.testing.assert_allclose(pairs["similarity"], (unit[0] * unit[1]).sum(axis=1), atol=1e-6)

    rows = FOUND["moves"].to_frame()
    assert rows["stayed"].sum() == FOUND["moves"].stayed
    assert rows["before"].tolist() == np.bincount(np.delete(LABELS, 7)).tolist()


@pytest.mark.parametrize("name", MADE)
def test_tensors_give_the_tables_of_arrays(name):
    found = MADE[name](torch.from_numpy(X)).to_frame("arrow")

    assert found.equals(FOUND[name].to_frame("arrow"))


@pytest.mark.parametrize("name", MADE)
def test_arrow_streams_and_frames_of_every_library_hold_the_same(name):
    expected = FOUND[name].to_frame("arrow")

    assert pyarrow.table(FOUND[name]).equals(expected)
    assert pyarrow.Table.from_pandas(FOUND[name].to_frame(), preserve_index=False).to_pylist() == expected.to_pylist()
    assert isinstance(FOUND[name].to_frame("pandas"), pandas.DataFrame)


@pytest.mark.parametrize("name", MADE)
def test_polars_holds_the_same(name):
    polars = pytest.importorskip("polars")
    expected = FOUND[name].to_frame("arrow").to_pylist()

    assert FOUND[name].to_frame("polars").to_dicts() == expected
    assert polars.DataFrame(FOUND[name]).to_dicts() == expected


@pytest.mark.parametrize("name", MADE)
def test_a_result_is_one_short_line_and_a_table_in_a_notebook(name):
    found = FOUND[name]
    table = Table(found._repr_html_())
    frame = found.to_frame()

    assert repr(found).startswith(f"{type(found).__name__}(")
    assert len(repr(found)) < 100
    assert "\n" not in repr(found)
    assert repr(found) in table.told
    assert table.rows[0] == frame.columns.tolist()
    assert len(table.rows) - 1 == min(10, len(frame))
    assert (f"the first 10 of {len(frame):,} rows" in table.told) == (len(frame) > 10)
    cells, values = table.rows[1], found.to_frame("arrow").to_pylist()[0].values()
    for cell, value in zip(cells, values, strict=True):
        told = ", ".join(value) if isinstance(value, list) else str(value)
        assert cell == ("" if value is None else f"{value:.4f}" if isinstance(value, float) else told)


def test_a_history_is_indexed_like_a_list():
    history = MODEL.history_

    assert history[0].similarity == MODEL.similarities[0]
    assert history[-1] == list(history)[-1]
    assert isinstance(history[1:3], History)
    assert history[1:3].similarities == MODEL.similarities[1:3]
    assert (
        repr(history[:1]) == f"History(1 epoch, similarity {MODEL.similarities[0]:.4f} to {MODEL.similarities[0]:.4f})"
    )
    assert repr(History()) == "History(0 epochs)"
    assert Table(History()._repr_html_()).rows == [COLUMNS["history"]]
    with pytest.raises(IndexError):
        history[len(history)]


def test_what_is_shown_is_escaped():
    class Words(Tabular):
        def _columns(self):
            return {"<b>": [["<script>", "a&b"]], "none": [None], "long": ["x" * 99], "list": [["a" * 31, "b"]]}

        def _summary(self):
            return "<i>"

    table = Table(Words()._repr_html_())

    assert table.rows == [["<b>", "none", "long", "list"], ["<script>, a&b", "", "x" * 79 + "…", "a" * 31 + "b"]]
    assert table.told == "Words(<i>)"
    assert f"<td>{'a' * 31}<br>b</td>" in Words()._repr_html_()


@pytest.mark.parametrize(("library", "install"), [("pandas", "pandas"), ("arrow", r'"cosmeans\[tables\]"')])
def test_a_missing_library_is_named_with_the_way_to_it(library, install, monkeypatch):
    monkeypatch.setitem(sys.modules, {"arrow": "pyarrow"}.get(library, library), None)

    with pytest.raises(
        ImportError, match=f"A History becomes such a table by .*, which is missing.*pip install {install}"
    ):
        MODEL.history_.to_frame(library)


def test_another_library_is_refused():
    with pytest.raises(OptionError, match="library must be one of 'pandas', 'polars', 'arrow'; got 'dask'"):
        MODEL.history_.to_frame("dask")

"""What clusters of texts are about: their words, and the texts closest to their centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans import sphere
from cosmeans.analysis.assignments import assign_rows, checked_copy
from cosmeans.analysis.queries import closest
from cosmeans.calls import public
from cosmeans.containers.strings import read_strings
from cosmeans.estimator import KMeans
from cosmeans.options import check_integer
from cosmeans.page.keywords import distinctive_words
from cosmeans.tabular import Columns, Tabular


@dataclass(frozen=True, slots=True, repr=False)
class Topics(Tabular):
    """What each cluster is about. As a table: one row for each cluster, by its number.

    Attributes
    ----------
    sizes
        (K,) int64: rows of each cluster.
    similarity
        (K,) float64: mean cosine of these rows with their centroid, 0 for a cluster without rows.
    words
        Of each cluster up to eight, most distinctive first.
    exemplars
        Of each cluster the texts closest to its centroid, best first.
    """

    sizes: np.ndarray
    similarity: np.ndarray
    words: list[list[str]]
    exemplars: list[list[str]]

    def _columns(self) -> Columns:
        return {
            "cluster": np.arange(len(self.sizes)),
            "size": self.sizes,
            "similarity": self.similarity,
            "words": self.words,
            "exemplars": self.exemplars,
        }

    def _summary(self) -> str:
        return f"{len(self.sizes):,} clusters of {int(self.sizes.sum()):,} rows"


@public
def topics(model: KMeans[Any], rows: Any, texts: Any, *, m: int = 3) -> Topics:
    """Tell what each cluster is about by the texts of its rows: distinctive words, as on the page, and examples.

    Raises OptionError, InputError for texts that are not one per row, and what `KMeans.predict` raises, before any work
    is done.

    Parameters
    ----------
    rows
        Anything that `KMeans.fit` takes.
    texts
        N texts: a list, or a column of a frame or table; what is missing counts as "".
    m
        Texts shown for each cluster, at most.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, texts = sample()
    >>> kmeans = cosmeans.KMeans(60, random_state=0, verbose=0).fit(rows)
    >>> found = cosmeans.topics(kmeans, rows, texts)
    >>> found.words[17][:3]
    ['fish', 'marine', 'sea']
    """
    m = check_integer("m", m, 1)
    model = checked_copy(model)
    given: list[str] = []
    with assign_rows(model, rows, lambda n_rows: given.extend(read_strings(texts, n_rows, "texts"))) as assigned:
        labels, scores = assigned.host()
        sizes = assigned.sizes()
    kept = labels >= 0
    sums = np.bincount(labels[kept], scores[kept], len(sizes))
    found, _ = closest(labels, scores, len(sizes), m)
    return Topics(
        sizes=sizes,
        similarity=np.array(
            [sphere.clipped_mean(total / max(1, size)) for total, size in zip(sums, sizes, strict=True)]
        ),
        words=distinctive_words(given, labels, len(sizes), model.random_state_).words,
        exemplars=[[given[row] for row in of_cluster if row >= 0] for of_cluster in found.tolist()],
    )

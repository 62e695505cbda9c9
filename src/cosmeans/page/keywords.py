"""Words that set a cluster apart from the others, by TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmeans.page.sample import sample_rows

N_WORDS = 8
RARE = 0.1  # of what the first word has: a word in fewer texts is a name in some of them, not what they share
MAX_TEXTS = 200_000  # words are counted in at most so many texts
MAX_VOCABULARY = 50_000
# letters and digits of any script, joined by one apostrophe or hyphen; very long tokens are no words
_TOKEN = r"(?u)\b\w[\w'’-]{0,30}\w\b"


@dataclass(frozen=True, slots=True)
class Keywords:
    """`words[k]`: up to N_WORDS words, most distinctive first; `shares[k]`: which part of its texts has each.

    n_texts  texts that were counted
    """

    words: list[list[str]]
    shares: list[list[float]]
    n_texts: int


def distinctive_words(texts: Sequence[str], labels: np.ndarray, n_clusters: int, seed: int) -> Keywords:
    """The words whose mean TF-IDF weight in a cluster exceeds most that in all texts; ties in order of the word.

    A word that is RARE compared with the first one is not named.
    texts   N texts; labels (N,), -1 for texts in no cluster
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = sample_rows(labels >= 0, MAX_TEXTS, seed)
    nothing = Keywords([[] for _ in range(n_clusters)], [[] for _ in range(n_clusters)], len(chosen))
    vectorizer = TfidfVectorizer(
        token_pattern=_TOKEN,
        stop_words="english",
        min_df=2 if len(chosen) > 10 * n_clusters else 1,
        max_features=MAX_VOCABULARY,
        sublinear_tf=True,
        dtype=np.float32,
    )
    try:
        weights = csr_array(vectorizer.fit_transform([texts[row] for row in chosen]))
    except ValueError as error:
        if "vocabulary" in str(error) or "no terms remain" in str(error):  # no text has a word
            return nothing
        raise
    vocabulary = vectorizer.get_feature_names_out()
    members = labels[chosen]
    size = np.bincount(members, minlength=n_clusters)
    ones = np.ones(len(chosen), np.float32)
    gather = csr_array((ones, (members, np.arange(len(chosen)))), shape=(n_clusters, len(chosen)))
    total = csr_array(gather @ weights)
    weights.data[:] = 1.0
    having = csr_array(gather @ weights)
    overall = np.asarray(total.sum(axis=0)).ravel() / len(chosen)
    return _pick(total, having, overall, size, vocabulary, nothing)


def _pick(
    total: Any, having: Any, overall: np.ndarray, size: np.ndarray, vocabulary: np.ndarray, into: Keywords
) -> Keywords:
    """Sparse rows only: the K x vocabulary table is never dense."""
    total.sort_indices()
    having.sort_indices()
    for cluster in np.flatnonzero(size):
        span = slice(total.indptr[cluster], total.indptr[cluster + 1])
        columns = total.indices[span]
        lead = total.data[span] / size[cluster] - overall[columns]
        share = having.data[span] / size[cluster]
        order = np.lexsort((columns, -lead))
        order = order[lead[order] > 0]
        order = order[share[order] >= RARE * share[order[:1]]][:N_WORDS]
        into.words[cluster] = vocabulary[columns[order]].tolist()
        into.shares[cluster] = share[order].tolist()
    return into

"""Words that set a cluster apart from the others."""

from __future__ import annotations

import math
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
_ENDINGS = (("'s", ""), ("’s", ""), ("s'", ""), ("s’", ""), ("ies", "y"), ("es", ""), ("s", ""))
_SHORTEST = 3  # letters of a word whose other forms are looked for
_SAME_START = 5  # letters that two words of one family share at least ("decorate", "decoration")


@dataclass(frozen=True, slots=True)
class Keywords:
    """`words[k]`: up to N_WORDS words, most distinctive first; `shares[k]`: which part of its texts has each.

    n_texts  texts that were counted
    """

    words: list[list[str]]
    shares: list[list[float]]
    n_texts: int


def distinctive_words(texts: Sequence[str], labels: np.ndarray, n_clusters: int, seed: int) -> Keywords:
    """Find the words that name each cluster; ties in order of the word.

    A word's score is the share of the cluster's texts that have it, times its entropy weight (Dumais 1991): the
    logarithm of how many clusters there are for each cluster in which the word is usual. A word that is RARE compared
    with the first one is not named, and of words with one stem only the first is.

    texts   N texts; labels (N,), -1 for texts in no cluster
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    chosen = sample_rows(labels >= 0, MAX_TEXTS, seed)
    nothing = Keywords([[] for _ in range(n_clusters)], [[] for _ in range(n_clusters)], len(chosen))
    vectorizer = CountVectorizer(
        token_pattern=_TOKEN,
        stop_words="english",
        min_df=2 if len(chosen) > 10 * n_clusters else 1,
        max_features=MAX_VOCABULARY,
        binary=True,
        dtype=np.float32,
    )
    try:
        having = csr_array(vectorizer.fit_transform([texts[row] for row in chosen]))
    except ValueError as error:
        if "vocabulary" in str(error) or "no terms remain" in str(error):  # no text has a word
            return nothing
        raise
    having, vocabulary = _with_forms_merged(having, vectorizer.get_feature_names_out())
    members = labels[chosen]
    ones = np.ones(len(chosen), np.float32)
    gather = csr_array((ones, (members, np.arange(len(chosen)))), shape=(n_clusters, len(chosen)))
    return _pick(csr_array(gather @ having), np.bincount(members, minlength=n_clusters), vocabulary, nothing)


def name_of(words: Sequence[str], cluster: int) -> str:
    """What a cluster is called as long as nobody names it: its first three words."""
    return ", ".join(words[:3]) or f"Cluster {cluster}"


def _with_forms_merged(having: Any, vocabulary: np.ndarray) -> tuple[Any, np.ndarray]:
    """Count plurals and possessives as the form that most texts have: (texts x words, words).

    Only forms that both occur are merged, so that no rule of English does harm to texts of another language.
    """
    from scipy.sparse import csr_array

    count = np.asarray(having.sum(axis=0)).ravel()
    index = {word: place for place, word in enumerate(vocabulary)}
    base = np.array([index[_base(word, index)] for word in vocabulary])
    for _ in range(2):  # a possessive of a plural has two endings
        base = base[base]
    order = np.lexsort((np.arange(len(base)), -count))
    _, first, inverse = np.unique(base[order], return_index=True, return_inverse=True)
    group = np.empty(len(base), np.int64)
    group[order] = inverse
    merge = csr_array((np.ones(len(base), np.float32), (np.arange(len(base)), group)), shape=(len(base), len(first)))
    merged = csr_array(having @ merge)
    merged.data[:] = 1.0
    return merged, vocabulary[order[first]]


def _base(word: str, known: dict[str, int]) -> str:
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending) + instead
        if word.endswith(ending) and len(stem) >= _SHORTEST and stem in known and not stem.endswith("s"):
            return stem
    return word


def _pick(having: Any, size: np.ndarray, vocabulary: np.ndarray, into: Keywords) -> Keywords:
    """Choose from the texts of each cluster that have each word. Sparse rows only: the table is never dense."""
    having.sort_indices()
    share = having.copy()
    share.data /= np.repeat(np.maximum(size, 1), np.diff(having.indptr))
    n_filled = max(1, int(np.count_nonzero(size)))
    weight = np.maximum(math.log(n_filled) - _entropy(share), 0.0)
    usual = np.asarray(having.sum(axis=0)).ravel() / max(1, into.n_texts)
    alphabetical = np.argsort(np.argsort(vocabulary, kind="stable"))
    for cluster in np.flatnonzero(size):
        span = slice(share.indptr[cluster], share.indptr[cluster + 1])
        columns, part = share.indices[span], share.data[span]
        # rounded, so that equal scores are a tie on every machine
        score = np.round(part * weight[columns], 9)
        order = np.lexsort((alphabetical[columns], -score))
        order = order[(score[order] > 0) & (part[order] > usual[columns[order]])]
        order = order[part[order] >= RARE * part[order[:1]]]
        kept = _families(vocabulary[columns[order]].tolist())
        into.words[cluster] = vocabulary[columns[order[kept]]].tolist()
        into.shares[cluster] = part[order[kept]].tolist()
    return into


def _entropy(share: Any) -> np.ndarray:
    """The entropy of each column (a word over the clusters), 0 for a word that one cluster has alone."""
    total = np.asarray(share.sum(axis=0), np.float64).ravel()
    part = share.data / total[share.indices]
    return np.asarray(np.bincount(share.indices, -part * np.log(part), len(total)))


def _families(words: list[str]) -> list[int]:
    """Places of the first N_WORDS words, without those that share their stem with a word before."""
    kept: list[int] = []
    for place, word in enumerate(words[: 4 * N_WORDS]):
        if len(kept) == N_WORDS:
            break
        if not any(_one_family(word, words[other]) for other in kept):
            kept.append(place)
    return kept


def _one_family(a: str, b: str) -> bool:
    shared = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return shared >= max(_SAME_START, min(len(a), len(b)) - 2)

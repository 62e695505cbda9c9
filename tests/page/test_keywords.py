"""Words name clusters: forms of one word are one, and words of everyday don't win."""

import numpy as np
import pytest

from cosmeans.page.keywords import distinctive_words, name_of


def words_of(*clusters):
    """The words of each cluster, where cluster k has these texts."""
    texts = [text for cluster in clusters for text in cluster]
    labels = np.repeat(np.arange(len(clusters)), [len(cluster) for cluster in clusters])
    return distinctive_words(texts, labels, len(clusters), 0)


def test_a_name_in_few_of_the_texts_does_not_stand_for_the_cluster():
    texts = [f"fish{' zygaena' if i < 5 else ''} {i % 7}x" for i in range(100)] + [f"bird {i % 7}x" for i in range(100)]
    found = distinctive_words(texts, np.repeat([0, 1], 100), 2, 0)
    assert found.words[0][0] == "fish"
    assert "zygaena" not in found.words[0], "it is in 5 % of the texts"
    assert found.shares[0][0] == 1.0
    assert min(found.shares[0]) >= 0.1
    assert distinctive_words(texts[:5] + texts[100:], np.repeat([0, 1], [5, 100]), 2, 0).words[0][:2] == [
        "fish",
        "zygaena",
    ]


def test_plurals_and_possessives_are_counted_as_the_word_itself():
    animals = [["horse", "horses", "horse's", "horse", "mares"], ["city", "cities", "cities'", "cities"], ["bus"] * 4]

    found = words_of(*animals)

    assert found.words == [["horse", "mares"], ["cities"], ["bus"]], "the form that most texts have stands for all"
    assert found.shares[0] == pytest.approx([0.8, 0.2])
    assert found.shares[1:] == [[1.0], [1.0]]


@pytest.mark.parametrize("word", ["glasses", "class", "bus", "apples", "as"])
def test_no_rule_invents_a_word(word):
    assert words_of([f"{word} {word}x"] * 3, ["other"] * 3).words[0][0] in (word, f"{word}x")


def test_words_that_are_usual_in_many_clusters_do_not_name_one():
    """`using` is in more of the first cluster's texts than `acid`, but also in half of all others."""
    first = [f"{'using ' * (i < 9)}{'acid ' * (i < 5)}filler{i}" for i in range(10)]
    others = [[f"{'using ' * (i < 5)}topic{k}" for i in range(10)] for k in range(5)]

    words = words_of(first, *others).words[0]

    assert words[0] == "acid"
    assert "using" in words


def test_of_words_with_one_stem_the_first_is_named():
    texts = [["decorate decoration music"] * 3 + ["decorate musical"] * 2, ["interior international"] * 3]
    found = words_of(*texts)
    assert found.words[0] == ["decorate", "music"]
    assert found.words[1] == ["interior", "international"], "a common beginning is not a common stem"


def test_a_cluster_without_words_is_called_by_its_number():
    assert name_of(["horse", "saddle", "rider", "mane"], 7) == "horse, saddle, rider"
    assert name_of([], 7) == "Cluster 7"

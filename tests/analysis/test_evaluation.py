"""Measures of a clustering against a plain rendering of their definitions."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

import generators
import truth
from cosmeans import KMeans
from cosmeans.analysis.evaluation import evaluate, gini
from cosmeans.errors import InputError, OptionError


def fitted(rows, k=9, **options):
    return KMeans(k, verbose=0, random_state=0, zero_rows="skip", **options).fit(rows)


@pytest.fixture(scope="module")
def text():
    rows = generators.text_rows(600)
    return rows, fitted(rows)


def cosines(rows, model):
    return truth.scores(truth.unit(rows)[0], model.cluster_centers_)


def chord(cosine):
    return np.sqrt(np.maximum(0.0, 2.0 - 2.0 * cosine))


def test_similarity_is_the_score_of_the_model(text):
    rows, model = text

    assert evaluate(model, rows).similarity == model.score(rows)


def test_the_simplified_silhouette_compares_own_and_nearest_other_centroid(text):
    rows, model = text
    silhouettes = []
    for row, label in zip(1.0 - cosines(rows, model), model.labels_, strict=True):
        a, b = row[label], min(np.delete(row, label))
        silhouettes.append((b - a) / max(a, b))

    assert evaluate(model, rows).silhouette == pytest.approx(np.mean(silhouettes), abs=1e-6)


def test_a_row_alone_in_its_cluster_has_no_silhouette_and_empty_clusters_are_nobodys_neighbour():
    """Rows at 0, 10 and 90 degrees; centroids at 5, 90 and, empty, at -20 degrees."""
    angles = np.radians([0.0, 10.0, 90.0])
    model = KMeans(3, verbose=0)
    model.centers = np.array([[np.cos(a), np.sin(a)] for a in np.radians([5.0, 90.0, -20.0])])

    measured = evaluate(model, np.stack([np.cos(angles), np.sin(angles)], axis=1))

    a = 1 - np.cos(np.radians(5.0))
    expected = [1 - a / (1 - np.cos(np.radians(90.0))), 1 - a / (1 - np.cos(np.radians(80.0))), 0.0]
    assert measured.silhouette == pytest.approx(np.mean(expected), abs=1e-6)
    assert measured.sizes.tolist() == [2, 1, 0]
    assert measured.empty == 1


def test_davies_bouldin_uses_chords_on_the_sphere(text):
    rows, model = text
    own = chord(cosines(rows, model).max(axis=1))
    scatter = np.array([own[model.labels_ == k].mean() for k in range(9)])
    between = chord(truth.scores(model.cluster_centers_, model.cluster_centers_))
    worst = [max((scatter[i] + scatter[j]) / between[i, j] for j in range(9) if j != i) for i in range(9)]

    assert evaluate(model, rows).davies_bouldin == pytest.approx(np.mean(worst), rel=1e-6)


def test_davies_bouldin_is_infinite_only_where_clusters_that_spread_share_a_centroid():
    rows = generators.unit_rows(50, 6)
    model = KMeans(2, verbose=0)
    model.centers = np.array([rows[0], np.nextafter(rows[0], np.float32(2))])

    assert np.bincount(model.predict(rows), minlength=2).min() > 0
    assert evaluate(model, rows).davies_bouldin == np.inf


def test_the_sampled_silhouette_of_all_rows_is_the_full_one(text):
    rows, model = text
    full = silhouette_score(truth.unit(rows)[0].astype(np.float64), model.labels_, metric="cosine")

    assert evaluate(model, rows, sample_size=600).sampled_silhouette == pytest.approx(full, abs=1e-9)
    assert evaluate(model, rows, sample_size=500).sampled_silhouette == pytest.approx(full, abs=0.02)


def test_sizes_tell_imbalance_gini_and_left_out_rows():
    rows = np.repeat(np.eye(4, dtype=np.float32), [1, 2, 3, 0], axis=0)
    rows = np.concatenate([rows, np.zeros((2, 4), np.float32)])
    model = KMeans(4, verbose=0, zero_rows="skip")
    model.centers = np.eye(4)

    measured = evaluate(model, rows)

    assert (measured.n_rows, measured.left_out, measured.empty) == (6, 2, 1)
    assert measured.imbalance == 4 * (1 + 4 + 9) / 36
    pairs = [abs(a - b) for a in (1, 2, 3, 0) for b in (1, 2, 3, 0)]
    assert measured.gini == pytest.approx(sum(pairs) / (2 * 4 * 6))


def test_gini_of_equal_sizes_is_zero():
    assert gini(np.array([5, 5, 5])) == 0.0


@pytest.mark.parametrize("as_text", [False, True])
def test_classes_are_compared_on_the_rows_that_have_a_label(as_text):
    rows = generators.unit_rows(80, 5)
    rows[3] = 0.0
    classes = np.random.default_rng(0).integers(0, 4, 80)
    model = fitted(rows, 6)

    measured = evaluate(model, rows, [f"class {c}" for c in classes] if as_text else torch.from_numpy(classes))

    kept = model.labels_ >= 0
    labels, known = model.labels_[kept], classes[kept]
    assert measured.nmi == pytest.approx(normalized_mutual_info_score(known, labels))
    assert measured.ari == pytest.approx(adjusted_rand_score(known, labels))
    commonest = sum(np.bincount(known[labels == k]).max() for k in range(6))
    assert measured.purity == commonest / 79


def test_one_cluster_has_no_neighbour():
    rows = generators.unit_rows(20, 5)

    measured = evaluate(fitted(rows, 1), rows)

    assert measured.silhouette is measured.sampled_silhouette is measured.davies_bouldin is None
    assert measured.nmi is measured.ari is measured.purity is None


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"backend": "reference"}])
def test_batches_and_backends_do_not_change_a_bit(text, options):
    rows, model = text
    other = KMeans(9, verbose=0, **options)
    other.centers = model.cluster_centers_

    assert json.dumps(evaluate(other, rows[:200]).to_json()) == json.dumps(evaluate(model, rows[:200]).to_json())


def test_wrong_classes_and_samples_are_told(text):
    rows, model = text

    with pytest.raises(InputError, match=r"classes have shape \(3,\); 600 rows need one class each"):
        evaluate(model, rows, [1, 2, 3])
    with pytest.raises(OptionError, match="sample_size=1"):
        evaluate(model, rows, sample_size=1)
    with pytest.raises(InputError, match="None of the 2 rows has a direction"):
        evaluate(KMeans(9, verbose=0, zero_rows="skip").fit(rows), np.zeros((2, 384)))

"""The same ids tomorrow: matches against all permutations, moves against plain counting."""

from itertools import permutations

import numpy as np
import pytest
import torch

import generators
import truth
from cosmeans import KMeans
from cosmeans.analysis.matching import Change, Moves, match, moved, reorder
from cosmeans.errors import InputError, OptionError
from cosmeans.plot.moves import condensed


def model_of(centroids):
    model = KMeans(len(centroids), verbose=0, zero_rows="skip")
    model.centers = centroids
    return model


def fitted(rows, k, seed=0):
    return KMeans(k, random_state=seed, verbose=0).fit(rows)


@pytest.mark.parametrize(("n_old", "n_new"), [(5, 5), (3, 6), (6, 3), (1, 4)])
def test_the_match_has_the_largest_sum_of_cosines(n_old, n_new):
    old, new = model_of(generators.unit_rows(n_old, 7, 1)), model_of(generators.unit_rows(n_new, 7, 2))
    cosines = truth.scores(old.cluster_centers_, new.cluster_centers_)
    few, many = sorted((n_old, n_new))
    table = cosines if n_old <= n_new else cosines.T
    best = max(sum(table[i, p[i]] for i in range(few)) for p in permutations(range(many), few))

    found = match(old, new)

    pairs = [(i, j) for i, j in enumerate(found.new_of_old.tolist()) if j >= 0]
    assert len(pairs) == few
    assert sum(cosines[i, j] for i, j in pairs) == pytest.approx(best, abs=1e-9)
    assert all(found.old_of_new[j] == i for i, j in pairs)
    assert np.array_equal(found.cosines[[i for i, _ in pairs]], [np.float32(cosines[i, j]) for i, j in pairs])


def test_clusters_that_were_only_renamed_get_their_names_back():
    rows = generators.text_rows(400)
    old = fitted(rows, 8)
    new = reorder(old, np.array([3, 1, 7, 0, 2, 6, 5, 4]), rows)

    back = reorder(new, match(old, new), rows)

    assert np.array_equal(match(old, new).relabel(new.labels_), old.labels_)
    assert np.array_equal(back.cluster_centers_, old.cluster_centers_)
    assert np.array_equal(back.labels_, old.labels_)


def test_new_clusters_get_new_ids_and_left_out_rows_keep_none():
    old, new = model_of(np.eye(4)[:2]), model_of(np.eye(4)[[3, 1, 2, 0]])

    found = match(old, new)

    assert found.ids.tolist() == [2, 1, 3, 0]
    assert found.relabel(np.array([-1, 0, 3, 2])).tolist() == [-1, 2, 0, 3]
    assert torch.equal(found.relabel(torch.tensor([-1, 1])), torch.tensor([-1, 1]))


def test_order_by_size_puts_the_largest_first_and_predicts_as_it_is_labelled():
    rows = generators.text_rows(400)
    model = fitted(rows, 9)

    ordered = reorder(model, "size", rows)

    assert ordered.counts_.tolist() == sorted(model.counts_.tolist(), reverse=True)
    assert np.array_equal(ordered.labels_, ordered.predict(rows))
    assert np.array_equal(np.bincount(ordered.labels_), ordered.counts_)
    assert np.array_equal(ordered.similarity_, model.similarity_)
    assert not hasattr(reorder(model, "size"), "labels_")
    assert hasattr(model, "labels_")


def test_a_fit_goes_on_from_clusters_in_another_order_and_keeps_their_numbers():
    rows = generators.text_rows(400)
    model = KMeans(9, epochs=3, random_state=0, verbose=0).fit(rows)
    order = np.argsort(-model.counts_, kind="stable")
    ordered = reorder(model, "size", rows)

    further = ordered.fit(rows)
    plain = model.fit(rows)

    assert len(further.history_) == len(plain.history_) == 6
    assert np.array_equal(further.cluster_centers_, plain.cluster_centers_[order])
    assert np.array_equal(further.labels_, np.argsort(order)[plain.labels_])


def test_moves_count_every_row_once():
    rows = generators.text_rows(500)
    rows[4] = 0.0
    old, new = model_of(rows[10:16]), model_of(rows[[12, 40, 10, 11, 60, 13, 70]])
    ids = match(old, new).ids
    before = truth.scores(truth.unit(rows)[0], old.cluster_centers_).argmax(axis=1)
    after = ids[truth.scores(truth.unit(rows)[0], new.cluster_centers_).argmax(axis=1)]
    kept = np.arange(500) != 4

    found = moved(old, new, rows)

    assert (found.n_rows, found.stayed) == (499, int((before == after)[kept].sum()))
    for change in found.clusters:
        was, now = kept & (before == change.id), kept & (after == change.id)
        assert (change.before, change.after, change.stayed) == (was.sum(), now.sum(), (was & now).sum())
        assert (change.cosine is None) == (change.id >= 6)
    for source, target, count in found.flows.tolist():
        assert source != target
        assert count == (kept & (before == source) & (after == target)).sum()
    assert found.flows[:, 2].sum() == found.n_rows - found.stayed
    assert found.flows[:, 2].tolist() == sorted(found.flows[:, 2].tolist(), reverse=True)


def test_the_picture_counts_the_rows_of_the_clusters_that_changed_most():
    counts = [(50, 50, 50), (30, 20, 15), (9, 19, 8), (5, 5, 4)]
    changes = [Change(i, *three, 0.9) for i, three in enumerate(counts)]
    flows = np.array([[1, 2, 10], [1, 3, 1], [3, 1, 1], [2, 1, 1]])
    counted, names = condensed(Moves(94, 77, changes, flows), 2)

    assert names == ["cluster 1", "cluster 2", "other clusters"]
    assert counted.tolist() == [[15, 10, 1], [1, 8, 0], [1, 0, 0]], "what stayed among the others is left out"
    everything, names = condensed(Moves(94, 77, changes, flows), 9)
    assert everything.sum() == 50 + 15 + 8 + 4 + 13
    assert names == ["cluster 0", "cluster 1", "cluster 2", "cluster 3"]


def test_moves_are_drawn(tmp_path):
    rows = generators.text_rows(300)
    found = moved(fitted(rows, 8), fitted(rows, 8, seed=1), rows)

    found.plot(tmp_path / "moves.png", n_clusters=5)

    assert (tmp_path / "moves.png").read_bytes().startswith(b"\x89PNG")


def test_models_and_orders_that_do_not_fit_are_told():
    rows = generators.unit_rows(30, 6)
    model = fitted(rows, 4)

    with pytest.raises(InputError, match="The models have 6 and 5 features"):
        match(model, model_of(generators.unit_rows(4, 5)))
    with pytest.raises(OptionError, match='order must be "size", a Match or'):
        reorder(model, "name")
    with pytest.raises(OptionError, match="must name each of the 4 clusters once"):
        reorder(model, [0, 1, 1, 2])
    with pytest.raises(OptionError, match="its ids would have gaps"):
        reorder(model, match(fitted(rows, 5), model))

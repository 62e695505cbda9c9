"""De-duplication against a brute force over all pairs of each cluster, by canonical scores."""

import warnings

import numpy as np
import pytest
import torch

import generators
import truth
from cosmeans import KMeans
from cosmeans.analysis.dedup import deduplicate
from cosmeans.errors import ClusterSplitWarning, OptionError


def noisy_copies(n, d, copies, noise, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.repeat(generators.unit_rows(n, d, seed), copies, axis=0)
    return rng.permutation(rows + noise * rng.standard_normal(rows.shape).astype(np.float32))


def model_of(centroids, **options):
    model = KMeans(len(centroids), verbose=0, zero_rows="skip", **options)
    model.centers = centroids
    return model


def brute_force(rows, model, threshold, keep, groups=None):
    """original of every row, -1 if it stays: the most preferred near row of its group that is preferred to it."""
    unit, kept = truth.unit(rows)
    own = truth.scores(unit, model.cluster_centers_)
    labels = np.where(kept, own.argmax(axis=1), -1)
    own, pairs = own.max(axis=1), truth.scores(unit, unit)
    group = labels if groups is None else groups
    original = np.full(len(rows), -1)
    for k in set(group[kept].tolist()):
        order = sorted(np.flatnonzero(group == k), key=lambda i: (-own[i] if keep == "closest" else own[i], i))
        for place, i in enumerate(order):
            original[i] = next((j for j in order[:place] if pairs[i, j] >= threshold), -1)
    return original, pairs


def assert_equal_to(found, original, pairs):
    removed = np.flatnonzero(original >= 0)
    assert found.removed.tolist() == removed.tolist()
    assert found.original.tolist() == original[removed].tolist()
    assert found.kept.tolist() == np.flatnonzero(original < 0).tolist()
    assert np.array_equal(found.cosines, pairs[removed, original[removed]])


@pytest.mark.parametrize("keep", ["closest", "farthest"])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_a_row_goes_if_a_preferred_row_of_its_cluster_is_near(keep, threshold):
    rows = noisy_copies(60, 16, 5, 0.05)
    rows[17] = 0.0
    model = model_of(generators.unit_rows(5, 16, 9))
    original, pairs = brute_force(rows, model, threshold, keep)

    found = deduplicate(model, rows, threshold, keep=keep)

    assert_equal_to(found, original, pairs)
    assert 0 < len(found.removed) < len(rows)
    assert found.splits == {}


def test_a_pair_exactly_at_the_threshold_is_one_and_a_bit_above_is_none():
    rows = generators.unit_rows(40, 24)
    model = model_of(rows[:1])
    pairs = truth.scores(rows, rows)
    at = float(np.sort(pairs[np.triu_indices(40, 1)])[-20])

    for threshold in (at, np.nextafter(at, 2.0)):
        assert_equal_to(deduplicate(model, rows, threshold), *brute_force(rows, model, threshold, "closest"))

    above = len(deduplicate(model, rows, np.nextafter(at, 2.0)).removed)
    assert len(deduplicate(model, rows, at).removed) >= above
    assert np.float32(at) == np.float32(np.nextafter(at, 2.0))


def test_of_equal_rows_the_first_stays():
    distinct = generators.unit_rows(6, 9, 1)
    rows = np.concatenate([distinct, distinct[::-1], distinct])
    model = model_of(generators.unit_rows(2, 9, 2))

    for keep in ("closest", "farthest"):
        assert deduplicate(model, rows, 0.99999, keep=keep).kept.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"backend": "reference"}])
def test_batches_tiles_and_backends_do_not_change_the_answer(monkeypatch, options):
    rows = noisy_copies(50, 12, 4, 0.08)
    centroids = generators.unit_rows(3, 12, 9)
    whole = deduplicate(model_of(centroids), rows, 0.93)

    monkeypatch.setattr("cosmeans.analysis.dedup._BLOCK", 5)
    monkeypatch.setattr("cosmeans.analysis.dedup._TILE", 3)
    cut = deduplicate(model_of(centroids, **options), rows, 0.93)

    assert cut.removed.tolist() == whole.removed.tolist()
    assert cut.original.tolist() == whole.original.tolist()
    assert np.array_equal(cut.cosines, whole.cosines)


def test_a_cluster_past_the_bound_is_told_before_the_work_and_split_alike_every_time(monkeypatch):
    rows = noisy_copies(60, 16, 5, 0.02)
    model = model_of(generators.unit_rows(2, 16, 9))
    order = []
    compare = deduplicate.__wrapped__.__globals__["_compare"]
    sizes = []

    def watched(session, ordered, threshold):
        order.append("work")
        sizes.append(len(ordered))
        return compare(session, ordered, threshold)

    monkeypatch.setattr("cosmeans.analysis.dedup._compare", watched)
    monkeypatch.setattr("warnings.warn", lambda *args, **kwargs: order.append(str(args[0])))
    first = deduplicate(model, rows, 0.95, max_cluster_size=50)
    told, *work = order
    second = deduplicate(model, rows, 0.95, max_cluster_size=50)

    assert told.startswith("2 clusters have more than max_cluster_size=50 rows and are compared in parts (cluster 0: ")
    assert set(work) == {"work"}
    assert max(sizes) <= 50
    assert all(parts > 1 for parts in first.splits.values())
    assert first.removed.tolist() == second.removed.tolist()
    everything = brute_force(rows, model, 0.95, "closest")[0] >= 0
    assert set(first.removed.tolist()) <= set(np.flatnonzero(everything).tolist())
    assert len(first.removed) > 0.8 * everything.sum()


def test_rows_that_can_not_be_told_apart_are_split_in_row_order():
    rows = np.tile(generators.unit_rows(1, 8), (25, 1))

    with pytest.warns(ClusterSplitWarning, match="cluster 0: 25 rows in 3 parts"):
        found = deduplicate(model_of(rows[:1]), rows, 0.9, max_cluster_size=10)

    assert found.kept.tolist() == [0, 10, 20]
    assert found.splits == {0: 3}


def test_torch_in_gives_torch_out_and_rows_stay_as_they_are():
    rows = torch.from_numpy(noisy_copies(10, 8, 3, 0.01))
    before = rows.clone()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = deduplicate(model_of(generators.unit_rows(2, 8, 3)), rows, 0.9)

    assert isinstance(found.kept, torch.Tensor)
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is a cosine between -1 and 1, got 1.5"),
        ({"keep": "best"}, 'keep must be "closest" or "farthest", got \'best\''),
        ({"max_cluster_size": 1}, "max_cluster_size must be an integer of at least 2, got 1"),
    ],
)
def test_options_that_can_not_be_are_told(options, message):
    rows = generators.unit_rows(10, 4)

    with pytest.raises(OptionError, match=message):
        deduplicate(model_of(rows[:2]), rows, **options)

"""De-duplication against a brute force over all pairs of each cluster, by canonical scores."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch

import generators
import truth
from cosmeans import KMeans
from cosmeans.analysis.dedup import compare, deduplicate
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.errors import ClusterSplitWarning, OptionError


def noisy_copies(n, d, copies, noise, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.repeat(generators.unit_rows(n, d, seed), copies, axis=0)
    return rng.permutation(rows + noise * rng.standard_normal(rows.shape).astype(np.float32))


def model_of(centroids, **options):
    model = KMeans(len(centroids), zero_rows="skip", **{"verbose": 0, **options})
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
    unit, there = truth.unit(rows)
    own = truth.scores(unit, model.cluster_centers_)
    assert found.kept_labels.tolist() == np.where(there, own.argmax(axis=1), -1)[found.kept].tolist()
    assert np.array_equal(found.kept_cosines, np.where(there, own.max(axis=1), 0.0)[found.kept])


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
def test_batches_and_backends_do_not_change_the_answer(options):
    rows = noisy_copies(50, 12, 4, 0.08)
    centroids = generators.unit_rows(3, 12, 9)
    whole = deduplicate(model_of(centroids), rows, 0.93)

    cut = deduplicate(model_of(centroids, **options), rows, 0.93)

    assert cut.removed.tolist() == whole.removed.tolist()
    assert cut.original.tolist() == whole.original.tolist()
    assert np.array_equal(cut.cosines, whole.cosines)


@pytest.mark.parametrize(("block", "tile"), [(5, 3), (3, 5), (1, 1), (1000, 7), (7, 1000)])
@pytest.mark.parametrize("backend", [CpuBackend, ReferenceBackend])
def test_blocks_and_tiles_do_not_change_the_answer(open_session, backend, block, tile):
    rows = noisy_copies(10, 12, 4, 0.08)
    ordered = np.random.default_rng(0).permutation(len(rows))
    cosines = truth.scores(*[truth.unit(rows)[0][ordered]] * 2)
    near = np.tril(cosines >= 0.93, -1)
    first = np.where(near.any(axis=1), near.argmax(axis=1), -1)

    found, own = compare(open_session(rows, backend()), ordered, 0.93, block=block, tile=tile)

    assert 10 < (first >= 0).sum() < len(rows)
    assert found.tolist() == first.tolist()
    assert np.array_equal(own[first >= 0], cosines[np.flatnonzero(first >= 0), first[first >= 0]])


def test_more_pairs_than_a_tile_at_the_threshold_are_settled_part_by_part(open_session):
    rows = np.tile(generators.unit_rows(1, 8), (12, 1))

    own = float(truth.scores(rows[:1], rows[:1])[0, 0])
    found, _ = compare(open_session(rows, CpuBackend()), np.arange(12), own, block=8, tile=5)

    assert found.tolist() == [-1] + [0] * 11


def test_a_cluster_past_the_bound_is_told_before_the_work_and_split_alike_every_time(time_flies, capsys, monkeypatch):
    rows = noisy_copies(60, 16, 5, 0.02)
    model = model_of(generators.unit_rows(2, 16, 9), verbose=1)
    monkeypatch.setattr("warnings.warn", lambda message, *_, **__: sys.stderr.write(f"{message}\n"))
    capsys.readouterr()
    first = deduplicate(model, rows, 0.95, max_cluster_size=50)
    lines = capsys.readouterr().err.splitlines()
    second = deduplicate(model, rows, 0.95, max_cluster_size=50)

    told = next(place for place, line in enumerate(lines) if "max_cluster_size" in line)
    assert lines[told].startswith("2 clusters have more than max_cluster_size=50 rows and are compared in parts (clus")
    work = [place for place, line in enumerate(lines) if line.startswith("comparing rows within clusters: ")]
    assert told < work[0]
    done = [int(re.search(r"([\d,]+) of [\d,]+ pairs", lines[place])[1].replace(",", "")) for place in work]
    sizes = np.sqrt(np.diff(done))
    assert len(sizes[sizes > 0]) > 2
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

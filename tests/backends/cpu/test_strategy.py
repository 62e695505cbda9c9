"""Every way of saving work gives the labels of the definition; a bound without its slack does not."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, lloyd
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.screens.pca import pca_bytes
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError, OptionError
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import converging, near_ties, normal, text_rows, unit_rows
from screening import assigned_by, without_slack

HOST = Host()
FORCED = ["float32", "split", "pca", "int8"]


def fitted(x, first, epochs, open_session, strategy, memory_limit=1 << 30, batch_size=None, host=HOST):
    backend = CpuBackend(strategy, memory_limit, host)
    session = open_session(x, backend, batch_size=batch_size)
    return lloyd.fit(session, torch.from_numpy(first), FitOptions(n_clusters=len(first), epochs=epochs), Silent())


def wrong_labels(result, x):
    return int((result.labels.numpy() != truth.labels(x, result.centroids.numpy())).sum())


@pytest.mark.parametrize("strategy", FORCED)
def test_history_names_the_path_and_counts_its_work(strategy, open_session):
    x, first = converging()
    result = fitted(x, first, 12, open_session, strategy, batch_size=700)
    assert wrong_labels(result, x) == 0
    work = list(result.costs)
    everything = len(x) * len(first)
    name = "float32" if strategy == "split" else strategy
    assert all(epoch.strategy.startswith(name) for epoch in work)
    assert work[0].strategy == name
    assert work[0].skipped == 0
    assert everything <= work[0].dots < 2 * everything
    if strategy == "float32":
        assert all(epoch.skipped == 0 for epoch in work)
    else:
        assert "split at" in work[-1].strategy
        assert work[-1].skipped > everything / 2
        assert work[-1].dots < everything / 2


@pytest.mark.parametrize("strategy", [*FORCED, "auto"])
def test_estimator_gives_the_same_bits_whatever_the_strategy(strategy, digest):
    x = text_rows(5000)
    weights = np.random.default_rng(0).integers(0, 3, len(x))
    options = {"random_state": 3, "n_init": 2, "verbose": 0, "batch_size": 1999}
    whole = KMeans(30, epochs=7, backend="cpu", strategy=strategy, **options).fit(x, sample_weight=weights)
    plain = KMeans(30, epochs=7, backend="reference", **options)
    plain.fit(x[:1000], sample_weight=weights[:1000])
    parts = KMeans(30, epochs=3, backend="cpu", strategy=strategy, random_state=3, verbose=0).fit(x)
    parts.set_params(epochs=4).fit(x)
    once = KMeans(30, epochs=7, backend="cpu", strategy="float32", random_state=3, verbose=0).fit(x)
    assert digest(parts.labels_, parts.cluster_centers_) == digest(once.labels_, once.cluster_centers_)
    np.testing.assert_array_equal(whole.labels_, truth.labels(truth.unit(x)[0], whole.cluster_centers_))
    np.testing.assert_array_equal(whole.predict(x), whole.labels_)
    few = KMeans(30, epochs=7, backend="cpu", strategy=strategy, **options).fit(x[:1000], sample_weight=weights[:1000])
    assert digest(few.labels_, few.cluster_centers_) == digest(plain.labels_, plain.cluster_centers_)


def twins(n, d, k, spread):
    """Centroids in all directions, each with another one next to it, and rows as near to both."""
    centres = unit_rows(k // 2, d, 3)
    near = centres + spread * normal(k // 2, d, 4) / d**0.5
    rows = centres[np.arange(n) % len(centres)] + spread * normal(n, d, 5) / d**0.5
    return truth.unit(rows)[0], truth.unit(np.concatenate([centres, near]).astype(np.float32))[0]


def leaning():
    """Pairs of rows that are as close as float32 allows, all near one direction: the centred screen."""
    around = np.eye(1, 48, 5, np.float32) + 2e-3 * normal(60, 48, 1)
    first = truth.unit(np.concatenate([around, around + 3e-7 * normal(60, 48, 3)]).astype(np.float32))[0]
    return truth.unit(first[np.arange(6000) % 120] + 1e-7 * normal(6000, 48, 4))[0], first


SLACK = {
    "float32": ("float32", lambda: twins(6000, 64, 60, 1e-6)),
    "float32, centred": ("float32", leaning),
    "int8": ("int8", lambda: near_ties(4000, 64, 64, 1e-2)),
    "pca": ("pca", lambda: near_ties(4000, 64, 64, 1e-2)),
}


@pytest.mark.parametrize("name", SLACK)
def test_a_screen_without_its_slack_lets_wrong_labels_through(name, open_session):
    strategy, make = SLACK[name]
    x, first = make()

    def wrong(spoil):
        backend = CpuBackend(strategy, 1 << 30)
        ((labels, prepared, _),) = assigned_by(backend, open_session(x, backend).rows, [first], spoil)
        assert prepared.strategy == name
        return int((labels != truth.labels(x, first)).sum())

    assert wrong(lambda prepared: None) == 0
    assert wrong(without_slack) > 0


@pytest.mark.parametrize("limit", [0, 2000 * 8, 2000 * 20, 1 << 30])
def test_memory_kept_of_the_rows_is_bounded(limit, open_session):
    x, first = converging()
    result = fitted(x, first, 3, open_session, "int8", limit)
    assert wrong_labels(result, x) == 0
    kept = [epoch.kept_bytes for epoch in result.costs]
    assert max(kept) <= min(limit, len(x) * (x.shape[1] + 24))
    if limit >= 2000 * 20:
        assert max(kept) > limit / 2 or max(kept) == len(x) * (x.shape[1] + 20)


@pytest.mark.parametrize("strategy", FORCED)
def test_by_default_a_quarter_of_the_rows_and_24_bytes_each_are_kept_at_most(strategy, open_session):
    """Of float32 rows: D / 4 floats. Whatever the limit allows, no strategy has a use for more."""
    x, first = converging()
    result = fitted(x, first, 3, open_session, strategy, None)
    kept = max(epoch.kept_bytes for epoch in result.costs)
    assert kept <= len(x) * (x.shape[1] + 24)
    assert kept > len(x) * x.shape[1] or strategy in ("float32", "split")


@pytest.mark.parametrize(("strategy", "each"), [("split", 8), ("pca", 8 + 2 * 7 + 12)])
def test_a_strategy_without_its_memory_is_refused(strategy, each):
    text = (
        f'strategy="{strategy}" keeps {each} bytes a row, {100 * each:,} in all; memory_limit allows {100 * each - 1:,}'
    )
    with pytest.raises(OptionError, match=text):
        KMeans(3, strategy=strategy, memory_limit=100 * each - 1, verbose=0).fit(unit_rows(100, 20))
    KMeans(3, strategy=strategy, memory_limit=100 * each, verbose=0, epochs=2).fit(unit_rows(100, 20))


NO_INTEGERS = Host(int8_gain=lambda *shape: 0.0, worth_int8_trial=0, worth_trial=0)
"""A processor that multiplies 8-bit integers slowly, and a trial for fits of any size."""


def chosen(result):
    return [epoch.strategy.split(",")[0] for epoch in result.costs]


def test_principal_directions_are_chosen_where_they_leave_little(open_session):
    """Rows near few directions, from the first pass on; not rows that have none, nor without memory for them."""
    leading = normal(3000, 24, 1) @ normal(24, 128, 2)
    x = truth.unit((leading + 0.5 * normal(3000, 128, 3)).astype(np.float32))[0]
    first = x[:256].copy()
    result = fitted(x, first, 5, open_session, "auto", host=NO_INTEGERS)
    assert chosen(result) == ["pca"] * 5
    assert wrong_labels(result, x) == 0
    assert max(epoch.kept_bytes for epoch in result.costs) == len(x) * (8 + pca_bytes(128))
    without = fitted(x, first, 5, open_session, "auto", len(x) * (7 + pca_bytes(128)), host=NO_INTEGERS)
    assert set(chosen(without)) == {"float32"}
    np.testing.assert_array_equal(result.labels, without.labels)
    random = unit_rows(3000, 128, 4)
    assert set(chosen(fitted(random, random[:256].copy(), 5, open_session, "auto", host=NO_INTEGERS))) == {"float32"}


def test_one_pass_does_not_make_coordinates_for_every_row():
    x = unit_rows(500, 20)
    kmeans = KMeans(5, strategy="pca", verbose=0, epochs=3).fit(x)
    np.testing.assert_array_equal(kmeans.predict(x), kmeans.labels_)


def test_int8_is_refused_where_integers_are_not_exact(open_session):
    host = Host(int8_is_exact=lambda n_features: False)
    with pytest.raises(BackendUnavailableError, match='strategy="int8" needs exact products'):
        fitted(*converging(), 3, open_session, "int8", host=host)


def short_of(*kinds):
    """`numpy.empty` on a machine without memory for arrays of these types."""

    def empty(shape, dtype):
        if np.dtype(dtype) in [np.dtype(kind) for kind in kinds]:
            raise MemoryError("Unable to allocate 17.0 TiB")
        return np.empty(shape, dtype)

    return empty


def test_a_fit_goes_on_without_room_for_bounds_or_coordinates(open_session):
    leading = normal(3000, 24, 1) @ normal(24, 128, 2)
    x = truth.unit((leading + 0.5 * normal(3000, 128, 3)).astype(np.float32))[0]
    host = replace(NO_INTEGERS, allocate=short_of(np.int32, np.int16))
    result = fitted(x, x[:256].copy(), 3, open_session, "auto", host=host)
    assert wrong_labels(result, x) == 0
    assert set(chosen(result)) == {"float32"}


@pytest.mark.parametrize(
    ("strategy", "kind", "each"), [("split", np.int32, 8), ("pca", np.int32, 116), ("pca", np.int16, 116)]
)
def test_a_strategy_that_was_asked_for_says_that_memory_ended(strategy, kind, each, open_session):
    x = truth.unit(normal(300, 128, 3).astype(np.float32))[0]
    needed = f'strategy="{strategy}" keeps {each} bytes a row, {each * len(x):,} in all; memory_limit'
    with pytest.raises(DeviceMemoryError, match=re.escape(needed)) as caught:
        fitted(x, x[:8].copy(), 3, open_session, strategy, host=Host(allocate=short_of(kind)))
    assert 'strategy="auto"' in str(caught.value)


@pytest.mark.parametrize("noise", [3e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("strategy", [*FORCED, "auto"])
def test_rows_that_lean_one_way_get_the_label_of_the_definition(strategy, noise, open_session):
    """Near their mean, the plain product is one of differences from it; a few rows are elsewhere."""
    d = 48
    x = np.eye(1, d, 5, np.float32) + noise / d**0.5 * normal(3000, d, 1)
    x[::500] = normal(6, d, 2)
    x = truth.unit(x.astype(np.float32))[0]
    result = fitted(x, x[1:61].copy(), 5, open_session, strategy, host=NO_INTEGERS)
    assert wrong_labels(result, x) == 0
    plain = next(epoch.strategy for epoch in result.costs)
    assert plain == (strategy if strategy in ("pca", "int8") else "float32, centred")
    kmeans = KMeans(60, verbose=0, backend="cpu", strategy=strategy)
    kmeans.centers = result.centroids.numpy()
    np.testing.assert_array_equal(kmeans.predict(x), truth.labels(x, result.centroids.numpy()))

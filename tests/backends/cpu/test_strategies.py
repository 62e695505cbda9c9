"""Every way of saving work gives the labels of the definition; a bound without its slack does not."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import truth
from cosmeans import KMeans, lloyd
from cosmeans.backends.cpu import CpuBackend, bounds, gemm, passes, screens
from cosmeans.backends.cpu.bounds import RowBounds, choose_split
from cosmeans.backends.cpu.gemm import Product, torch_gemm
from cosmeans.backends.cpu.pca import Basis, PcaScreen, pca_bytes
from cosmeans.backends.cpu.screens import CentredScreen, Float32Screen, Int8Screen
from cosmeans.backends.cpu.targets import Targets
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError, OptionError, PrecisionError
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from generators import heavy_tailed, near_ties, normal, text_rows, unit_rows

FORCED = ["float32", "split", "pca", "int8"]


def converging(n=2000, d=24, k=40):
    """Rows around centres, and first centroids beside them: most stand still after a few epochs."""
    centres = unit_rows(k, d, 1)
    rows = truth.unit(centres[np.arange(n) % k] + 0.25 * normal(n, d, 2))[0]
    return rows, rows[:k].copy()


def fitted(x, first, epochs, open_rows, strategy, memory_limit=1 << 30, batch_size=None):
    backend = CpuBackend(strategy, memory_limit)
    rows = open_rows(x, backend, batch_size=batch_size)
    return lloyd.fit(
        rows, torch.from_numpy(first), FitOptions(n_clusters=len(first), epochs=epochs), backend, Alone(), Silent()
    )


def wrong_labels(result, x):
    return int((result.labels.numpy() != truth.labels(x, result.centroids.numpy())).sum())


@pytest.mark.parametrize("strategy", FORCED)
def test_history_names_the_path_and_counts_its_work(strategy, open_rows):
    x, first = converging()
    result = fitted(x, first, 12, open_rows, strategy, batch_size=700)
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


def no_slack(monkeypatch, which):
    """Take the slack out of one bound."""
    if which == "float32":
        whole_targets = passes.Targets.of
        monkeypatch.setattr(passes.Targets, "of", lambda *args: whole_targets(*args)._replace(error=0.0))
    if which in ("int8", "pca"):
        screen = {"int8": Int8Screen, "pca": PcaScreen}[which]
        whole = screen.rows
        monkeypatch.setattr(
            screen, "rows", lambda *args: replace(codes := whole(*args), slack=0 * codes.slack, tail=0 * codes.tail)
        )
    if which == "split":
        whole_movement = RowBounds.movement

        def movement(self, centroids, leading):
            moved = whole_movement(self, centroids, leading)
            return np.where(np.isfinite(moved), moved / 50, moved)

        monkeypatch.setattr(RowBounds, "movement", movement)


def twins(n, d, k, spread):
    """Centroids in all directions, each with another one next to it, and rows as near to both."""
    centres = unit_rows(k // 2, d, 3)
    near = centres + spread * normal(k // 2, d, 4) / d**0.5
    rows = centres[np.arange(n) % len(centres)] + spread * normal(n, d, 5) / d**0.5
    return truth.unit(rows)[0], truth.unit(np.concatenate([centres, near]).astype(np.float32))[0]


@pytest.mark.parametrize("which", FORCED)
def test_a_bound_without_its_slack_lets_wrong_labels_through(which, monkeypatch, open_rows):
    cases = {
        "float32": lambda: (*twins(6000, 64, 60, 1e-6), [0]),
        "int8": lambda: (*near_ties(4000, 64, 64, 1e-2), [0]),
        "pca": lambda: (*near_ties(4000, 64, 64, 1e-2), [0]),
        "split": lambda: (*converging(4000, 24, 60), [1, 4, 7, 10]),
    }
    x, first, epochs = cases[which]()

    def wrong():
        answers = [answer(n) for n in epochs]
        return sum(int((labels != truth.labels(x, centroids)).sum()) for labels, centroids in answers)

    def answer(n):
        if n == 0:
            backend = CpuBackend(which, 1 << 30)
            rows = open_rows(x, backend)
            backend.begin(rows)
            (batch,) = rows.batches()
            nothing = torch.full((len(x),), -1, dtype=torch.int32)
            return backend.assign(batch, backend.prepare(torch.from_numpy(first)), nothing).labels.numpy(), first
        result = fitted(x, first, n, open_rows, which)
        return result.labels.numpy(), result.centroids.numpy()

    assert wrong() == 0
    no_slack(monkeypatch, which)
    assert wrong() > 0


ROWS = {
    "random": lambda: unit_rows(300, 96),
    "positive": lambda: truth.unit(np.abs(normal(300, 96, 1)))[0],
    "one large, many tiny": lambda: truth.unit(
        np.concatenate([np.ones((300, 1)), 1e-4 * normal(300, 95, 2)], axis=1).astype(np.float32)
    )[0],
    "heavy tails": lambda: truth.unit(heavy_tailed(300, 96, 3))[0],
    "text": lambda: text_rows(300),
}


PRODUCT = Product(torch_gemm, 1 << 20, all_cores=False)
SCREENS = {  # and how far its bounds may lie above the truth
    "float32": (lambda x: Float32Screen(PRODUCT), 1e-4),
    "centred": (lambda x: CentredScreen(PRODUCT, x[:50].mean(axis=0)), 2e-4),
    "int8": (lambda x: Int8Screen(x[:50].mean(axis=0), 0), 0.2),
    "pca": (lambda x: PcaScreen(PRODUCT, Basis.of(x), len(x)), 2.1),
    "pca, another basis": (lambda x: PcaScreen(PRODUCT, Basis.of(normal(100, x.shape[1], 7)), len(x)), 2.1),
    "pca, skew": (lambda x: PcaScreen(PRODUCT, skew(Basis.of(x)), len(x)), 10.0),
}


def skew(basis):
    """Directions that are neither orthogonal nor of unit length."""
    return Basis(basis.directions + 0.02 * normal(*basis.directions.shape, 8))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("screen", SCREENS)
def test_what_a_screen_says_is_above_the_truth(screen, kind):
    """t <= v + slack for every pair, in float64; and not by so much that it would say nothing."""
    x = ROWS[kind]()
    g = x[100:140].mean(axis=0)
    make, most = SCREENS[screen]
    made = make(x)
    columns = made.columns(Targets.of(x, np.arange(100, 140, dtype=np.int32), g))
    codes = made.rows(x, np.ones(len(x), bool), 0, columns)
    v = truth.screened(made, codes, columns)
    if columns.factor is not None:
        v = v * columns.factor * codes.scale[:, None] + columns.bias + codes.tail[:, None] * columns.width
    t = x.astype(np.float64) @ (x[100:140].astype(np.float64) - g.astype(np.float64)).T
    above = v + codes.slack[:, None] - t
    assert above.min() >= 0
    assert above.max() <= most


@pytest.mark.parametrize("strategy", ["split", "pca", "int8"])
def test_kept_bounds_are_above_every_other_centroid(strategy, open_rows):
    x, first = converging()
    backend = CpuBackend(strategy, 1 << 30)
    rows = open_rows(x, backend, batch_size=512)
    for epochs in (1, 4, 9):
        result = lloyd.fit(
            rows, torch.from_numpy(first), FitOptions(n_clusters=len(first), epochs=epochs), backend, Alone(), Silent()
        )
        kept = backend._strategies._kept
        origin = backend._strategies._origin.astype(np.float64)
        t = x.astype(np.float64) @ (result.centroids.numpy().astype(np.float64) - origin).T
        np.testing.assert_array_equal(kept.label, result.labels.numpy())
        t[np.arange(len(x)), kept.label] = -np.inf
        assert (kept.bound >= t.max(axis=1)).all()


def test_split_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = np.sort(rng.exponential(0.1, 200))[::-1].copy()
        need = rng.normal(0.05, 0.05, 300)
        costs = []
        for heavy in range(201):
            farthest = moved[heavy] if heavy < 200 else 0.0
            paid = 0 if heavy == 0 else min(200, -(-heavy // bounds._PANEL) * bounds._PANEL) + bounds._EACH_ROW
            whole = 200 + bounds._EACH_ROW
            costs.append((paid + (need <= farthest).mean() * (whole - paid)) / whole)
        chosen = choose_split(moved, need)
        assert chosen.left == pytest.approx(min(1.0, *costs) if min(costs) <= bounds._WORTH else 1.0)
        assert chosen.heavy == 200 or chosen.farthest == moved[chosen.heavy]


def test_a_pass_broken_off_leaves_no_bound_to_go_on_from(open_rows):
    x, first = converging()
    backend = CpuBackend("split", 1 << 30)
    rows = open_rows(x, backend, batch_size=500)
    backend.begin(rows)
    labels = torch.full((len(x),), -1, dtype=torch.int32)
    for turn in range(3):
        centroids = truth.unit(first + 0.2 * turn * normal(*first.shape, 5))[0]
        prepared = backend.prepare(torch.from_numpy(centroids))
        for batch in list(rows.batches())[: 2 if turn == 1 else None]:  # the second pass ends early
            labels[batch.span] = backend.assign(batch, prepared, labels[batch.span]).labels
    np.testing.assert_array_equal(labels.numpy(), truth.labels(x, centroids))


@pytest.mark.parametrize("limit", [0, 2000 * 8, 2000 * 20, 1 << 30])
def test_memory_kept_of_the_rows_is_bounded(limit, open_rows):
    x, first = converging()
    result = fitted(x, first, 3, open_rows, "int8", limit)
    assert wrong_labels(result, x) == 0
    kept = [epoch.kept_bytes for epoch in result.costs]
    assert max(kept) <= min(limit, len(x) * (x.shape[1] + 24))
    if limit >= 2000 * 20:
        assert max(kept) > limit / 2 or max(kept) == len(x) * (x.shape[1] + 20)


@pytest.mark.parametrize("strategy", FORCED)
def test_by_default_a_quarter_of_the_rows_and_24_bytes_each_are_kept_at_most(strategy, open_rows):
    """Of float32 rows: D / 4 floats. Whatever the limit allows, no strategy has a use for more."""
    x, first = converging()
    result = fitted(x, first, 3, open_rows, strategy, None)
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


@pytest.fixture
def no_integers(monkeypatch):
    """A processor that multiplies 8-bit integers slowly, and a trial for fits of any size."""
    monkeypatch.setattr(passes, "int8_gain", lambda *shape: 0.0)
    monkeypatch.setattr(passes, "_WORTH_INT8_TRIAL", 0)
    monkeypatch.setattr(passes, "_WORTH_A_TRIAL", 0)


def chosen(result):
    return [epoch.strategy.split(",")[0] for epoch in result.costs]


def test_principal_directions_are_chosen_where_they_leave_little(no_integers, monkeypatch, open_rows):
    """Rows near few directions, from the first pass on; not rows that have none, nor without memory for them."""
    leading = normal(3000, 24, 1) @ normal(24, 128, 2)
    x = truth.unit((leading + 0.5 * normal(3000, 128, 3)).astype(np.float32))[0]
    first = x[:256].copy()
    result = fitted(x, first, 5, open_rows, "auto")
    assert chosen(result) == ["pca"] * 5
    assert wrong_labels(result, x) == 0
    assert max(epoch.kept_bytes for epoch in result.costs) == len(x) * (8 + pca_bytes(128))
    without = fitted(x, first, 5, open_rows, "auto", len(x) * (7 + pca_bytes(128)))
    assert set(chosen(without)) == {"float32"}
    np.testing.assert_array_equal(result.labels, without.labels)
    random = unit_rows(3000, 128, 4)
    assert set(chosen(fitted(random, random[:256].copy(), 5, open_rows, "auto"))) == {"float32"}


def test_one_pass_does_not_make_coordinates_for_every_row():
    x = unit_rows(500, 20)
    kmeans = KMeans(5, strategy="pca", verbose=0, epochs=3).fit(x)
    np.testing.assert_array_equal(kmeans.predict(x), kmeans.labels_)


@pytest.mark.parametrize("d", [1, 2, 3, 17, 64, 129, 384])
def test_integer_products_are_exact_for_every_shape(d):
    rng = np.random.default_rng(d)
    for b, k in [(1, 1), (1, 7), (3, 1), (2, 2), (16, 16), (17, 5), (130, 65), (33, 100), (257, 1000)]:
        rows, columns = (
            rng.choice(np.array([-127, 126, 127], np.int8), (b, d)),
            rng.integers(-127, 128, (k, d), np.int8),
        )
        out = np.empty((b, k), np.int32)
        gemm.int8_gemm(rows, columns, out)
        np.testing.assert_array_equal(out, rows.astype(np.int64) @ columns.astype(np.int64).T)


def test_int8_is_refused_where_integers_saturate(monkeypatch):
    def saturating(rows, centroids, out):
        out[:] = np.clip(rows.astype(np.int32) @ centroids.astype(np.int32).T, -32768, 32767)

    monkeypatch.setattr(gemm, "int8_gemm", saturating)
    gemm.int8_is_exact.cache_clear()
    try:
        with pytest.raises(BackendUnavailableError, match='strategy="int8" needs exact products'):
            KMeans(3, strategy="int8", verbose=0).fit(unit_rows(100, 64))
        assert gemm.int8_gain(16, 64, 1) == 0.0
    finally:
        gemm.int8_is_exact.cache_clear()


def test_centroids_that_become_equal_make_no_new_trial_of_integers(monkeypatch):
    shapes = set()
    monkeypatch.setattr(gemm, "int8_is_exact", lambda _: True)
    monkeypatch.setattr(gemm, "tried_gain", lambda *shape: shapes.add(shape) or 1.0)
    for n_clusters in range(961, 5000):
        gemm.int8_gain(n_clusters, 384, 2)
    assert shapes == {(1024, 384, 2)}


def test_a_product_that_loses_bits_is_refused(monkeypatch):
    def bfloat16(rows, centroids, out):
        out[:] = (torch.from_numpy(rows).bfloat16() @ torch.from_numpy(centroids).bfloat16().T).float().numpy()

    monkeypatch.setattr(gemm, "torch_gemm", bfloat16)
    assert gemm.choose_gemm(8, 16).multiply is gemm.numpy_gemm
    monkeypatch.setattr(gemm, "numpy_gemm", bfloat16)
    with pytest.raises(PrecisionError, match="lose bits"):
        gemm.choose_gemm(8, 16)


def scarce(limit):
    """`numpy.empty` on a machine with so many bytes."""

    def empty(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > limit:
            raise MemoryError
        return np.empty(shape, dtype)

    return empty


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (24 * 300, 250), (24 * 1000, 1000), (1 << 30, 2000)])
def test_fewer_rows_are_kept_where_memory_ends(limit, kept, monkeypatch, open_rows):
    x, first = converging()
    monkeypatch.setattr(screens, "Int8Rows", partial(screens.Int8Rows, empty=scarce(limit)))
    result = fitted(x, first, 4, open_rows, "int8", batch_size=100)
    assert wrong_labels(result, x) == 0
    assert max(epoch.kept_bytes for epoch in result.costs) == len(x) * 8 + kept * (24 + 12)


def test_a_fit_goes_on_without_room_for_bounds_or_coordinates(no_integers, monkeypatch, open_rows):
    def none(*_):
        raise MemoryError

    leading = normal(3000, 24, 1) @ normal(24, 128, 2)
    x = truth.unit((leading + 0.5 * normal(3000, 128, 3)).astype(np.float32))[0]
    monkeypatch.setattr(passes, "RowBounds", none)
    monkeypatch.setattr(passes, "PcaScreen", none)
    result = fitted(x, x[:256].copy(), 3, open_rows, "auto")
    assert wrong_labels(result, x) == 0
    assert set(chosen(result)) == {"float32"}


@pytest.mark.parametrize(
    ("strategy", "part", "each"),
    [("split", "RowBounds", 8), ("pca", "RowBounds", 116), ("pca", "PcaScreen", 116), ("pca", "Basis.of", 116)],
)
def test_a_strategy_that_was_asked_for_says_that_memory_ended(strategy, part, each, monkeypatch, open_rows):
    def none(*_):
        raise MemoryError("Unable to allocate 17.0 TiB")

    x = truth.unit(normal(300, 128, 3).astype(np.float32))[0]
    monkeypatch.setattr(f"{passes.__name__}.{part}", none)
    needed = f'strategy="{strategy}" keeps {each} bytes a row, {each * len(x):,} in all; memory_limit'
    with pytest.raises(DeviceMemoryError, match=re.escape(needed)) as caught:
        fitted(x, x[:8].copy(), 3, open_rows, strategy)
    assert 'strategy="auto"' in str(caught.value)


@pytest.mark.parametrize("noise", [3e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("strategy", [*FORCED, "auto"])
def test_rows_that_lean_one_way_get_the_label_of_the_definition(strategy, noise, no_integers, open_rows):
    """Near their mean, the plain product is one of differences from it; a few rows are elsewhere."""
    d = 48
    x = np.eye(1, d, 5, np.float32) + noise / d**0.5 * normal(3000, d, 1)
    x[::500] = normal(6, d, 2)
    x = truth.unit(x.astype(np.float32))[0]
    result = fitted(x, x[1:61].copy(), 5, open_rows, strategy)
    assert wrong_labels(result, x) == 0
    plain = next(epoch.strategy for epoch in result.costs)
    assert plain == (strategy if strategy in ("pca", "int8") else "float32, centred")
    kmeans = KMeans(60, verbose=0, backend="cpu", strategy=strategy)
    kmeans.centers = result.centroids.numpy()
    np.testing.assert_array_equal(kmeans.predict(x), truth.labels(x, result.centroids.numpy()))


def test_a_centred_product_without_its_slack_lets_wrong_labels_through(monkeypatch, open_rows):
    d = 48
    around = np.eye(1, d, 5, np.float32) + 2e-3 * normal(60, d, 1)
    first = truth.unit(np.concatenate([around, around + 3e-7 * normal(60, d, 3)]).astype(np.float32))[0]
    x = truth.unit(first[np.arange(6000) % 120] + 1e-7 * normal(6000, d, 4))[0]

    def wrong():
        backend = CpuBackend("float32", 1 << 30)
        rows = open_rows(x, backend)
        backend.begin(rows)
        (batch,) = rows.batches()
        prepared = backend.prepare(torch.from_numpy(first))
        found = backend.assign(batch, prepared, torch.full((len(x),), -1, dtype=torch.int32))
        assert found.work.strategy == "float32, centred"
        return int((found.labels.numpy() != truth.labels(x, first)).sum())

    assert wrong() == 0
    whole = CentredScreen.rows
    monkeypatch.setattr(CentredScreen, "rows", lambda *args: replace(codes := whole(*args), slack=0 * codes.slack))
    assert wrong() > 0

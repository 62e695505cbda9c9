"""Cases in which the bounds are met exactly: a bound that is a little too small fails here."""

import numpy as np
import pytest
import torch

import truth
from cosmeans.backends.cpu import CpuBackend, decide, encode
from cosmeans.backends.cpu.gemm import Product, torch_gemm
from cosmeans.backends.cpu.pca import Basis, PcaScreen
from cosmeans.backends.cpu.screens import CentredScreen, Int8Screen
from cosmeans.backends.cpu.targets import Targets
from generators import normal, unit_rows

D = 64
SMALL = 0.01  # a step along the first axis


def beside(first_entries, ahead=1):
    """Unit centroids, each along an axis of its own but for its first entry."""
    out = np.zeros((len(first_entries), D), np.float32)
    out[np.arange(len(out)), ahead + np.arange(len(out))] = 1.0
    out[:, 0] = first_entries
    return truth.unit(out)[0]


def labelled(backend, rows, passes):
    """Labels after the last of some passes, and what it worked."""
    backend.begin(rows)
    (batch,) = rows.batches()
    labels = torch.full((rows.n_rows,), -1, dtype=torch.int32)
    for centroids in passes:
        assignment = backend.assign(batch, backend.prepare(torch.from_numpy(centroids)), labels)
        labels = assignment.labels
    return labels.numpy(), assignment.work


@pytest.mark.parametrize(("own", "stays"), [(0.98 * SMALL, False), (1.02 * SMALL, True)])
def test_a_bound_grows_as_far_as_centroids_moved(own, stays, open_rows):
    """All centroids but that of the rows move straight towards them: t grows by the whole chord."""
    x = np.repeat(np.eye(1, D, dtype=np.float32), 600, axis=0)
    before = beside([own] + [-SMALL] * 39)
    after = beside([own] + [SMALL] * 39)
    backend = CpuBackend("split", 1 << 30)
    labels, work = labelled(backend, open_rows(x, backend), [before] * 4 + [after])  # g stands still after three
    np.testing.assert_array_equal(labels, truth.labels(x, after))
    assert (labels == 0).all() == stays
    if stays:
        assert work.dots == len(x)  # own ones only: the bound proved every label


def test_a_bound_grows_as_far_as_the_middle_moved(open_rows):
    """Half of the centroids move away from the rows and take g along: t of those that stand still grows."""
    x = np.repeat(np.eye(1, D, dtype=np.float32), 600, axis=0)
    before = beside([0.05] + [0.0] * 39)
    after = beside([-0.01] + [0.0] * 20 + [-0.4] * 19)
    backend = CpuBackend("split", 1 << 30)
    labels, _ = labelled(backend, open_rows(x, backend), [before, after])
    np.testing.assert_array_equal(labels, truth.labels(x, after))
    assert (labels == 1).all()


def halfway(n, signs):
    """Rows whose entries lie just beside the middle between two 8-bit codes, on the side that signs say."""
    codes = np.random.default_rng(0).integers(-126, 126, (n, D))
    rows = codes + 0.499 * signs
    rows[:, 0] = 127.0
    return truth.unit(rows.astype(np.float32))[0]


def columns_of(centroids):
    """Every centroid a column, around 0."""
    return Targets.of(centroids, np.arange(len(centroids), dtype=np.int32), np.zeros(centroids.shape[1], np.float32))


def int8_loses_of_rows():
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (30, D))
    signs[:, 0] = 0.0
    return Int8Screen(np.zeros(D, np.float32), 0), halfway(30, signs), (signs / 8).astype(np.float32)


def int8_loses_of_columns():
    screen, columns, rows = int8_loses_of_rows()
    return screen, truth.unit(rows)[0], columns


def pca_leaves_outside():
    """Rows and columns with parallel parts outside the directions."""
    screen = _pca()
    outside = truth.unit(normal(30, D, 5) - _within(screen, normal(30, D, 5)))[0]
    inside = truth.unit(_within(screen, normal(30, D, 6)))[0]
    rows = truth.unit(0.6 * inside + 0.8 * outside)[0]
    return screen, rows, (0.5 * inside + 0.5 * outside).astype(np.float32)


def pca_rounds():
    """Rows along what 16 bits take from columns, and columns along what they take from rows: half a code each."""
    screen = _pca()
    directions = screen.basis.directions
    code = encode.LONGEST / directions.shape[1] ** 0.5
    along = np.full((30, directions.shape[1]), 1.0)
    across = along * np.resize([1.0, -1.0], directions.shape[1])
    assert code == int(code)
    rows, columns = (
        (part @ directions.T).astype(np.float32)
        for part in (code * along + 0.49 * across, code * across + 0.49 * along)
    )
    return screen, truth.unit(rows)[0], truth.unit(columns)[0]


def pca_off():
    """Coordinates too small by all that a float32 product may lose, where each of them counts."""

    def lossy(rows, columns, out):
        sizes = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
        out[:] = rows.astype(np.float64) @ columns.T - 0.95 * rows.shape[1] * 2.0**-24 * sizes

    screen = _pca(lossy)
    screen.basis.packed = None  # as where no product of ours is
    directions = screen.basis.directions
    every = np.ones((30, directions.shape[1])) / directions.shape[1] ** 0.5
    rows = truth.unit((every @ directions.T).astype(np.float32))[0]
    return screen, rows, 0.5 * rows


def _pca(multiply=torch_gemm):
    return PcaScreen(Product(multiply, 1 << 20, all_cores=False), Basis.of(normal(500, D, 4)), 30)


def _within(screen, rows):
    directions = screen.basis.directions
    return (rows @ directions @ directions.T).astype(np.float32)


def centred_loses_of_products():
    """Sums that lose as much as float32 may, of rows and columns alike."""

    def lossy(rows, columns, out):
        sizes = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
        out[:] = rows.astype(np.float64) @ columns.T - 0.98 * rows.shape[1] * 2.0**-24 * sizes

    middle = 3.0 * np.eye(1, D, dtype=np.float32)[0]
    near = unit_rows(30, D, 1)
    near[:, 0] = 0.0  # the middle's part has no rounding, then
    screen = CentredScreen(Product(lossy, 1 << 20, all_cores=False), middle)
    return screen, (middle + 0.01 * near).astype(np.float32), 0.01 * near


TIGHT = {  # and how near the bound comes to the truth, at most
    "int8, rows": (int8_loses_of_rows, 3e-5),
    "int8, columns": (int8_loses_of_columns, 3e-5),
    "centred": (centred_loses_of_products, 4e-10),
    "pca, outside": (pca_leaves_outside, 5e-4),
    "pca, off": (pca_off, 2e-4),
    "pca, rounded": (pca_rounds, 1e-4),  # of which most is what float32 may lose of coordinates, by proof
}


@pytest.mark.parametrize("case", TIGHT)
def test_what_a_screen_loses_is_bounded_where_it_is_most(case):
    make, near = TIGHT[case]
    screen, rows, shifted = make()
    columns = screen.columns(columns_of(shifted))
    codes = screen.rows(rows, np.ones(len(rows), bool), 0, columns)
    v = truth.screened(screen, codes, columns) * columns.factor.astype(np.float64) * codes.scale[:, None] + columns.bias
    above = v + codes.tail[:, None].astype(np.float64) * columns.width + codes.slack[:, None]
    above = np.diag(above - rows.astype(np.float64) @ shifted.T.astype(np.float64))
    assert above.min() >= 0
    assert above.max() <= near


@pytest.mark.parametrize("columns", [2, 7, 64, 65, 300])
@pytest.mark.parametrize("own", ["none", "right", "any"])
@pytest.mark.parametrize("excess", [0.0, 0.05, 1.0])
def test_labels_and_bounds_hold_however_loose_a_screen_is(excess, own, columns):
    """Whatever lies above the truth will do as a screen: it costs time, no label, and no bound."""
    x, centroids = unit_rows(200, D, 1), unit_rows(columns, D, 2)
    rng = np.random.default_rng(3)
    t = x.astype(np.float64) @ centroids.T.astype(np.float64)
    best = t.argmax(axis=1)
    column = {"none": np.full(200, -1), "right": best, "any": rng.integers(0, columns, 200)}[own].astype(np.int32)
    values = (t + excess * rng.exponential(1.0, t.shape)).astype(np.float32)
    targets = columns_of(centroids)
    error = targets.error
    own_t = np.where(column >= 0, np.einsum("ij,ij->i", x, centroids[column]), -np.inf).astype(np.float64)
    nothing = np.full(200, -np.inf, np.float32)
    screen = (
        None,
        None,
        None,
        np.ones(200, np.float32),
        np.zeros(200, np.float32),
        np.full(200, 2 * error, np.float32),
    )
    labels, bound = np.empty(200, np.int32), np.empty(200, np.float32)
    decide.decide(
        values, columns, np.float32(-np.inf), np.arange(200, dtype=np.int32), x, column, own_t, nothing, screen,
        targets, labels, bound, 0, 200,
    )  # fmt: skip
    np.testing.assert_array_equal(labels, best)
    t[np.arange(200), best] = -np.inf
    assert (bound >= t.max(axis=1)).all()

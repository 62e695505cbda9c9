"""What a screen says of a score is never below it: on rows of any kind, and where bounds are met exactly."""

import numpy as np
import pytest

import truth
from cosmeans.backends.cpu.kernels import encode, fused
from cosmeans.backends.cpu.kernels.gemm import Product, torch_gemm
from cosmeans.backends.cpu.screens.centred import CentredScreen
from cosmeans.backends.cpu.screens.float32 import Float32Screen
from cosmeans.backends.cpu.screens.int8 import Int8Screen
from cosmeans.backends.cpu.screens.pca import Basis, PcaScreen
from cosmeans.backends.cpu.screens.screen import middle_of
from cosmeans.backends.cpu.targets import Targets
from generators import heavy_tailed, normal, text_rows, unit_rows
from screening import columns_of

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


SCREENS = {  # and how far its bounds may be above the truth
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


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("inside", [0.0, 1.0])
@pytest.mark.parametrize("claimed", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["float32", "centred", "int8", "pca"])
def test_what_a_screen_says_of_a_head_is_above_the_truth_of_its_row(kind, claimed, inside, kept):
    """Heads that 8 and 16 bits hold, short of their rows along a column: nothing but what they lost covers it.

    inside: the part of the columns that is within the directions. kept: rows themselves are what a later pass has
    """
    rng = np.random.default_rng(5)
    heads = rng.choice([-0.125, 0.125], (40, 64)).astype(np.float32)  # of length 1
    axes = np.eye(64)[:, :32]
    heads[:, 32:] = 0.0 if kind == "pca" else heads[:, 32:]
    columns = rng.choice([-0.125, 0.125], (40, 64)).astype(np.float32)
    columns[:, 32:] *= 1.0 - inside
    columns[:, :32] *= 1.0 if inside else 0.0
    columns = truth.unit(columns)[0]
    x = (heads + 0.05 * columns).astype(np.float32)
    lost = (claimed * 0.0501 * np.ones(40)).astype(np.float32)
    nothing = np.zeros(64, np.float32)
    make = {
        "float32": lambda: Float32Screen(PRODUCT),
        "centred": lambda: CentredScreen(PRODUCT, nothing),
        "int8": lambda: Int8Screen(nothing, 40 if kept else 0),
        "pca": lambda: PcaScreen(PRODUCT, Basis(axes), 40),
    }[kind]
    screen, every = make(), np.ones(40, bool)
    encoded = screen.columns(columns_of(columns))
    codes = screen.rows(heads, every, 0, encoded, lost)
    if kept and screen.kept_bytes:
        codes = screen.rows(x, every, 0, encoded)
    v = truth.screened(screen, codes, encoded)
    if encoded.factor is not None:
        v = v * encoded.factor * codes.scale[:, None] + encoded.bias + codes.tail[:, None] * encoded.width
    t = x.astype(np.float64) @ columns.astype(np.float64).T
    above = v + codes.slack[:, None] - t
    assert (above.min() >= 0) == (claimed == 1.0)


D = 64


def halfway(n, signs):
    """Rows whose entries are just off the middle between two 8-bit codes, on the side that signs say."""
    codes = np.random.default_rng(0).integers(-126, 126, (n, D))
    rows = codes + 0.499 * signs
    rows[:, 0] = 127.0
    return truth.unit(rows.astype(np.float32))[0]


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

    screen = _pca(lossy, lambda columns: None)  # as where no product of ours is
    directions = screen.basis.directions
    every = np.ones((30, directions.shape[1])) / directions.shape[1] ** 0.5
    rows = truth.unit((every @ directions.T).astype(np.float32))[0]
    return screen, rows, 0.5 * rows


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


def _pca(multiply=torch_gemm, pack=fused.packed):
    return PcaScreen(Product(multiply, 1 << 20, all_cores=False), Basis.of(normal(500, D, 4), pack), 30)


def _within(screen, rows):
    directions = screen.basis.directions
    return (rows @ directions @ directions.T).astype(np.float32)


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


ENCODED = {
    "float32, centred": lambda x: CentredScreen(PRODUCT, x[1:].mean(axis=0)),
    "int8": lambda x: Int8Screen(x[1:].mean(axis=0), len(x)),
    "int8, kept of none": lambda x: Int8Screen(x[1:].mean(axis=0), 0),
    "pca": lambda x: PcaScreen(PRODUCT, Basis.of(x[1:]), len(x)),
}


@pytest.mark.parametrize("screen", ENCODED)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_encoded_of_rows_left_out_is_finite(screen, bad):
    x, keep = unit_rows(40, 32), np.ones(40, bool)
    clean = ENCODED[screen](x)
    columns = clean.columns(columns_of(x[1:7].copy()))
    expected = clean.rows(x, keep, 0, columns)
    made = ENCODED[screen](x)
    x[0], x[17, 3], keep[[0, 17]] = bad, bad, False
    codes = made.rows(x, keep, 0, columns)
    for part, good in zip(
        (codes.scale, codes.tail, codes.slack), (expected.scale, expected.tail, expected.slack), strict=True
    ):
        assert np.isfinite(part).all()
        np.testing.assert_array_equal(part[keep], good[keep])
    assert not codes.codes[~keep].any()
    np.testing.assert_array_equal(codes.codes[keep], expected.codes[keep])


def test_the_middle_of_no_rows_is_as_good_as_any():
    np.testing.assert_array_equal(middle_of(np.empty((0, 3), np.float32)), np.zeros(3, np.float32))

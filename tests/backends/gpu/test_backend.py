"""The portable kernels, in the interpreter, against the float64 reference: the same bits, everywhere."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from cosmeans import lloyd, sphere
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.kernels import accumulate as sums_of_gpu
from cosmeans.backends.gpu.kernels import screen
from cosmeans.backends.gpu.kernels.accumulate import MoveSpace
from cosmeans.backends.gpu.kernels.norms import inspect_rows, squared_norms
from cosmeans.backends.gpu.kernels.quantize import Copy, copy_rows
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Batch, ClusterSums
from cosmeans.errors import BackendUnavailableError
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

SHAPES = [(1, 1, 1), (63, 17, 5), (130, 70, 33), (67, 130, 140)]  # N, D, K: odd, so every mask is used


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def a_batch(n: int, d: int, dtype: torch.dtype = torch.float32, *, weighted: bool = False) -> Batch:
    rows = (3.0 * directions(n, d)).to(dtype)
    weights = 1.0 + directions(n, 1, 7)[:, 0].abs().double() if weighted else None
    return Batch(0, rows, sphere.divisors(sphere.squared_norms(rows)), None, weights)


def labels_of(backend: GpuBackend | ReferenceBackend, batch: Batch, centroids: Tensor) -> Tensor:
    before = torch.full((len(batch),), -1, dtype=torch.int32)
    return backend.assign(batch, backend.prepare(centroids), before).labels.clone()


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_labels_are_those_of_the_reference(n: int, d: int, k: int, dtype: torch.dtype, integers: bool) -> None:
    batch, centroids = a_batch(n, d, dtype), sphere.normalise(directions(k, d, 1))
    gpu = GpuBackend("cpu", integers=integers)

    assert torch.equal(labels_of(gpu, batch, centroids), labels_of(ReferenceBackend(), batch, centroids))


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_what_a_copy_loses_is_bounded_by_its_residuals(dtype: torch.dtype, integers: bool) -> None:
    """Rows of any length, some of them close to a power of two; the truth is float64."""
    lengths = torch.tensor([1e-3, 0.75, 0.999, 1.0, 1.4999, 1.5, 1.5001, 300.0])[:, None]
    rows = (sphere.normalise(directions(8, 70)) * lengths).to(dtype)
    norms = sphere.divisors(sphere.squared_norms(rows))
    copy = Copy.empty(8, 70, 0, integers, torch.device("cpu"))

    copy_rows(Batch(0, rows, norms), copy, 0)

    screened = copy.values.view(8, -1)[:, :70].double() * copy.units.double()[:, None]
    lost = (sphere.unit_rows(rows, norms).double() - screened).norm(dim=1)
    assert (lost <= copy.residuals).all()
    assert (copy.residuals <= 1.01 * lost + 2e-6).all()  # and no more than that
    assert (copy.values.view(8, -1)[:, 70:] == 0).all()


def test_more_features_than_the_8_bit_screen_can_add_are_refused() -> None:
    with pytest.raises(BackendUnavailableError, match=r"at most 2080 features .* these rows have 2081"):
        GpuBackend("cpu", integers=True).prepare(sphere.normalise(directions(2, 2081)))


def sums_agree(gpu: GpuBackend, batch: Batch, labels: list[Tensor], k: int) -> None:
    """Rows move from each of these labels to the next: sums, counts and changed rows are the reference's."""
    found, expected = (ClusterSums.zeros(k, batch.rows.shape[1], 35, "cpu") for _ in range(2))
    reference = ReferenceBackend()
    for before, after in itertools.pairwise(labels):
        moved = before.clone()

        changed = gpu.accumulate(batch, moved, after, found)

        assert int(changed) == reference.accumulate(batch, before.clone(), after, expected)
        assert torch.equal(moved, after)
        assert torch.equal(found.direction, expected.direction)
        assert torch.equal(found.count, expected.count)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_sums_and_counts_are_those_of_the_reference(n: int, d: int, k: int, weighted: bool) -> None:
    batch = a_batch(n, d, weighted=weighted)
    generator = torch.Generator().manual_seed(2)
    labels = [torch.randint(-1, k, (n,), dtype=torch.int32, generator=generator) for _ in range(3)]
    sums_agree(GpuBackend("cpu"), batch, [torch.full_like(labels[0], -1), *labels], k)


@pytest.mark.parametrize("share", [0.02, 1.0], ids=["few rows move", "all move"])
def test_events_sorted_in_many_groups_add_up_to_the_same(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_of_gpu, "_SPAN", 1024)
    monkeypatch.setattr(sums_of_gpu, "_LEAST_FIRST_RUN", 1)
    n, d, k = 2100, 5, 4
    batch, generator = a_batch(n, d), torch.Generator().manual_seed(2)
    draw = lambda: torch.randint(-1, k, (n,), dtype=torch.int32, generator=generator)  # noqa: E731
    labels = [draw()]
    for _ in range(2):  # rows without a label are among those that move, to and fro
        labels.append(torch.where(torch.rand(n, generator=generator) < share, draw(), labels[-1]))
    gpu = GpuBackend("cpu")
    sums_agree(gpu, batch, [torch.full_like(labels[0], -1), *labels], k)
    before, after = labels[-2:]
    space = gpu._desk.moves(n, k)
    assert (space.first, space.span, space.groups) == (8, 1024, 11)
    n_events = int(space.n_events)
    sorted_by = space.clusters[:n_events]
    assert n_events == int(space.totals[: space.groups].sum())
    assert torch.equal(torch.bincount(sorted_by, minlength=k), events_of(before, after, k))


def events_of(before: Tensor, after: Tensor, k: int) -> Tensor:
    """How many rows join or leave each cluster."""
    moved = before != after
    both = torch.cat([before[moved], after[moved]])
    return torch.bincount(both[both >= 0], minlength=k)


@pytest.mark.parametrize(
    ("n", "k", "first", "span"),
    [
        (1_000_000, 1000, 8, 8192),
        (1_000_000, 2048, 1, 8192),
        (1_000_000, 4096, 1, 1_000_000),  # of a cluster fewer than eight events would be together
        (100_000, 1000, 1, 8192),
        (500, 100, 1, 8192),
        (500, 4096, 1, 1024),
    ],
)
def test_groups_hold_runs(n: int, k: int, first: int, span: int) -> None:
    space = MoveSpace(n, k, torch.device("meta"))

    assert (space.first, space.span) == (first, span)
    assert space.groups == first + -(-n // span)
    # what the plan of the memory has for counters: 3 bytes a row and 108 a cluster
    assert 12 * space.groups * k <= 3 * n + 108 * k


@pytest.mark.parametrize(("k", "d"), [(1, 1), (5, 17), (33, 70), (600, 3)])
def test_update_and_figures_are_those_of_the_reference(k: int, d: int) -> None:
    previous = sphere.normalise(directions(k, d))
    direction = (directions(k, d, 1).double() * 2.0**38).to(torch.int64)
    direction[k // 2] = 0
    sums = ClusterSums(direction, torch.arange(k), 35)

    found = GpuBackend("cpu").update(sums, previous, 12345 << 35, 3, 4)
    expected = ReferenceBackend().update(sums, previous, 12345 << 35, 3, 4)

    assert torch.equal(found.update.centroids, expected.update.centroids)
    assert torch.equal(found.update.lost, expected.update.lost)
    assert found.read() == expected.read()


@pytest.mark.parametrize(("n", "d", "k"), SHAPES[:3])
def test_scores_cosines_and_norms_are_those_of_the_reference(n: int, d: int, k: int) -> None:
    batch, centroids = a_batch(n, d), sphere.normalise(directions(k, d, 1))
    gpu, reference = GpuBackend("cpu"), ReferenceBackend()
    labels = torch.randint(-1, k, (n,), dtype=torch.int32)
    raised, expected = (torch.full((n,), -0.1, dtype=torch.float64) for _ in range(2))
    gpu.improve(batch, centroids[0], raised)
    reference.improve(batch, centroids[0], expected)

    assert torch.equal(gpu.squared_norms(batch.rows), reference.squared_norms(batch.rows))
    assert torch.equal(gpu.scores(batch, centroids, labels), reference.scores(batch, centroids, labels))
    for found, meant in zip(*(part.chords(batch, centroids, labels) for part in (gpu, reference)), strict=True):
        assert torch.equal(found, meant)
    assert torch.equal(gpu.cosines(batch, centroids), reference.cosines(batch, centroids))
    columns = torch.stack([labels, labels.flip(0)], dim=1)  # labels that do not lie side by side
    for column in columns.unbind(dim=1):
        assert torch.equal(gpu.scores(batch, centroids, column), reference.scores(batch, centroids, column))
    assert torch.equal(raised, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_is_added_up_like_the_reference(weighted: bool) -> None:
    """Chords of all sizes, which leave something in every limb; more rows than a block has."""
    n = 1500
    squared = 4.0 * torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    squared = squared * 2.0 ** -torch.linspace(0, 100, n, dtype=torch.float64).round()
    weights = 1.0 + 1e6 * directions(n, 1, 2)[:, 0].abs().double() if weighted else None

    found = GpuBackend("cpu").inertia_limbs(squared, weights)

    assert torch.equal(found, sphere.inertia_limbs(squared, weights))
    assert (found > 0).all()


# several rows make a program where D is small: rows left over, and one program a row
WIDTHS = [(13, 1), (35, 37), (11, 128), (9, 200), (5, 300), (3, 1100)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "d"), WIDTHS)
def test_squared_lengths_have_the_bits_of_the_sphere(n: int, d: int, dtype: torch.dtype) -> None:
    rows = (directions(n, d) * torch.logspace(-20, 3, n)[:, None]).to(dtype)

    assert torch.equal(squared_norms(rows), sphere.squared_norms(rows))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize(("n", "d"), WIDTHS)
def test_one_pass_finds_the_lengths_and_makes_the_copy(n: int, d: int, tile: int, integers: bool) -> None:
    """Unit rows, rows of other lengths, and rows that are not to be kept."""
    rows = sphere.normalise(directions(n, d))
    rows[n // 2 :] *= 7.3
    rows[0], rows[1, 0], rows[-1, d // 2] = 0.0, torch.nan, torch.inf
    squared, start = torch.empty(n, dtype=torch.float64), 70
    one, two = (Copy.empty(n + start, d, tile, integers, rows.device) for _ in range(2))

    inspect_rows(rows, squared, one, start)

    truth = sphere.squared_norms(rows)
    assert torch.equal(squared.nan_to_num(-5.0), truth.nan_to_num(-5.0))
    keep = torch.isfinite(truth) & (truth != 0)
    copy_rows(Batch(0, rows, sphere.divisors(truth), keep), two, start)
    assert (one.residuals[start:][~keep] == -1).all()
    assert (one.residuals[start:][keep] >= 0).all()
    for name in ("values", "residuals", "units"):
        assert torch.equal(getattr(one, name).nan_to_num(5.0), getattr(two, name).nan_to_num(5.0))


def test_rows_of_unit_length_lose_nothing_to_a_division() -> None:
    rows = torch.eye(5)
    rows[4] *= 3.0  # in the same program as the others
    squared, copy = torch.empty(5, dtype=torch.float64), Copy.empty(5, 5, 0, False, rows.device)

    inspect_rows(rows, squared, copy, 0)

    assert (copy.residuals[:4] == 0).all()
    assert (copy.units[:4] == 1).all()
    assert 0 < copy.residuals[4] < 1e-6


@pytest.mark.parametrize("n", [1, 128, 192, 193, 384, 385])
def test_a_copy_in_tiles_has_all_places_that_a_kernel_reads(n: int) -> None:
    copy = Copy.empty(n, 70, 64, False, torch.device("cpu"))

    for groups in (2, 3):
        assert len(copy.values) >= -(-n // (64 * groups)) * 64 * groups * 128


def near_ties() -> tuple[Batch, Tensor]:
    """64 centroids within 1e-4 of one another, some of them equal, and rows that can't tell them apart in fp16."""
    one = directions(1, 40)
    centroids = sphere.normalise(one / one.norm() + 1e-5 * directions(64, 40, 1))
    centroids[9] = centroids[8]
    return a_batch(40, 40), centroids


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
def test_near_ties_and_equal_centroids_get_canonical_labels(integers: bool) -> None:
    batch, centroids = near_ties()
    gpu = GpuBackend("cpu", integers=integers)

    assert torch.equal(labels_of(gpu, batch, centroids), labels_of(ReferenceBackend(), batch, centroids))


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
def test_a_bound_a_hundred_times_too_small_lets_wrong_labels_through(
    integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, centroids = near_ties()
    monkeypatch.setattr(screen, "SLACK", screen.tl.constexpr(0.01))
    gpu = GpuBackend("cpu", integers=integers)

    wrong = labels_of(gpu, batch, centroids) != labels_of(ReferenceBackend(), batch, centroids)

    assert int(wrong.sum()) > 0


def fit(x: Tensor, centroids: Tensor, backend: GpuBackend | ReferenceBackend, **options: object) -> FitResult:
    rows = MemoryRows(x, squared_norms=backend.squared_norms, batch_size=90)
    settings = FitOptions(n_clusters=len(centroids), **{"epochs": 4, **options})  # type: ignore[arg-type]
    return lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())


@pytest.mark.parametrize("case", ["plain", "duplicates", "keep", "tol"])
def test_a_whole_fit_is_that_of_the_reference(case: str) -> None:
    x = directions(200, 20)
    if case in ("duplicates", "keep"):  # clusters without rows, which move or stay
        x = torch.cat([x[:6]] * 16)
    centroids = sphere.normalise(x[:9].clone())
    options = {"keep": {"empty_clusters": "keep"}, "tol": {"tol": 0.3}}.get(case, {})

    found, expected = (fit(x, centroids, b, **options) for b in (GpuBackend("cpu"), ReferenceBackend()))

    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.centroids, expected.centroids)
    assert found.history.similarities == expected.history.similarities
    assert found.stop_reason is expected.stop_reason
    for count in ("moved", "changed", "empty"):
        assert [getattr(i, count) for i in found.history] == [getattr(i, count) for i in expected.history]


def test_kernels_start_on_the_device_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton starts them on torch's current device, which may be another one."""
    backend, entered = GpuBackend("cpu"), []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    backend._index = 1

    backend.squared_norms(directions(3, 4))

    assert entered == [1]


@pytest.mark.parametrize("case", ["unit", "scaled", "zero", "NaN", "infinite", "all of them"])
def test_lengths_are_those_of_the_reference(case: str) -> None:
    squared = torch.ones(1500, dtype=torch.float64)
    squared[7] = 1.0 + 2.0**-20
    for place, (name, value) in enumerate(
        {"scaled": 3.7, "zero": 0.0, "NaN": float("nan"), "infinite": 1e99 * 1e300}.items()
    ):
        if case in (name, "all of them"):
            squared[1200 + place] = value

    found, expected = GpuBackend("cpu").lengths(squared), sphere.lengths(squared)

    assert found.usable is expected.usable
    assert (found.divisors is None) is (expected.divisors is None)
    assert (found.divisors is None) is (case not in ("scaled", "all of them"))
    assert found.usable is (case in ("unit", "scaled"))
    if expected.divisors is not None:
        assert torch.equal(found.divisors, expected.divisors)
        assert torch.equal(found.divisors, sphere.divisors(squared))

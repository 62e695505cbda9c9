"""The portable kernels, in the interpreter, against the float64 reference: the same bits, everywhere."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from cosmeans import lloyd, sphere
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Batch, ClusterSums
from cosmeans.errors import BackendUnavailableError
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows.memory import MemoryRows

SHAPES = [(1, 1, 1), (63, 17, 5)]  # N, D, K; kernels are tested for more of them


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


@pytest.mark.parametrize(("k", "d"), [(1, 1), (5, 17)])
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


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
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

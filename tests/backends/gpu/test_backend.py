"""The backend itself: where it starts kernels, what it refuses, and that its shapes and dtypes are those of a batch."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from backends.gpu.standins import CASES, Job, directions, gpu, opened, unit
from cosmeans import sphere
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend
from cosmeans.errors import BackendUnavailableError

SHAPES = [(1, 1, 1), (33, 17, 5), (41, 70, 33)]  # N, D, K: odd, so every mask is used
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def labels_of(job: Job, backend: Backend) -> torch.Tensor:
    with opened(job, backend, fit=False) as session:
        session.read()
        return session.assign(job.first)


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, torch.float32) for shape in SHAPES), *((SHAPES[2], dtype) for dtype in DTYPES[1:])]
)
def test_labels_are_those_of_the_reference(shape: tuple[int, int, int], dtype: torch.dtype, integers: bool) -> None:
    n, d, k = shape
    job = Job((3.0 * directions(n, d)).to(dtype), unit(k, d, 1))

    assert torch.equal(labels_of(job, gpu(integers)), labels_of(job, ReferenceBackend()))


@pytest.mark.parametrize("integers", [False, True], ids=["float16", "8 bits"])
def test_near_ties_and_equal_centroids_get_canonical_labels(integers: bool) -> None:
    first = CASES["every row is refined"].first.clone()
    first[5] = first[3]
    job = Job(3.0 * directions(41, 12), first)

    assert torch.equal(labels_of(job, gpu(integers)), labels_of(job, ReferenceBackend()))


def test_more_features_than_the_8_bit_screen_can_add_are_refused() -> None:
    with pytest.raises(BackendUnavailableError, match=r"at most 2080 features .* these rows have 2081"):
        labels_of(Job(directions(3, 2081), unit(2, 2081)), gpu(integers=True))


def test_kernels_start_on_the_device_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton starts them on torch's current device, which may be another one."""
    entered: list[torch.device] = []
    backend = GpuBackend("cuda:1", Screens(torch.device("cpu"), "portable"), tuning=Tuning())
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())

    found = backend.squared_norms(CASES["unit rows"].x)

    assert entered == [torch.device("cuda:1")]
    assert torch.equal(found, sphere.squared_norms(CASES["unit rows"].x))


def test_a_tuned_backend_starts_as_many_programs_as_it_is_told() -> None:
    screens = Screens(torch.device("cpu"), "portable")

    assert GpuBackend("cpu", screens, tuning=Tuning(programs=3)).name == "gpu"
    assert screens.programs == 3

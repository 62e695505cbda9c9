"""Labels found while rows are read: used under centroids of the same bits only, and no bit of a fit changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backends.gpu.standins import (
    CASES,
    FIRST,
    KEEP,
    Found,
    Job,
    Started,
    assert_same,
    compute_with,
    directions,
    fit,
    fit_in,
    gpu,
    opened,
    there,
    unit,
)
from cosmeans import KMeans
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.reference import ReferenceBackend

SPANS: dict[str, Any] = {"small_upload": 0, "upload_span": 16 * 12 * 4}


def screens(job: Job, foreseen: torch.Tensor | None, backend: GpuBackend) -> tuple[int, int, Any]:
    """How often the screen was started while rows were read, and in the fit; and the fit."""
    with Started() as started, opened(job, backend) as session:
        session.read(foreseen)
        ahead = started.count("screen")
        found = fit_in(session, job)
    return ahead, started.count("screen") - ahead, found


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("case", ["zero rows, NaN and infinity", "some rows of other lengths", "ties by division"])
def test_rows_labelled_on_their_way_are_not_labelled_again(case: str) -> None:
    job = replace(CASES[case], epochs=2, options=KEEP)

    ahead, later, found = screens(there(job), job.first, gpu(**SPANS))

    assert (ahead, later) == (3, 2)  # three spans; two epochs and the final pass less the first
    assert_same(found, fit(job, ReferenceBackend()))


def test_what_was_refined_ahead_is_counted_once() -> None:
    job = CASES["every row is refined"]
    for backend, foreseen in ((gpu(**SPANS), job.first), (gpu(), job.first), (gpu(), None)):
        with opened(
            there(job) if foreseen is not None and backend.state.tuning.small_upload == 0 else job, backend
        ) as s:
            s.read(foreseen)
            assert fit_in(s, replace(job, epochs=1)).refined == [41]


def test_batches_take_their_part_of_the_labels() -> None:
    job = replace(CASES["batches"], epochs=1, options=KEEP)

    ahead, later, found = screens(job, job.first, gpu())

    assert (ahead, later) == (1, 3)
    assert_same(found, fit(job, ReferenceBackend()))
    assert found.refined == fit(job, gpu()).refined


def one_bit_apart() -> tuple[torch.Tensor, torch.Tensor]:
    """Centroids of which two are equal, and the same with one bit of the first changed: the second one wins then."""
    equal = unit(7, 12, 1)
    equal[1] = equal[0]
    apart = equal.clone()
    apart.view(torch.int32)[0, 0] ^= 1
    return equal, apart


def first_empty(found: Found) -> int:
    return next(iter(found.result.history)).empty


@pytest.mark.parametrize("where", ["on their way", "on the device"])
def test_one_other_bit_in_the_centroids_and_nothing_is_used(where: str) -> None:
    centroids, foreseen = one_bit_apart()
    job = Job(unit(41, 12), centroids, 2, KEEP)
    true, other = (fit(replace(job, first=c), ReferenceBackend()) for c in (centroids, foreseen))
    assert first_empty(true) != first_empty(other)  # the bit decides about labels

    ahead, later, found = screens(
        *((there(job), foreseen, gpu(**SPANS)) if where == "on their way" else (job, foreseen, gpu()))
    )

    # two epochs, the labels that are returned, and the epoch that was queued behind the labels that do not stand
    assert (ahead, later) == (3 if where == "on their way" else 1, 4)
    assert_same(found, true)


def test_centroids_changed_where_they_are_are_others() -> None:
    centroids, foreseen = one_bit_apart()
    job = Job(unit(41, 12), foreseen, 1, KEEP)
    with opened(job, gpu()) as session:
        session.read(foreseen)
        foreseen.copy_(centroids)
        found = fit_in(session, job)

    assert_same(found, fit(replace(job, first=centroids), ReferenceBackend()))


def test_only_the_first_fit_is_foreseen() -> None:
    job = replace(CASES["unit rows"], epochs=1)
    with Started() as started, opened(job, gpu()) as session:
        session.read(job.first)
        for passes in (1, 2):
            started.clear()
            fit_in(session, job)
            assert started.count("screen") == passes


class Asked(TorchDispatchMode):
    """The operations that torch is asked for: it loads the kernel of each when that is first started."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", ["rows of any length", "weights"])
def test_labels_found_while_rows_are_read_ask_torch_for_nothing_that_takes_time_to_load(case: str) -> None:
    job, asked = replace(CASES[case], epochs=1), {}
    for known in (True, False):
        with Asked() as operations:
            fit(job, gpu(), job.first if known else None)
        asked[known] = operations.names

    assert asked[True] - asked[False] <= {"aten::clone", "aten::add_.Tensor", "aten::zeros"}


class Counted:
    """In place of the policy: asks, and keeps the counts."""

    asks = True

    def __init__(self, *shape: int) -> None:
        self.noted: list[tuple[list[int], bool]] = []

    def next(self) -> bool:
        return False

    def note(self, read: Callable[[], list[int]], integers: bool) -> None:
        self.noted.append((read(), integers))


def test_the_counts_of_all_spans_tell_whether_8_bits_would_pay() -> None:
    job, policy = replace(CASES["every row is refined"], epochs=1), Counted()

    fit(there(job), gpu(precision=lambda *shape: policy, **SPANS), job.first)

    counts, integers = policy.noted[0]
    assert counts[0] + counts[1] == 41
    assert not integers


# ------------------------------------------------------------------ the estimator

ROWS = (3.0 * directions(41, 12)).numpy()
KNOWN: dict[str, dict[str, Any]] = {
    "array by columns": {"init": np.asfortranarray(FIRST.numpy())},
    "array, weights": {"init": FIRST.numpy(), "sample_weight": np.linspace(0.0, 2.0, 41)},
    "random, two starts": {"init": "random", "n_init": 2},
    "warm start": {"init": "k-means++", "again": True},
    "random, equal rows": {"init": "random", "x": ROWS[np.arange(41) % 9]},
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "random, weights": {"init": "random", "sample_weight": np.linspace(0.0, 2.0, 41)},
    "k-means++": {"init": "k-means++"},
    "random, rows without direction": {"init": "random", "x": ROWS * (np.arange(41) % 2)[:, None].astype(np.float32)},
}


def answers_of(monkeypatch: pytest.MonkeyPatch, x: Any = ROWS, **options: Any) -> int:
    """By how many screens the fit made less than passes over all rows; its answers are those of the reference."""
    weights, again = options.pop("sample_weight", None), options.pop("again", False)
    answers: list[list[bytes]] = []
    saved = 0
    for make in (ReferenceBackend, gpu):
        compute_with(make, monkeypatch)
        kmeans = KMeans(7, epochs=1, random_state=0, verbose=0, zero_rows="skip", warm_start=again, **options)
        for _ in range(1 + again):
            with Started() as started:
                kmeans.fit(x, sample_weight=weights)
            # settled with lengths that are known, or that may be needed: both are started while rows are read
            saved = started.count("refine") - started.count("screen")
        parts = (kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, np.array(kmeans.similarities))
        answers.append([np.asarray(part).tobytes() for part in parts])
    assert answers[0] == answers[1]
    return saved


@pytest.mark.parametrize("start", KNOWN)
def test_known_first_centroids_are_labelled_by_while_rows_are_read(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers_of(monkeypatch, **KNOWN[start]) > 0


@pytest.mark.parametrize("start", UNKNOWN)
def test_first_centroids_that_all_rows_decide_are_found_as_ever(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers_of(monkeypatch, **UNKNOWN[start]) == 0


def test_rows_of_a_mapped_file_are_taken_before_all_are_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", ROWS)

    assert answers_of(monkeypatch, tmp_path / "rows.npy", init="random") > 0
    assert answers_of(monkeypatch, tmp_path / "rows.npy", init=FIRST.numpy()) > 0

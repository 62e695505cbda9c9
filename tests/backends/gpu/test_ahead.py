"""The first pass while rows arrive: it is used under centroids of the same bits only, and changes no bit of a fit.

The processor stands in for the GPU. Rows are sent in spans of 16; `screened` shows which passes were made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmeans import KMeans, estimator, lloyd, sphere
from cosmeans.backends.gpu import receiving, record
from cosmeans.backends.gpu.ahead import Ahead
from cosmeans.backends.gpu.host import HostRowsBackend
from cosmeans.backends.gpu.memory import MemoryPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend, Receiver
from cosmeans.data import Batch, Coming, Received
from cosmeans.group import Alone
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult
from cosmeans.rows import memory
from cosmeans.rows.memory import MemoryRows

SPANS = [16, 16, 9]
THERE = MemoryPlan(True, 41, 0)


@pytest.fixture(autouse=True)
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "plan_received", lambda *_, keep=True: THERE)
    monkeypatch.setattr(receiving, "_SMALL", 0)
    monkeypatch.setattr(receiving, "_SPAN", 12 * 4 * 16)


class Watched(HostRowsBackend):
    """Notes the rows of each span labelled ahead, and of each batch screened in a pass."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self._programs = self._screens.programs = 1  # the interpreter runs programs in turn
        self.ahead: list[int] = []
        self.screened: list[int] = []

    def receive(self, *arguments: Any, **options: Any) -> Received:
        label = Ahead.label

        def noting(ahead: Ahead, near: Batch, *rest: Tensor) -> None:
            self.ahead.append(len(near))
            label(ahead, near, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ahead, "label", noting)
            return super().receive(*arguments, **options)

    def screen(self, batch: Batch, *rest: Any) -> Any:
        self.screened.append(len(batch))
        return super().screen(batch, *rest)


def silent(*_: object) -> None: ...


def source(x: Tensor, first: Tensor | None, backend: Backend, **options: Any) -> MemoryRows:
    """As the estimator opens rows whose first centroids are foreseen."""
    if isinstance(backend, Receiver):
        x = backend.receive(x, Coming(7, True, first=lambda: first), say=silent, progress=silent).rows
    options = {"zero_rows": "skip", "nonfinite": "skip", **options}
    return MemoryRows(x, squared_norms=backend.squared_norms, lengths=backend.lengths, **options)


def fit(x: Tensor, first: Tensor | None, centroids: Tensor, backend: Backend, **options: Any) -> FitResult:
    """From these centroids; `first` are those that were foreseen."""
    rows, settings = source(x, first, backend, **options), FitOptions(n_clusters=7, epochs=3, empty_clusters="keep")
    return lloyd.fit(rows, centroids, settings, backend, Alone(), Silent())


def assert_same(found: FitResult, expected: FitResult) -> None:
    for part in ("labels", "centroids", "counts"):
        assert torch.equal(getattr(found, part), getattr(expected, part))
    assert found.history.similarities == expected.history.similarities
    assert [i.changed for i in found.history] == [i.changed for i in expected.history]


def directions(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


def unit(n: int, seed: int = 0) -> Tensor:
    return sphere.normalise(directions(n, seed))


def with_gaps() -> Tensor:
    x = 5.0 * directions(41)
    x[3], x[16], x[30], x[31, 7] = 0.0, 0.0, torch.nan, torch.inf
    return x


def tied_by_division() -> tuple[Tensor, Tensor]:
    """Rows near two centroids; only what dividing by their length rounds to tells whether both scores are equal."""
    centroids = unit(7, 1)
    centroids[0] = 12**-0.5
    centroids[1] = centroids[0]
    for k in (0, 1):
        centroids.view(torch.int32)[k, k] += 1
    x = 1.0 + 0.1 * directions(41)
    x[:, 1] = x[:, 0]
    x.view(torch.int32)[:, 1] += 1
    return x, centroids


CENTROIDS = unit(7, 1)
CASES: dict[str, tuple[Tensor, Tensor, dict[str, Any]]] = {
    "unit rows": (unit(41), CENTROIDS, {}),
    "rows of any length": (3.0 * directions(41), CENTROIDS, {}),
    "one span of other lengths": (torch.cat([unit(32), 3.0 * unit(9, 2)]), CENTROIDS, {}),
    "zero rows, NaN and infinity": (with_gaps(), CENTROIDS, {}),
    "weights": (unit(41), CENTROIDS, {"sample_weight": np.linspace(0.0, 3.3, 41)}),
    "every row is settled": (unit(41), sphere.normalise(unit(1) + 1e-5 * directions(7, 1)), {}),
    "ties by division": (*tied_by_division(), {}),
    "duplicates": (unit(5)[torch.arange(41) % 5], unit(5)[torch.arange(7) % 5], {}),
    "float16": (directions(41).half(), CENTROIDS, {}),
    "float64": (directions(41).double(), CENTROIDS, {}),
    "columns": (directions(41).T.contiguous().T, CENTROIDS, {}),
}


# --------------------------------------------------------------- it is used


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("case", sorted(CASES))
def test_rows_labelled_on_their_way_have_the_bits_of_the_reference(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids, options = CASES[case]
    monkeypatch.setattr(receiving, "_SPAN", 12 * x.element_size() * 16)
    early, late, before = Watched(), Watched(), x.clone()

    found = fit(x, centroids, centroids, early, **options)

    without = fit(x, None, centroids, late, **options)
    assert early.ahead == SPANS
    assert late.ahead == []
    assert early.screened == late.screened[1:]
    assert_same(found, fit(x, None, centroids, ReferenceBackend(), **options))
    assert [i.settled for i in found.costs] == [i.settled for i in without.costs]
    assert torch.equal(x.nan_to_num(), before.nan_to_num())


def test_batches_take_their_part_of_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(memory.LEAST_BATCH_BYTES, "cpu", 0)
    x, backend = 3.0 * directions(41), Watched()

    found = fit(x, CENTROIDS, CENTROIDS, backend, batch_size=17)

    expected = fit(x, None, CENTROIDS, late := Watched(), batch_size=17)
    assert backend.ahead == SPANS
    assert backend.screened == late.screened[3:]
    assert_same(found, expected)
    assert [i.settled for i in found.costs] == [i.settled for i in expected.costs]


def test_the_counts_of_all_spans_tell_whether_8_bits_would_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        asks = True

        def __init__(self) -> None:
            self.noted: list[tuple[list[int], bool]] = []

        def note(self, counts: Tensor, integers: bool) -> None:
            self.noted.append((counts.tolist(), integers))

    ties = CASES["every row is settled"]
    backend, asked = Watched(), Asked()
    rows = source(*ties[:2], backend)
    backend.begin(rows)
    (batch,) = rows.batches()
    prepared = backend.prepare(ties[1])
    backend._choice = asked  # type: ignore[assignment]

    backend.assign(batch, prepared, torch.full((41,), -1, dtype=torch.int32))

    ((counts, integers),) = asked.noted
    assert counts[0] + counts[1] == 41
    assert not integers


# ------------------------------------------------------------ it is dropped


def one_bit_apart() -> tuple[Tensor, Tensor]:
    """Centroids of which two are equal, and the same with one bit of the first changed: the second one wins then."""
    equal = unit(7, 1)
    equal[1] = equal[0]
    apart = equal.clone()
    apart.view(torch.int32)[0, 0] ^= 1
    return equal, apart


def test_one_other_bit_in_the_centroids_and_all_is_done_anew() -> None:
    x, backend, late = unit(41), Watched(), Watched()
    centroids, foreseen = one_bit_apart()
    epochs = [fit(x, None, c, ReferenceBackend()).history.iterations[0] for c in (centroids, foreseen)]

    found = fit(x, foreseen, centroids, backend)

    assert epochs[0].empty != epochs[1].empty  # the bit decides about labels
    assert backend.ahead == SPANS
    fit(x, None, centroids, late)
    assert backend.screened == late.screened
    assert_same(found, fit(x, None, centroids, ReferenceBackend()))


def test_centroids_changed_where_they_lie_are_others() -> None:
    x, backend = unit(41), Watched()
    centroids, foreseen = one_bit_apart()
    rows = source(x, foreseen, backend)

    foreseen.copy_(centroids)
    options = FitOptions(n_clusters=7, epochs=3, empty_clusters="keep")
    found = lloyd.fit(rows, foreseen, options, backend, Alone(), Silent())

    assert_same(found, fit(x, None, centroids, ReferenceBackend()))


def test_only_the_first_pass_is_foreseen() -> None:
    """A sample comes first, as in the nested start, or another source over the same rows."""
    x, options = 3.0 * directions(41), FitOptions(n_clusters=7, epochs=2, empty_clusters="keep")
    answers = []
    for backend in (Watched(), ReferenceBackend()):
        rows = source(x, CENTROIDS, backend)
        sample = rows.sample(torch.arange(0, 41, 2))
        improved = lloyd.improve(sample, CENTROIDS, options, backend, Alone(), Silent())
        both = (rows, MemoryRows(rows.rows, squared_norms=backend.squared_norms))
        fits = [lloyd.fit(again, CENTROIDS, options, backend, Alone(), Silent()) for again in both]
        answers.append([improved, *(result.labels for result in fits)])
        if isinstance(backend, Watched):
            assert backend.screened.count(41) == 6  # three passes each

    assert all(map(torch.equal, *answers))


# ------------------------------------------------------------- nobody is asked


def test_who_labels_once_or_fetches_rows_is_not_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> Tensor | None:
        pytest.fail("nothing can be done with first centroids")

    x = unit(41)
    plans = {True: [MemoryPlan(True, 41, 0, 41), MemoryPlan(False, 20, 0)], False: [THERE]}
    for fits in plans:
        for plan in plans[fits]:
            monkeypatch.setattr(receiving, "plan_received", lambda *_, keep=True, plan=plan: plan)
            Watched().receive(x, Coming(7, fits, first=asked), say=silent, progress=silent)
    monkeypatch.setattr(receiving, "plan_received", lambda *_, keep=True: THERE)
    monkeypatch.setattr(record, "can_record", lambda _: True)
    Watched().receive(x, Coming(7, True, first=asked), say=silent, progress=silent)
    monkeypatch.setattr(receiving, "_SMALL", 1 << 20)
    monkeypatch.setattr(record, "can_record", lambda _: False)
    Watched().receive(x, Coming(7, True, first=asked), say=silent, progress=silent)


# ------------------------------------------------------------- the estimator


def send(rows: Tensor, backend: Backend, coming: Coming, **options: Any) -> Received:
    """Rows are received wherever they lie: the backend computes on the processor, too."""
    return backend.receive(rows, coming, **options) if isinstance(backend, Receiver) else Received(rows)


def answers_of(x: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[list[bytes], Watched]:
    """What KMeans finds in two fits in a row, and the backend of the second one; the same as with the reference."""
    monkeypatch.setattr(estimator, "send", send)
    weights, again = options.pop("sample_weight", None), options.pop("again", False)
    answers: list[list[bytes]] = []
    backends: list[Any] = []
    for kind in (ReferenceBackend, Watched):
        monkeypatch.setattr(estimator, "choose_backend", lambda *_, kind=kind: backends.append(kind()) or backends[-1])
        kmeans = KMeans(7, epochs=2, random_state=0, verbose=0, zero_rows="skip", **options)
        for _ in range(1 + again):
            kmeans.fit(x, sample_weight=weights)
        parts = (kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, np.array(kmeans.similarities))
        answers.append([np.asarray(part).tobytes() for part in parts])
    assert answers[0] == answers[1]
    return answers[1], backends[-1]


ROWS = (3.0 * directions(41)).numpy()
KNOWN: dict[str, dict[str, Any]] = {
    "array": {"init": CENTROIDS.numpy()},
    "array by columns": {"init": np.asfortranarray(CENTROIDS.numpy())},
    "array, weights": {"init": CENTROIDS.numpy(), "sample_weight": np.linspace(0.0, 2.0, 41)},
    "random": {"init": "random"},
    "random, three starts": {"init": "random", "n_init": 3},
    "warm start": {"init": "k-means++", "again": True},
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "random, weights": {"init": "random", "sample_weight": np.linspace(0.0, 2.0, 41)},
    "k-means++": {"init": "k-means++"},
    "nested": {"init": "nested"},
    "callable": {"init": lambda X, n_clusters, random_state: X[:n_clusters]},
}


@pytest.mark.parametrize("start", sorted(KNOWN))
def test_known_first_centroids_are_labelled_by_while_rows_arrive(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = answers_of(ROWS, monkeypatch, **KNOWN[start])
    monkeypatch.setattr(HostRowsBackend, "_foresee", lambda *_: None)
    without = answers_of(ROWS, monkeypatch, **KNOWN[start])

    assert found[0] == without[0]
    assert found[1].ahead == SPANS
    assert found[1].screened == without[1].screened[1:]


@pytest.mark.parametrize("start", sorted(UNKNOWN))
def test_first_centroids_that_all_rows_decide_are_found_as_ever(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers_of(ROWS, monkeypatch, **UNKNOWN[start])[1].ahead == []


def test_equal_rows_are_passed_over_before_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ROWS[np.arange(41) % 9]

    backend = answers_of(x, monkeypatch, init="random")[1]

    assert backend.ahead == SPANS


def test_a_drawn_row_without_direction_leaves_the_start_to_the_inspected_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ROWS.copy()
    x[::2] = 0.0

    assert answers_of(x, monkeypatch, init="random")[1].ahead == []


def test_rows_of_a_file_are_not_read_here_and_there(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", ROWS)

    assert answers_of(tmp_path / "rows.npy", monkeypatch, init="random")[1].ahead == []
    assert answers_of(tmp_path / "rows.npy", monkeypatch, init=CENTROIDS.numpy())[1].ahead == SPANS

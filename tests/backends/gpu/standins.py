"""What stands in for a GPU where there is none, and a fit with all that it finds.

Rows on `Host` count as rows of the host for a backend on the processor, which is the device then. `Replayed` stands in
for a CUDA graph: it does the same work with the same memory again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import InterpretedFunction

from cosmeans import lloyd, scoring, sphere
from cosmeans._estimator import opening
from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.backends.gpu.kernels.launch import launch, noted_launches
from cosmeans.backends.gpu.rows.upload import Immediate
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend, Observer, Session
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from cosmeans.result import FitResult


class Host(Tensor):
    """Rows that are somewhere else than the device. What is made from them is on the device, parts of them are not."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cpu", 1)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(function, types, args, kwargs)
        part = function is Tensor.__getitem__
        return made if part or not isinstance(made, Host) else made.as_subclass(Tensor)


def on_host(x: Tensor) -> Tensor:
    return x.as_subclass(Host)


class Watched(Immediate):
    """Notes the rows that are sent. On the way they may be late: see `test_upload`."""

    def __init__(self) -> None:
        self.sent: list[Tensor] = []

    def copy(self, into: Tensor, source: Tensor) -> None:
        self.sent.append(source.clone())
        into.copy_(source)

    def indices(self, x: Tensor) -> list[list[int]]:
        """Which rows of x each copy sent; all rows of x differ."""
        where = {row.numpy().tobytes(): i for i, row in enumerate(x.as_subclass(Tensor))}
        return [[where[row.contiguous().numpy().tobytes()] for row in rows] for rows in self.sent]

    def sizes(self, x: Tensor) -> list[int]:
        return [len(rows) for rows in self.indices(x)]


class Operations(TorchDispatchMode):
    """Notes torch's operations, and after how many launches each came. None that writes where something is is done."""

    def __init__(self, launches: list[Any]) -> None:
        super().__init__()
        self.launches = launches
        self.done: list[tuple[int, Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = args[0] if function.name().split(".")[0].endswith("_") else function(*args, **kwargs)
        self.done.append((len(self.launches), function, args, kwargs, out))
        return out


@dataclass
class Graphs:
    """Makes what stands in for CUDA graphs; counts those made and replayed."""

    made: int = 0
    replayed: int = 0

    def __call__(self, work: Any, device: torch.device, state: DeviceState) -> Replayed:
        self.made += 1
        return Replayed(work, self)


class Replayed:
    """Work that is noted now, and done when it is replayed."""

    def __init__(self, work: Any, graphs: Graphs) -> None:
        self.graphs = graphs
        with noted_launches() as self.launches, Operations(self.launches) as operations:
            work()
        self.operations = operations.done

    def replay(self) -> None:
        self.graphs.replayed += 1
        begun = 0
        for behind, function, args, kwargs, out in [*self.operations, (len(self.launches), None, (), {}, None)]:
            for noted in self.launches[begun:behind]:
                launch(noted.kernel, noted.programs, *noted.arguments, **noted.constants)
            begun = behind
            made = function(*args, **kwargs) if function else None
            if isinstance(made, Tensor) and made.data_ptr() != out.data_ptr():
                out.copy_(made)


class Event:
    """Work is done as soon as it is started."""

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...


class Started(list[str]):
    """Names of the kernels that were started, while it is open; the interpreter starts all of them."""

    def __enter__(self) -> Started:
        self.run = run = InterpretedFunction.run

        def noting_run(kernel: Any, *args: Any, **options: Any) -> Any:
            self.append(kernel.fn.__name__.strip("_"))
            return run(kernel, *args, **options)

        InterpretedFunction.run = noting_run
        return self

    def __exit__(self, *exception: object) -> None:
        InterpretedFunction.run = self.run


def gpu(integers: bool | None = None, memory_limit: int | None = None, **tuning: Any) -> GpuBackend:
    """A backend that shares nothing. One program at a time: the interpreter runs them in turn."""
    return GpuBackend("cpu", integers=integers, memory_limit=memory_limit, tuning=Tuning(**{"programs": 1, **tuning}))


def replaying(pooled: bool, graphs: Graphs | None = None, **tuning: Any) -> GpuBackend:
    """A backend whose epochs are captured and replayed."""
    most = 1 << 40 if pooled else 0
    integers = tuning.pop("integers", None)
    return gpu(integers, graph=graphs or Graphs(), event=Event, most_pooled=most, **tuning)


@dataclass
class Found:
    """A fit, and, where they were asked for, the scores of its rows and the inertia."""

    result: FitResult
    own: Tensor | None = None
    inertia: float = 0.0

    @property
    def refined(self) -> list[int]:
        return [cost.settled for cost in self.result.costs]


@dataclass
class Job:
    """What is done with rows: how a session is opened, and the fits in it. first: (K, D)."""

    x: Tensor
    first: Tensor
    epochs: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    weights: Tensor | None = None
    batch_size: int | None = None


def there(job: Job) -> Job:
    """The same with its rows on the host."""
    return replace(job, x=on_host(job.x))


def opened(job: Job, backend: Backend, observer: Observer | None = None, **options: Any) -> Session:
    """Neither entered nor read."""
    log = options.pop("log", lambda line: None)
    task = Task(
        len(job.first),
        weights=job.weights,
        batch_size=job.batch_size,
        **{"zero_rows": "skip", "nonfinite": "skip", **options},
    )
    return backend.session(MemoryRows(job.x), task, Alone(), observer or Silent(), log)


def fit_in(session: Session, job: Job, observer: Observer | None = None, *, scored: bool = False) -> Found:
    settings = FitOptions(n_clusters=len(job.first), **{"epochs": job.epochs, **job.options})
    result = lloyd.fit(session, job.first, settings, observer or Silent())
    return Found(result, *(scoring.own_chords(session, result.centroids, result.labels) if scored else ()))


def fit(
    job: Job,
    backend: Backend,
    foreseen: Tensor | None = None,
    observer: Observer | None = None,
    *,
    scored: bool = False,
) -> Found:
    """A session for one fit. foreseen: the centroids that rows are labelled under while they are read."""
    with opened(job, backend, observer) as session:
        session.read(foreseen)
        return fit_in(session, job, observer, scored=scored)


def compute_with(make: Callable[[], Backend], patching: Any) -> None:
    """What `KMeans` computes with from here on, in place of what it would find on this machine.

    patching: pytest's monkeypatch
    """
    patching.setattr(opening, "choose_backend", lambda *_: make())


def assert_same(found: Found, expected: Found) -> None:
    """Every bit."""
    (one, two) = found.result, expected.result
    for name in ("labels", "centroids", "counts"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    if found.own is not None:
        assert torch.equal(found.own, expected.own)
        assert found.inertia == expected.inertia
    assert one.similarity == two.similarity
    assert one.stop_reason is two.stop_reason
    assert list(one.history) == list(two.history)


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    return sphere.normalise(directions(n, d, seed))


def with_gaps(n: int, d: int) -> Tensor:
    """Zero rows, and rows with NaN and infinity, in each third."""
    x = 5.0 * directions(n, d)
    x[3], x[16], x[n - 11], x[n - 10, d // 2] = 0.0, 0.0, torch.nan, torch.inf
    return x


def near_ties(k: int, d: int) -> Tensor:
    """Centroids that float16 can't tell apart, so that every row lacks proof."""
    return sphere.normalise(unit(1, d) + 1e-5 * directions(k, d, 1))


def tied_by_division(n: int, k: int) -> Job:
    """Rows near two centroids; only what dividing by their length rounds to tells whether both scores are equal."""
    first = unit(k, 12, 1)
    first[0] = 12**-0.5
    first[1] = first[0]
    for c in (0, 1):
        first.view(torch.int32)[c, c] += 1
    x = 1.0 + 0.1 * directions(n, 12)
    x[:, 1] = x[:, 0]
    x.view(torch.int32)[:, 1] += 1
    return Job(x, first)


N, D, K = 41, 12, 7
FIRST = unit(K, D, 1)
KEEP = {"empty_clusters": "keep"}
COPIES = torch.cat([unit(6, D)] * 7)[:N]  # of six rows, so that clusters are left without one
CASES: dict[str, Job] = {
    "unit rows": Job(unit(N, D), FIRST),
    "rows of any length": Job(3.0 * directions(N, D), FIRST),
    "some rows of other lengths": Job(torch.cat([unit(32, D), 3.0 * unit(9, D, 2)]), FIRST),
    "zero rows, NaN and infinity": Job(with_gaps(N, D), FIRST),
    "weights": Job(unit(N, D), FIRST, weights=torch.linspace(0.0, 3.3, N).double()),
    "every row is refined": Job(unit(N, D), near_ties(K, D)),
    "ties by division": tied_by_division(N, K),
    "clusters that move": Job(COPIES, FIRST),
    "clusters that stay": Job(COPIES, FIRST, options=KEEP),
    "equal centroids": Job(unit(5, D)[torch.arange(N) % 5], unit(5, D)[torch.arange(K) % 5], options=KEEP),
    "float16": Job(3.0 * directions(N, D).half(), FIRST),
    "bfloat16": Job(3.0 * directions(N, D).bfloat16(), FIRST),
    "float64": Job(3.0 * directions(N, D).double(), FIRST),
    "columns": Job(3.0 * directions(D, N).T, FIRST),
    "every other row": Job(3.0 * directions(2 * N, D)[::2], FIRST),
    "batches": Job(3.0 * directions(N, D), FIRST, batch_size=17),
    "one of all": Job(directions(1, 1), unit(1, 1, 1), 1),
    "tol": Job(directions(N, D), FIRST, 6, {"tol": 0.3}),
    "a fixed point": Job(directions(24, 3), unit(3, 3, 1), 30),
}


@functools.cache
def expected(case: str) -> Found:
    """The reference's answer."""
    return fit(CASES[case], ReferenceBackend(), scored=True)

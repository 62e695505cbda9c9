"""Fits on the GPU against the float64 reference, bit by bit: python benchmarks/gpu_checks.py check estimator ...

Prints "ALL THE SAME" or what differs; nothing is recorded.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans import KMeans, sphere
from cosmeans.backends import reference
from cosmeans.backends.gpu.kernels import accumulate
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.cascade import MOST_FEATURES
from cosmeans.backends.gpu.tuning import DEFAULT, ResidencyPlan
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend
from cosmeans.data import NO_LABEL, Batch, ClusterSums
from cosmeans.inspection import rows as inspected
from gpu_common import (
    DEVICE,
    ON_GPU,
    Graphs,
    cases,
    digest,
    estimator_with,
    fit,
    gpu,
    opened,
    run_actions,
    session_of,
    synchronize,
    unit_rows,
)


def check(epochs: int = 5 if ON_GPU else 3) -> bool:
    """Every case on every way through the GPU; "again" is replayed in the memory that the fit before left."""
    good, inspected.LEAST_BATCH_BYTES[DEVICE] = True, 0
    for name, (x, centroids, options) in cases().items():
        expected = digest(fit(x, centroids, ReferenceBackend(DEVICE), epochs, **options))
        found = {way: run(x, centroids, epochs, options) for way, run in WAYS.items()}
        wrong = {way: bits for way, bits in found.items() if bits not in (expected, None)}
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} {name:16} {expected} {wrong or ''}", flush=True)
    good &= golden()
    print("ALL THE SAME" if good else "SOMETHING DIFFERS", flush=True)
    return good


def golden() -> bool:
    """The golden answers (tests/golden_cases.py), from rows on the GPU and from rows on the host."""
    golden_cases = importlib.import_module("golden_cases")
    good, expected = True, golden_cases.expected()
    for kind, name, case in ((k, name, case) for k in expected for name, case in getattr(golden_cases, k)().items()):
        if not ON_GPU and np.prod(case.rows.shape) * case.options["n_clusters"] > 1 << 12:
            continue
        ways: dict[str, Callable[[Any], Any]] = {"device": lambda rows: torch.as_tensor(rows).to(DEVICE)}
        if ON_GPU:
            ways["host"] = lambda x: x
        with nullcontext() if ON_GPU else estimator_with(gpu()):
            found = {way: golden_cases.answer(case, to, device=DEVICE).to_json() for way, to in ways.items()}
        wrong = [way for way, answer in found.items() if answer != expected[kind][name]]
        good &= not wrong
        print(f"{'DIFFERENT' if wrong else 'same':10} golden, {kind}: {name} {wrong or ''}", flush=True)
    return good


class Way:
    """A backend that all cases go through, and what must be seen of each fit, or the way was not taken.

    replayed  whether epochs are replayed; None: either is right
    apart     whether the float16 copy is not made with the lengths; None: either is right
    """

    def __init__(
        self,
        screen: str,
        *,
        integers: bool = False,
        replayed: bool | None = None,
        apart: bool | None = None,
        batch_size: int | None = None,
        **tuning: Any,
    ) -> None:
        self._options = {"screen": screen, "integers": integers, **tuning}
        self._integers, self._replayed, self._apart, self._batch_size = integers, replayed, apart, batch_size
        self._graphs = Graphs()
        self._backend: Backend | None = None

    def __call__(
        self, x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any], again: bool = False
    ) -> str | None:
        """The digest of the answer, or how it went instead. None: there is no such way for these rows."""
        if self._integers and x.shape[1] > MOST_FEATURES:
            return None
        if self._backend is None:
            self._backend = gpu(graph=self._graphs, **self._options)
        graphs, backend = self._graphs, self._backend
        made, replayed = graphs.made, graphs.replayed
        bits = digest(fit(x, centroids, backend, epochs, batch_size=self._batch_size, **options))
        gc.collect()  # its memory waits for the next fit of this kind
        if again and graphs.made > made:
            return "captured again"
        if self._replayed is not None and (graphs.replayed > replayed) is not self._replayed:
            return "not replayed" if self._replayed else "replayed"
        if self._apart is not None:
            given = {name: options[name] for name in ("sample_weight",) if name in options}
            with session_of(x, len(centroids), backend, **given) as session:
                if session.labels_while_reading is self._apart:
                    return "another way"
        return bits

    def again(self, x: Tensor, centroids: Tensor, epochs: int, options: dict[str, Any]) -> str | None:
        """The same once more, in the memory that the fit before left."""
        return self(x, centroids, epochs, options, again=True)


_PORTABLE, _HOPPER = Way("portable", replayed=True), Way("hopper", replayed=True)
_INTEGERS = Way("hopper", integers=True)
_IN_PLACE = {"most_pooled": 0, "long": 1.0}  # epochs are captured where the rows are, as in fits too large to copy them
_STARTED = {"most_pooled": 0, "long": 0.0}
_CHUNKS = {"plan": ResidencyPlan(copied=False, chunk=999)}

WAYS: dict[str, Callable[..., str | None]] = {
    "portable": _PORTABLE,
    "portable again": _PORTABLE.again,
    "hopper": _HOPPER,
    "hopper again": _HOPPER.again,
    "portable, 8 bits": Way("portable", integers=True),
    "hopper, 8 bits": _INTEGERS,
    "hopper, 8 bits again": _INTEGERS.again,
    "hopper, inspected at once": Way("hopper", replayed=False, apart=False, **_STARTED),
    "hopper, inspected at once, replayed": Way("hopper", replayed=True, apart=False, **_IN_PLACE, short=0.0),
    "hopper, replayed at once": Way("hopper", replayed=True, **_IN_PLACE, short=1.0),
    "portable, inspected at once": Way("portable", replayed=False, apart=False, **_STARTED),
    "hopper, chunks": Way("hopper", **_CHUNKS),
    "hopper, 8 bits, chunks": Way("hopper", integers=True, **_CHUNKS),
    "hopper, batches": Way("hopper", batch_size=999),
    "hopper, many groups": Way("hopper", move_span=1024),  # rows that change are sorted a thousand at a time
    "portable, batches": Way("portable", batch_size=1001),
}


def estimator() -> None:
    """KMeans itself gives the same bits on both devices from rows of the host."""
    rows = unit_rows(20_000, 96).cpu().numpy()
    found = {}
    for device in ("cpu", "cuda"):
        kmeans = KMeans(64, None, 8, random_state=0, verbose=0, device=device).fit(rows)
        parts = (kmeans.labels_, kmeans.cluster_centers_, kmeans.similarity_, kmeans.predict(rows[:99] + 0.01))
        parts += (kmeans.transform(rows[:500]), np.array(kmeans.score(rows)))
        found[device] = [hashlib.sha256(np.asarray(part).tobytes()).hexdigest()[:10] for part in parts]
    print("same" if found["cpu"] == found["cuda"] else "DIFFERENT", "KMeans", found, flush=True)


def threads(turns: int = 8) -> None:
    """Fits in several threads at once, some that are captured, some that are started kernel by kernel meanwhile."""
    jobs = [unit_rows(n, 256, seed) for seed, n in enumerate((200_000, 200_001, 20_000, 20_001))]
    once = lambda x, backend: digest(fit(x, x[:300].clone(), backend, 6))  # noqa: E731
    expected = [once(x, ReferenceBackend(DEVICE)) for x in jobs]

    def run(x: Tensor) -> set[str]:
        with torch.cuda.stream(torch.cuda.Stream()):
            return {once(x, gpu()) for _ in range(turns)}

    torch.cuda.synchronize()
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(run, jobs))
    same = found == [{bits} for bits in expected]
    print("same" if same else "DIFFERENT", f"{len(jobs)} threads", expected, found, flush=True)


def large(n: int = 4_000_000, d: int = 768, k: int = 1000) -> None:
    """More than 2^31 entries: labels of the first and last rows, all labels of both screens, and the sums."""
    if not ON_GPU:
        n, d, k = 400, 12, 5
    x = torch.empty(n, d, dtype=torch.float16, device=DEVICE)
    for start in range(0, n, 500_000):
        x[start : start + 500_000] = unit_rows(min(500_000, n - start), d, start, torch.float16)
    result = fit(x, sphere.normalise(x[-k:].float()), gpu(), 2)
    labels = [_labels(x, result.centroids, gpu(screen)) for screen in ("portable", "hopper")]
    same = {"screens": torch.equal(*labels), "fit": torch.equal(result.labels, labels[0])}
    ends = min(2000, n // 2)
    for name, span in {"first": slice(0, ends), "last": slice(n - ends, n)}.items():
        same[name] = torch.equal(_labels(x[span], result.centroids, ReferenceBackend(DEVICE)), labels[0][span])
    same |= _same_sums(x, labels[0], k)
    print("same" if all(same.values()) else "DIFFERENT", f"{n:,} x {d}", same, flush=True)


def _labels(x: Tensor, centroids: Tensor, backend: Backend) -> Tensor:
    with opened(x, len(centroids), backend, fit=False) as session:
        return session.assign(centroids)


def _same_sums(x: Tensor, labels: Tensor, k: int) -> dict[str, bool]:
    """Whether the kernels add up all rows at once to what the reference adds up in parts."""
    (n, d), backend = x.shape, gpu()
    expected, found = (ClusterSums.zeros(k, d, 39, DEVICE) for _ in range(2))
    nothing = torch.full((n,), NO_LABEL, dtype=torch.int32, device=DEVICE)
    with opened(x, k, backend, fit=False, batch_size=n) as session:
        (batch,) = session.rows.batches()
        for start in range(0, n, 100_000):
            span = slice(start, min(n, start + 100_000))
            norms = None if batch.norms is None else batch.norms[span]
            part = Batch(start, x[span], norms)
            reference.accumulate(part, nothing[span].clone(), labels[span], expected)
        space = accumulate.MoveWorkspace(n, k, backend.device, span=DEFAULT.move_span)
        accumulate.accumulate(batch, nothing, labels, found, space, Screens(backend.device, "auto").programs)
        synchronize()
    return {
        "sums": torch.equal(expected.direction, found.direction),
        "counts": torch.equal(expected.count, found.count),
        "moved": int(space.n_changed) == n,
    }


ACTIONS = {"check": check, "golden": golden, "estimator": estimator, "threads": threads, "large": large}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__, default=["check"])

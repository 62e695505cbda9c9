"""Fixtures for all tests, and the few helpers that open the package's seams for them."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import time
from types import ModuleType

# Tests run in a process for each core, and each has threads of its own: those that wait must sleep and leave the cores
# to others, or tests take twice their time. Read when the libraries are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 clocks
# The GPU kernels run in Triton's interpreter. Read when any test file, wherever it is, loads Triton first.
os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
import torch
from numba.core.dispatcher import Dispatcher

from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.inspection import rows as inspected
from cosmeans.memory_rows import MemoryRows
from cosmeans.progress import Silent

BACKENDS = {
    "reference": ReferenceBackend,
    "cpu": CpuBackend,
    "split": lambda: CpuBackend("split", 1 << 30),
    "pca": lambda: CpuBackend("pca", 1 << 30),
    "int8": lambda: CpuBackend("int8", 1 << 30),
}


def pytest_collection_modifyitems(items):
    if sys.platform != "linux":
        for item in items:
            if item.get_closest_marker("linux"):
                item.add_marker(pytest.mark.skip(reason="needs Linux"))


@pytest.fixture(params=sorted(BACKENDS))
def backend(request):
    return BACKENDS[request.param]()


@pytest.fixture
def operations(backend):
    """What a session of the backend does with a batch, with memory of its own."""
    return backend.operations()


@pytest.fixture
def open_session():
    """open_session(x, backend, weights=None, ...): a session whose rows were read, as the estimator opens it."""

    def opened(x, backend, weights=None, n_clusters=1, observer=None, **options):
        options = {"zero_rows": "skip", **options}
        task = Task(n_clusters, weights=weights, **options)
        rows = MemoryRows(torch.from_numpy(np.ascontiguousarray(x)))
        session = backend.session(rows, task, Alone(), observer or Silent(), lambda line: None)
        session.__enter__().read()
        return session

    return opened


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches as small as asked for: users' are merged up to a few megabytes."""
    monkeypatch.setattr(inspected, "LEAST_BATCH_BYTES", {})


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that is not written reads as NaN or as the least integer, never as a lucky zero."""

    def poison(function):
        def made(*args, **kwargs):
            fresh = function(*args, **kwargs)
            if isinstance(fresh, torch.Tensor):
                kind = torch.finfo if fresh.is_floating_point() else torch.iinfo
                fresh.fill_(torch.nan if fresh.is_floating_point() else kind(fresh.dtype).min)
            elif fresh.dtype.kind in "fi":
                fresh.fill(np.nan if fresh.dtype.kind == "f" else np.iinfo(fresh.dtype).min)
            return fresh

        return made

    names = ("empty", "empty_like")
    for name in names:
        monkeypatch.setattr(torch, name, poison(getattr(torch, name)))
    numpy = ModuleType("numpy")
    vars(numpy).update(vars(np), **{name: poison(getattr(np, name)) for name in names})
    for module in [module for name, module in sys.modules.items() if name.startswith("cosmeans.")]:
        compiled = any(isinstance(value, Dispatcher) for value in vars(module).values())
        if vars(module).get("np") is np and not compiled:  # a compiler must find the real one
            monkeypatch.setattr(module, "np", numpy)


@pytest.fixture
def time_flies(monkeypatch):
    """Every look at the clock is ten seconds after the one before: progress is shown at each step."""
    now = itertools.count(0.0, 10.0)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))


@pytest.fixture
def digest():
    """digest(labels, centroids): one hash over int64 labels and float32 centroid bits."""

    def hashed(labels, centroids):
        content = np.asarray(labels, np.int64).tobytes() + np.asarray(centroids, np.float32).tobytes()
        return hashlib.sha256(content).hexdigest()

    return hashed


@pytest.fixture
def threads():
    """threads(n) sets torch's thread count until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)

"""The ten smallest golden answers (tests/golden_cases.py), from the GPU's portable kernels in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import golden_cases
from cosmeans import lloyd, sphere
from cosmeans.backends.gpu.backend import GpuBackend
from cosmeans.data import Task
from cosmeans.group import Alone
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.progress import Silent
from golden_cases import Case

_MOST_FEATURES = 256
_OF_ROWS = ("zero_rows", "nonfinite")


def _size(case: Case) -> int:
    n, d = case.rows.shape
    return n * d * case.options["n_clusters"]


def _smallest(count: int) -> dict[str, Case]:
    """Single fits from an array of centroids: what a backend does alone, without the estimator."""
    plain = {
        name: case
        for name, case in golden_cases.given().items()
        if case.rows.shape[1] <= _MOST_FEATURES
        and len(case.parts) == 1
        and case.new is None
        and "n_init" not in case.options
    }
    return dict(sorted(plain.items(), key=lambda item: _size(item[1]))[:count])


CASES = _smallest(10)


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_give_the_golden_answer(name: str) -> None:
    case, backend = CASES[name], GpuBackend("cpu")
    first = sphere.normalise(torch.from_numpy(case.options["init"]))
    of_rows = {option: case.options[option] for option in _OF_ROWS if option in case.options}
    settings = {option: value for option, value in case.options.items() if option not in ("init", *_OF_ROWS)}
    task = Task(len(first), weights=case.weights, **of_rows)

    with backend.session(MemoryRows(torch.as_tensor(case.rows)), task, Alone(), Silent(), print) as session:
        session.read(first if session.labels_while_reading else None)
        result = lloyd.fit(session, first, FitOptions(epochs=case.parts[0], **settings), Silent())

    assert {
        "labels": golden_cases.hashed(result.labels.numpy().astype(np.int64)),
        "centroids": golden_cases.hashed(result.centroids.numpy()),
        "similarities": golden_cases.hashed(np.array(result.history.similarities)),
        "rows": golden_cases.hash_of_rows(case),
    } == golden_cases.expected()["given"][name]

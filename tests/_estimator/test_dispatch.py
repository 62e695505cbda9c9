"""Where a fit computes, on a machine with a GPU that isn't there."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from cosmeans import KMeans, open_rows
from cosmeans._estimator import dispatch
from cosmeans.errors import BackendUnavailableError
from cosmeans.memory_rows import MemoryRows
from cosmeans.options import FitOptions
from cosmeans.rows.held import hold
from files_of import KINDS
from refusing import leave_memory

pytest.importorskip("triton", reason="the GPU kernels are written in Triton")
GPU = torch.device("cuda", 1)
ROWS = torch.zeros(4000, 500)


@pytest.fixture
def free(monkeypatch):
    """A GPU, the second of two, with so many bytes free."""
    room = [1 << 40]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (room[0], 1 << 41))
    kept = {name: {"all": {"current": 0}} for name in ("reserved_bytes", "allocated_bytes")}
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda _: kept)
    return room


def chosen(rows=ROWS, **options):
    told = []
    return dispatch.choose_device(FitOptions(n_clusters=10, **options), MemoryRows(rows), told.append), told


def test_a_gpu_is_taken_where_there_is_one(free):
    assert chosen() == (GPU, ["computing on a GPU"])


def test_rows_that_stay_on_the_host_are_no_reason_against_it(free):
    least = 4000 * 40 + 10 * (500 * 40 + 300) + (256 << 20) + 1024 * (156 + 2 * 512 + 8 + 32 + 2 * 2000)
    free[0] = least
    assert chosen() == (GPU, ["computing on a GPU"])

    free[0] = least - 1
    device, (line,) = chosen()

    assert device == torch.device("cpu")
    assert line.startswith("computing on the CPU: 4000 rows of 500 entries and 10 clusters need")


def test_files_of_rows_that_fit_neither_on_the_gpu_nor_in_memory_are_no_reason_against_it(free, tmp_path, monkeypatch):
    KINDS["groups.parquet"][0](tmp_path / "rows.parquet", ROWS.numpy())
    leave_memory(monkeypatch, 1000)
    source, _ = hold(open_rows(tmp_path / "rows.parquet"), 0)

    free[0] = (256 << 20) + (6 << 20)  # of 8 MB of rows

    assert dispatch.choose_device(FitOptions(n_clusters=10), source, [].append) == GPU


def test_a_limit_counts_as_what_is_free(free):
    least = 4000 * 40 + 10 * (500 * 40 + 300) + (256 << 20) + 1024 * (156 + 2 * 512 + 8 + 32 + 2 * 2000)
    assert chosen(device_memory_limit=least)[0] == GPU

    device, (line,) = chosen(device_memory_limit=least - 1)

    assert device == torch.device("cpu")
    assert "261 MiB are free within device_memory_limit (261 MiB). Raise it" in line
    assert chosen(device_memory_limit=0, backend="gpu")[0] == GPU, "which refuses it when rows are read"


def test_without_triton_one_line_says_why_the_gpu_is_not_used(free, monkeypatch):
    monkeypatch.setitem(sys.modules, "cosmeans.backends.gpu.kernels.launch", None)

    device, (line,) = chosen()

    assert device == torch.device("cpu")
    assert re.fullmatch(r"computing on the CPU: the GPU backend needs Triton \(.*\). pip install triton", line)


def test_what_was_asked_for_by_name_is_kept(free):
    assert chosen(device="cpu") == (torch.device("cpu"), [])
    assert chosen(backend="cpu") == (torch.device("cpu"), [])
    assert chosen(backend="reference") == (torch.device("cpu"), [])
    free[0] = 0
    assert chosen(backend="gpu") == (GPU, ["computing on a GPU"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, 'device="cuda" needs that GPU; torch sees none. Use device="cpu" or "auto".'),
        ({"backend": "gpu"}, 'backend="gpu" needs a CUDA GPU; torch sees none. Use backend="auto".'),
    ],
    ids=str,
)
def test_a_machine_without_a_gpu_says_so(options, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(BackendUnavailableError) as caught:
        KMeans(2, verbose=0, **options).fit(ROWS)

    assert str(caught.value) == words

"""The Hopper kernel without a GPU: compiled for its chip, and its ranking of scores run on the CPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmeans.backends.gpu.kernels import screen_hopper
from cosmeans.backends.gpu.kernels.screen_hopper import Shape
from cosmeans.errors import BackendUnavailableError

HERE = Path(__file__).parent
FLOATS = [Shape(2, 200, 2), Shape(2, 136, 2), Shape(2, 256, 1), Shape(3, 200, 0), Shape(3, 8, 0)]
SHAPES = [*FLOATS, Shape(2, 256, 1, integers=True), Shape(2, 16, 1, integers=True)]


def _nvcc() -> str | None:
    """NVIDIA's compiler: from its wheel (the group dev), or one that is installed."""
    try:
        wheel = [str(file.locate()) for file in files("nvidia-cuda-nvcc") or [] if file.name == "nvcc"]
    except PackageNotFoundError:
        wheel = []
    return wheel[0] if wheel else shutil.which("nvcc")


nvcc = _nvcc()


@pytest.mark.parametrize(
    ("n_clusters", "n_features", "shape"),
    [
        (1, 768, Shape(2, 8, 1)),
        (256, 768, Shape(2, 256, 1)),
        (257, 384, Shape(2, 136, 2)),
        (1000, 768, Shape(2, 200, 2)),
        (2047, 768, Shape(2, 192, 2)),
        (2048, 768, Shape(2, 256, 1)),
        (1 << 16, 768, Shape(2, 256, 1)),
        (1000, 1024, Shape(2, 256, 1)),
        (1000, 128, Shape(3, 200, 0)),
        (4096, 128, Shape(2, 256, 1)),
    ],
)
def test_column_tiles_are_evenly_filled(n_clusters: int, n_features: int, shape: Shape) -> None:
    assert screen_hopper.shape_for(n_clusters, n_features) == shape


@pytest.mark.linux
@pytest.mark.skipif(nvcc is None, reason="needs nvcc (Linux: pip install --group dev)")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_compiles_without_spills(shape: Shape, tmp_path: Path) -> None:
    (tmp_path / "screen.cu").write_text(screen_hopper.source(shape))
    target = ["-gencode=arch=compute_90a,code=sm_90a", "-std=c++17", "-Xptxas", "-v", "-cubin"]

    report = subprocess.run(
        [str(nvcc), *target, "-o", "screen.cubin", "screen.cu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    assert re.findall(r"(\d+) bytes spill", report) == ["0", "0"]  # an accumulator in local memory would be slow
    # what a block of so many threads starts with; each role then takes what it needs
    assert f"{168 if shape.groups == 2 else 128} registers" in report
    assert "serialized" not in report  # ptxas says so when products wait for one another


@pytest.fixture(scope="module", params=FLOATS, ids=str)
def ranking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shape, ctypes.CDLL]:
    """The kernel's ranking, compiled for this machine: all of screen_hopper.cu in front of the kernel itself."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux")
    shape: Shape = request.param
    folder = tmp_path_factory.mktemp("ranking")
    ranking_part = screen_hopper.source(shape).split('extern "C" __global__')[0]
    parts = [(HERE / "screen_hopper_on_cpu.h").read_text(), ranking_part]
    (folder / "ranking.cc").write_text("\n".join([*parts, (HERE / "screen_hopper_on_cpu.cc").read_text()]))
    built = subprocess.run(
        [
            compiler,
            "-std=c++20",
            "-O2",
            "-fwrapv",
            "-shared",
            "-fPIC",
            "-pthread",
            "-w",
            "-o",
            "ranking.so",
            "ranking.cc",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[:2000]
    return shape, ctypes.CDLL(str(folder / "ranking.so"))


def found_of(library: ctypes.CDLL, scores: np.ndarray) -> np.ndarray:
    """Of every row the codes and columns of the best two, and a bound on the other codes: (N, 5) int32."""
    out = np.empty((len(scores), 5), np.int32)
    library.rank_rows(scores.ctypes.data_as(ctypes.c_void_p), *scores.shape, out.ctypes.data_as(ctypes.c_void_p))
    return out


def values_of(library: ctypes.CDLL, codes: np.ndarray) -> np.ndarray:
    library.value.restype = ctypes.c_float
    return np.array([library.value(int(code)) for code in codes], np.float32)


@pytest.mark.parametrize("kind", ["random", "positive", "ends", "ties", "close"])
@pytest.mark.parametrize("n_columns", [2, 7, 8, 201, 513])
def test_the_ranking_finds_the_two_best_and_bounds_the_others(
    ranking: tuple[Shape, ctypes.CDLL], kind: str, n_columns: int
) -> None:
    draw = np.random.default_rng(n_columns)
    scores = {
        "random": lambda: draw.uniform(-1.0, 1.0, (40, n_columns)),
        "positive": lambda: draw.uniform(0.0, 0.01, (40, n_columns)),
        "ends": lambda: draw.choice([-1.5, 1.5, 0.0], (40, n_columns)),  # rows of that length are screened as they are
        "ties": lambda: draw.choice([0.25, 0.5], (40, n_columns)),
        "close": lambda: 0.7 + 1e-6 * draw.standard_normal((40, n_columns)),
    }[kind]().astype(np.float32)

    found = found_of(ranking[1], scores)

    code, column, _, second_column, _ = found.T
    score, second, third = (values_of(ranking[1], found[:, i]) for i in (0, 2, 4))
    truth = np.sort(np.maximum(scores, 0.0), axis=1)  # a score below zero is known as "at most 0"
    error = 2 * screen_hopper.rounding(integers=False)  # of scores up to 1.5
    rows, others = np.arange(len(scores)), np.maximum(scores, 0.0)
    assert (code >= 0).tolist() == (scores >= 0).any(axis=1).tolist()
    assert np.abs(score - truth[:, -1]).max() <= error
    assert np.abs(second - truth[:, -2]).max() <= error
    assert np.abs(others[rows, column] - truth[:, -1]).max() <= 2 * error
    assert np.abs(others[rows, second_column] - truth[:, -2]).max() <= 2 * error
    assert (column != second_column).all()
    others[rows, column] = others[rows, second_column] = 0.0
    assert (third >= others.max(axis=1) - error).all()


def test_rows_without_a_score_above_zero_are_not_known(ranking: tuple[Shape, ctypes.CDLL]) -> None:
    scores = np.random.default_rng(0).uniform(-1.0, -1e-30, (40, 201)).astype(np.float32)

    assert (found_of(ranking[1], scores)[:, 0] < 0).all()


def test_one_column_has_no_second(ranking: tuple[Shape, ctypes.CDLL]) -> None:
    scores = np.linspace(0.0, 1.5, 9, dtype=np.float32)[:, None]

    found = found_of(ranking[1], scores)

    assert np.abs(values_of(ranking[1], found[:, 0]) - scores[:, 0]).max() <= 2 * screen_hopper.rounding(integers=False)
    assert (found[:, 1] == 0).all()
    assert (found[:, [2, 4]] < 0).all()


def concluded(library: ctypes.CDLL, scores: np.ndarray, residuals: np.ndarray, scales: np.ndarray) -> dict[str, Any]:
    """Labels, and listed rows with what is listed of them, where centroids are exact and of length 1."""
    n, k = scores.shape
    arrays: dict[str, Any] = {
        "residuals": residuals.astype(np.float32),
        "units": scales.astype(np.float32),
        "original": np.arange(100, 100 + k, dtype=np.int32),
        "bounds": np.array([0.0, 1.0, 1.0], np.float32),
        "labels": np.full(n, -7, np.int32),
        "list": np.full(n, -7, np.int32),
        "list_scores": np.zeros(n, np.float32),
        "pair_rows": np.full(n, -7, np.int32),
        "pair_clusters": np.full((n, 2), -7, np.int32),
        "counts": np.zeros(4, np.int32),
    }
    pointers = [array.ctypes.data for array in arrays.values()]
    # more clusters than columns, so that a column's centroid is looked up
    out = screen_hopper.Output(
        *pointers, None, None, 0, n, ACCUMULATION, screen_hopper.rounding(integers=False), 0.0, k + 1
    )
    found = found_of(library, scores)
    library.conclude_rows(found.ctypes.data_as(ctypes.c_void_p), k, ctypes.byref(out))
    return arrays


ACCUMULATION = 2e-5


@pytest.mark.parametrize("unit", [0.7, 1.0, 1.3])
def test_what_is_not_listed_is_proved(ranking: tuple[Shape, ctypes.CDLL], unit: float) -> None:
    draw = np.random.default_rng(3)
    n, k, residual = 4000, 20, 2e-4
    scores = draw.uniform(-0.5, 0.2, (n, k)).astype(np.float32)
    # the best two, and for half of the rows the third, are about as far apart as the certificate asks for
    gap = 2 * (residual + (1 + residual) * ACCUMULATION)
    scores[:, 3] = 0.5
    scores[:, 11] = 0.5 - gap / unit * draw.uniform(0.5, 2.0, n)
    scores[::2, 7] = 0.5 - gap / unit * draw.uniform(0.5, 2.0, len(scores[::2]))
    residuals = np.full(n, residual)
    residuals[5] = -1.0  # not kept

    got = concluded(ranking[1], scores, residuals, np.full(n, unit))

    crowd, pairs = got["list"][: got["counts"][0]], got["pair_rows"][: got["counts"][1]]
    ordered = np.sort(scores.astype(np.float64) * np.float32(unit), axis=1)
    behind, third_behind = ordered[:, -1] - ordered[:, -2], ordered[:, -1] - ordered[:, -3]
    open_rows, crowded = behind <= gap, third_behind <= gap
    slack = 3 * screen_hopper.rounding(integers=False)
    listed = np.zeros(n, bool)
    listed[crowd] = listed[pairs] = True
    assert len(crowd) + len(pairs) == listed.sum()  # none twice
    assert not listed[5]
    open_rows[5] = crowded[5] = False
    assert listed[open_rows].all()
    assert not listed[behind > gap + slack].any()
    assert not set(np.flatnonzero(crowded)) & set(pairs)
    assert set(pairs) <= set(np.flatnonzero(third_behind > gap))
    assert len(pairs) > 100
    assert len(crowd) > 100
    assert (np.abs(got["list_scores"][: len(crowd)] - ordered[crowd, -1]) <= slack).all()
    best_two = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :2], axis=1) + 100
    assert (got["pair_clusters"][: len(pairs)] == best_two[pairs]).all()
    assert (got["labels"][~listed] == np.where(np.arange(n) == 5, -1, 103)[~listed]).all()


def test_rows_that_are_not_known_are_screened_again(ranking: tuple[Shape, ctypes.CDLL]) -> None:
    scores = np.random.default_rng(0).uniform(-1.0, -0.1, (100, 20)).astype(np.float32)

    got = concluded(ranking[1], scores, np.full(100, 1e-4), np.ones(100))

    assert got["counts"][:2].tolist() == [100, 0]
    assert sorted(got["list"].tolist()) == list(range(100))
    assert (got["list_scores"] < -1.5).all()  # any column may be the best


def test_a_single_column_needs_no_proof(ranking: tuple[Shape, ctypes.CDLL]) -> None:
    scores = np.linspace(-1.0, 1.0, 50, dtype=np.float32)[:, None]

    got = concluded(ranking[1], scores, np.full(50, 1e-4), np.ones(50))

    assert got["counts"][:2].tolist() == [0, 0]
    assert (got["labels"] == 100).all()


class Status(IntEnum):
    """Of those that calls of CUDA give."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_FAILED = 719


def test_the_values_of_a_call_are_what_follows_its_status() -> None:
    assert screen_hopper.checked((Status.CUDA_SUCCESS, 7)) == 7
    assert screen_hopper.checked((Status.CUDA_SUCCESS, 7, 8)) == (7, 8)
    assert screen_hopper.checked((Status.CUDA_SUCCESS,)) == ()


@pytest.mark.parametrize("status", [status for status in Status if status])
def test_updating_is_advised_only_where_it_helps(status: Status) -> None:
    with pytest.raises(BackendUnavailableError, match=status.name) as error:
        screen_hopper.checked((status,))

    of_a_version = status.name in ("CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
    assert ("Update cuda-bindings" in str(error.value)) is of_a_version
    assert ("Free memory" in str(error.value)) is ("MEMORY" in status.name)


def test_the_source_has_no_rounded_numbers() -> None:
    """Powers of two come from Python, or are written as such: a reader can't check the digits of others."""
    text = screen_hopper.source(Shape(2, 200, 2))

    assert not re.findall(r"\d\.\d{4,}|\de[-+]?\d", re.sub(r"0x[0-9a-f.]+p[-+]?\d+", "", text))

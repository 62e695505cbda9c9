"""The Hopper kernel without a GPU: compiled for its chip, and its ranking of scores run on the CPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pytest

from cosmeans.backends.gpu import hopper
from cosmeans.backends.gpu.hopper import Shape

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
    assert hopper.shape_for(n_clusters, n_features) == shape


@pytest.mark.skipif(nvcc is None, reason="needs nvcc (Linux: pip install --group dev)")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_compiles_without_spills(shape: Shape, tmp_path: Path) -> None:
    (tmp_path / "screen.cu").write_text(hopper.source(shape))
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
    """The kernel's ranking, compiled for this machine: all of hopper.cu that stands before the kernel itself."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux")
    shape: Shape = request.param
    folder = tmp_path_factory.mktemp("ranking")
    parts = [(HERE / "hopper_on_cpu.h").read_text(), hopper.source(shape).split('extern "C" __global__')[0]]
    (folder / "ranking.cc").write_text("\n".join([*parts, (HERE / "hopper_on_cpu.cc").read_text()]))
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


def ranked(library: ctypes.CDLL, scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """Score, column, second, second column and bound on the others of every row."""
    out = np.empty((len(scores), 5), np.int32)
    pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)  # noqa: E731
    library.rank_rows(pointer(scores), *scores.shape, pointer(out))
    library.value.restype = ctypes.c_float
    values = [np.array([library.value(int(code)) for code in out[:, i]], np.float32) for i in (0, 2, 4)]
    return values[0], out[:, 1], values[1], out[:, 3], values[2]


@pytest.mark.parametrize("kind", ["random", "negative", "ends", "ties", "close"])
@pytest.mark.parametrize("n_columns", [2, 7, 8, 201, 513])
def test_the_ranking_finds_the_two_best_and_bounds_the_others(
    ranking: tuple[Shape, ctypes.CDLL], kind: str, n_columns: int
) -> None:
    draw = np.random.default_rng(n_columns)
    scores = {
        "random": lambda: draw.uniform(-1.0, 1.0, (40, n_columns)),
        "negative": lambda: draw.uniform(-1.0, -0.5, (40, n_columns)),
        "ends": lambda: draw.choice([-1.5, 1.5, 0.0], (40, n_columns)),  # rows of that length are screened as they lie
        "ties": lambda: draw.choice([0.25, 0.5], (40, n_columns)),
        "close": lambda: 0.7 + 1e-6 * draw.standard_normal((40, n_columns)),
    }[kind]().astype(np.float32)

    score, column, second, second_column, third = ranked(ranking[1], scores)

    rows, truth = np.arange(len(scores)), np.sort(scores, axis=1)
    error = hopper.ROUNDING
    assert np.abs(score - truth[:, -1]).max() <= error
    assert np.abs(second - truth[:, -2]).max() <= error
    assert np.abs(scores[rows, column] - truth[:, -1]).max() <= 2 * error
    assert np.abs(scores[rows, second_column] - truth[:, -2]).max() <= 2 * error
    assert (column != second_column).all()
    others = scores.copy()
    others[rows, column] = others[rows, second_column] = -9.0
    assert (third >= others.max(axis=1) - error).all()


def test_one_column_has_no_second(ranking: tuple[Shape, ctypes.CDLL]) -> None:
    scores = np.linspace(-1.5, 1.5, 9, dtype=np.float32)[:, None]

    score, column, second, _, third = ranked(ranking[1], scores)

    assert np.abs(score - scores[:, 0]).max() <= hopper.ROUNDING
    assert (column == 0).all()
    assert (second <= -1.75 + hopper.ROUNDING).all()
    assert (third <= -1.75 + hopper.ROUNDING).all()

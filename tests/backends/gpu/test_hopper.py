"""The Hopper kernel compiles for its chip without a GPU, and spills no registers; where nvcc is at hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cosmeans.backends.gpu import hopper

nvcc = shutil.which("nvcc")


@pytest.mark.parametrize(
    ("n_clusters", "columns"), [(1, 8), (8, 8), (256, 256), (257, 136), (1000, 256), (1 << 16, 256)]
)
def test_column_tiles_are_evenly_filled(n_clusters: int, columns: int) -> None:
    assert hopper.column_tile(n_clusters) == columns


@pytest.mark.skipif(nvcc is None, reason="needs nvcc (pip install nvidia-cuda-nvcc)")
@pytest.mark.parametrize("columns", [8, 136, 200, 256])
def test_the_kernel_compiles_without_spills(columns: int, tmp_path: Path) -> None:
    (tmp_path / "screen.cu").write_text(hopper.source(columns))
    target = ["-gencode=arch=compute_90a,code=sm_90a", "-std=c++17", "-Xptxas", "-v", "-cubin"]

    report = subprocess.run(
        [str(nvcc), *target, "-o", "screen.cubin", "screen.cu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    # a few bytes once per column tile are no loss; an accumulator in local memory would be
    assert all(int(spilled) <= 16 for spilled in re.findall(r"(\d+) bytes spill", report))
    assert "168 registers" in report
    assert "serialized" not in report  # ptxas says so when products wait for one another

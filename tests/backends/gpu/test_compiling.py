"""Every kernel compiles for GPUs that are not here; the interpreter takes much that Triton's compiler refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cosmeans.backends.gpu

KERNELS = Path(cosmeans.backends.gpu.__file__).parent
# called by kernels, not started
_PARTS = r"@triton\.jit(?:\([^)]*\))?\ndef (\w+)"


def started() -> set[str]:
    """Names of the kernels that are started somewhere: `launch(name, ...)`."""
    text = "\n".join(file.read_text() for file in KERNELS.rglob("*.py"))
    return {name for name in re.findall(_PARTS, text) if re.search(rf"\blaunch\(\s*{name},", text)}


def test_every_kernel_compiles_for_a_gpu() -> None:
    found = subprocess.run(
        [sys.executable, Path(__file__).with_name("compiling.py")], capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stderr[-3000:]
    assert set(found.stdout.split()) == started()

"""No loop reads or writes beyond an array: guard pages around what registers take, checked indices for the rest."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import checked
import guarded
from cosmeans.backends.cpu.kernels import fused


def run(program, **variables):
    """Its exit status and the lines that it said."""
    done = subprocess.run(
        [sys.executable, str(Path(program.__file__))],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.split("\n")[:-1], done.stderr


@pytest.mark.linux
@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_nothing_is_read_or_written_beyond_arrays():
    status, said, errors = run(guarded)
    has = {
        "bytes": fused.multiplies_bytes(4),
        "shorts": fused.multiplies_shorts(2),
        "floats": fused.multiplies_floats(),
    }
    names = [name for name, here in has.items() if here]
    assert said == ["fits", "scores", *names, "beyond"], errors
    assert status in ((-signal.SIGSEGV, -signal.SIGBUS) if names else (0,)), errors


@pytest.mark.soak
def test_every_index_is_within_its_array(tmp_path):
    status, said, errors = run(checked, NUMBA_BOUNDSCHECK=1, NUMBA_CACHE_DIR=tmp_path)
    assert (status, said) == (0, ["fits", "without registers", "planted", "raised"]), errors

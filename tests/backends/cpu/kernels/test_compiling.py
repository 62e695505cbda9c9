"""Compiled loops are kept where that is possible; whatever is wrong with the place or the files, they work."""

import ast
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from numba import config
from numba.core.dispatcher import Dispatcher

import cosmeans
from cosmeans.backends.cpu.kernels import (
    accumulate,
    bounds,
    certify,
    compiling,
    encode,
    fused,
    norms,
    scores,
    update,
    vectors,
)

PACKAGE = Path(cosmeans.__file__).parent


def twice(folder=None, sources=None):
    """The same loop as a new process would define it, kept in this folder."""

    def double(values, start, stop):
        total = 0
        for i in range(start, stop):
            total += 2 * values[i]
        return total

    folders = None if folder is None else lambda: [folder]
    return compiling.njit(kept=partial(compiling.Kept, folders=folders, sources=sources), **compiling.JIT)(double)


def answer(kernel):
    return kernel(np.arange(5), 0, 5)


def read_back(kernel):
    return sum(kernel.stats.cache_hits.values())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_loop_is_compiled_once(tmp_path):
    first, second = twice(tmp_path), twice(tmp_path)

    assert (answer(first), read_back(first), len(files(tmp_path))) == (20, 0, 1)
    assert (answer(second), read_back(second), len(files(tmp_path))) == (20, 1, 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file that is kept: its name and what it holds."""
    folder = tmp_path_factory.mktemp("kept")
    answer(twice(folder))
    (path,) = files(folder)
    return path.name, path.read_bytes()


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(share):
    def flipped(path):
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 16
        path.write_bytes(content)

    return flipped


def replaced(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    **{f"cut at {share}": cut(share) for share in (0.0, 0.001, 0.999)},
    **{f"a bit at {share}": flip(share) for share in (0.0, 0.002, 0.5, 0.999)},
    "a folder": replaced,
    "another file": lambda path: path.write_bytes(b"\x80\x04N." * 100),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to(path.parent / "nothing")),
}


@pytest.mark.linux
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_read(tmp_path, whole, damage):
    path = tmp_path / whole[0]
    path.write_bytes(whole[1])
    damage(path)
    kernel = twice(tmp_path)

    assert (answer(kernel), read_back(kernel)) == (20, 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("function", ["write_bytes", "read_bytes", "mkdir", "glob"])
def test_what_a_disk_refuses_is_done_without(tmp_path, monkeypatch, function, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, function, refuse)

    assert answer(twice(tmp_path / "kept")) == 20


def test_other_sources_are_compiled_again_and_replace_what_was_kept(tmp_path):
    answer(twice(tmp_path))
    before = files(tmp_path)
    kernel = twice(tmp_path, sources=lambda: "0" * 64)

    assert (answer(kernel), read_back(kernel)) == (20, 0)
    assert len(files(tmp_path)) == 1
    assert files(tmp_path) != before


def test_bounds_checked_loops_are_others(tmp_path, monkeypatch):
    answer(twice(tmp_path))
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)
    kernel = twice(tmp_path)

    assert (answer(kernel), read_back(kernel)) == (20, 0)


MODULES = [accumulate, bounds, certify, encode, fused, norms, scores, update, vectors]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_loop_called_from_python_is_kept_this_way(module, tmp_path, monkeypatch):
    loops = [value for value in vars(module).values() if isinstance(value, Dispatcher)]
    called = [loop for loop in loops if "no_cpython_wrapper" not in loop.targetoptions]
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))  # only our cache asks for it as late as that

    assert called
    assert {Path(loop.stats.cache_path).parent for loop in called} == {tmp_path}


def test_loops_are_compiled_by_one_thread_at_a_time(tmp_path):
    """And by none while another is at it for the same types: what was compiled is taken."""
    kernel = twice(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        together = Barrier(8)
        answers = list(pool.map(lambda _: (together.wait(), answer(kernel))[1], range(8)))

    assert answers == [20] * 8
    assert len(kernel.signatures) == 1


def asks_numba(node):
    """Whether this is `from numba import njit`, or `numba.jit`."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "numba" and bool({"njit", "jit"} & {name.name for name in node.names})
    return isinstance(node, ast.Attribute) and node.attr in ("njit", "jit") and getattr(node.value, "id", "") == "numba"


def test_only_one_file_asks_numba_to_compile():
    files = PACKAGE.rglob("*.py")
    asking = [file for file in files if any(map(asks_numba, ast.walk(ast.parse(file.read_text()))))]

    assert [file.name for file in asking] == ["compiling.py"]


# ------------------------------------------------------------- whole processes

FIT = """
import hashlib, numpy as np
from cosmeans import KMeans
x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
m = KMeans(5, epochs=4, random_state=0).fit(x)
answer = hashlib.sha256(m.cluster_centers_.tobytes() + m.predict(x).tobytes()).hexdigest()
print(answer)
"""
REFUSED = """
from cosmeans.errors import BackendUnavailableError
for options in ({"backend": "cpu"}, {"strategy": "int8"}, {"backend": "cpu", "device": "cpu"}):
    try:
        KMeans(5, verbose=0, **options).fit(x)
    except BackendUnavailableError as error:
        print("NUMBA_DISABLE_JIT" in str(error), "reference" in str(error))
"""
PICTURE = """
try:
    print(type(m.plot()).__name__)
except OSError as error:
    print(str(error).split("none. ")[1])
"""
NOWHERE = "import tempfile; tempfile.tempdir = '/'\n"  # Python looks for another one where TMPDIR can't be written to
VERSION = "import sys; sys.argv = ['cosmeans', '--version']; from cosmeans.__main__ import main; main()"


@pytest.fixture
def expected():
    names: dict[str, object] = {}
    exec(FIT, names)
    return names["answer"]


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """homeless(code, **environment): a process that finds no writable home, and a package that it can't write to."""
    package = tmp_path / "site"
    shutil.copytree(PACKAGE, package / "cosmeans")
    for path in [package, *package.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    # root may write anywhere: another user who may read as root does
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and (not shutil.which("setpriv") or subprocess.run([*nobody, "true"], capture_output=True).returncode):
        pytest.skip("root needs setpriv to be somebody else")

    def run(code, **environment):
        known = {"HOME": "/nonexistent", "PYTHONPATH": str(package), "PATH": os.environ["PATH"], **environment}
        command = [*(nobody if root else []), sys.executable, "-c", code]
        return subprocess.Popen(command, env=known, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    yield run
    for path in [package, *package.rglob("*")]:
        path.chmod(0o755)


def told(process):
    """Lines of the output and of the errors, without those of the display."""
    out, errors = process.communicate(timeout=300)
    return out.split("\n")[:-1], [line for line in errors.split("\n") if line.startswith(("cosmeans:", "Traceback"))]


@pytest.mark.linux
def test_without_a_home_it_works(expected, homeless):
    """With loops kept next to the sources, and with none compiled at all."""
    read, switched_off = homeless(FIT + VERSION, TMPDIR="/nonexistent"), homeless(FIT + REFUSED, NUMBA_DISABLE_JIT="1")

    out, errors = told(read)
    assert out[0] == expected
    assert out[1].startswith("cosmeans ")
    assert errors == []
    out, errors = told(switched_off)
    assert out == [expected] + 3 * ["True True"]
    assert len(errors) == 1
    assert "NUMBA_DISABLE_JIT" in errors[0]


@pytest.mark.linux
@pytest.mark.soak
def test_without_any_place_each_process_compiles_and_says_what_to_set(expected, homeless, tmp_path):
    for kept in (tmp_path / "site").rglob("*.nbc"):
        kept.unlink()

    out, errors = told(homeless(NOWHERE + FIT + "KMeans(5).fit(x)"))

    assert out == [expected]
    assert len(errors) == 1
    assert "NUMBA_CACHE_DIR" in errors[0]


@pytest.mark.linux
@pytest.mark.soak
def test_two_processes_that_compile_at_once_share_what_they_made(expected, homeless, tmp_path):
    for kept in (tmp_path / "site").rglob("*.nbc"):
        kept.unlink()
    shared = tempfile.mkdtemp()
    try:
        Path(shared).chmod(0o777)
        processes = [homeless(FIT, TMPDIR=shared) for _ in range(3)]
        assert [told(process) for process in processes] == 3 * [([expected], [])]
        kept = list(Path(shared).rglob("*.nbc"))
        assert kept
        assert not list(Path(shared).rglob("*.tmp"))
        assert told(homeless(FIT, TMPDIR=shared)) == ([expected], [])
        assert sorted(kept) == sorted(Path(shared).rglob("*.nbc"))
    finally:
        shutil.rmtree(shared)


@pytest.mark.linux
@pytest.mark.soak
@pytest.mark.parametrize("place", ["shared", "nowhere"])
def test_pictures_without_a_home_are_drawn_or_say_what_to_set(expected, homeless, place):
    pytest.importorskip("matplotlib")
    shared = tempfile.mkdtemp()
    try:
        Path(shared).chmod(0o777)
        code = (NOWHERE if place == "nowhere" else "") + FIT + PICTURE
        process = homeless(code, TMPDIR=shared, MPLBACKEND="agg")
        out, errors = process.communicate(timeout=300)
    finally:
        shutil.rmtree(shared)

    assert out.split("\n")[1] == ("Figure" if place == "shared" else "Set MPLCONFIGDIR to a writable folder.")
    assert "Matplotlib created" not in errors

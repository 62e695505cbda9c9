"""One error for whatever a reader raises, and the words of the operating system's errors."""

import errno
import os
import pickle
import struct
import tokenize
import zipfile
import zlib

import numpy as np
import pytest

from cosmeans.errors import FileError, ModelFormatError, OptionError
from cosmeans.reading import free_memory, open_regular, read_bytes, reading, require_memory, size_words
from refusing import leave_memory

RAISED = [
    ValueError("odd\nand more"),
    KeyError("field"),
    TypeError(),
    RecursionError("maximum recursion depth exceeded"),
    OverflowError("int too large"),
    ZeroDivisionError("division by zero"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    zlib.error("Error -3"),
    zipfile.BadZipFile("no zip"),
    tokenize.TokenError("EOF in multi-line statement"),
    struct.error("unpack requires a buffer"),
    pickle.UnpicklingError("pickle"),
    EOFError(),
    OSError("Not a gzipped file"),
    OSError(errno.EINVAL, "Invalid argument"),
    OSError(errno.ESPIPE, "Illegal seek"),
    AssertionError(),
    NotImplementedError("compression"),
    StopIteration(),
    Warning("raised as an error"),
]
SYSTEM = {
    errno.EACCES: "permission denied",
    errno.ENOMEM: "no memory or address space left",
    errno.EMFILE: "as many open files",
    errno.ENFILE: "as many open files",
    errno.EIO: "input/output error",
    errno.EFBIG: "larger than the file system",
    errno.ESTALE: "network share",
    errno.EROFS: "read-only",
    errno.ENAMETOOLONG: "name is longer",
    errno.ELOOP: "symbolic links",
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "quota",
    errno.ENOTDIR: "a part of the path",
}


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_reader_raises_is_one_error_that_names_the_file(raised):
    with pytest.raises(FileError, match=r"^x.npy is truncated or damaged \(.+\). Copy") as caught, reading("x.npy"):
        raise raised

    assert caught.value.__cause__ is raised
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelFormatError, match="Fit again"), reading("model.json", ModelFormatError, "Fit again."):
        raise raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), OptionError("ours")])
def test_what_is_not_about_the_file_passes(raised):
    with pytest.raises(type(raised)) as caught, reading("x.npy"):
        raise raised

    assert caught.value is raised


@pytest.mark.parametrize("number", SYSTEM, ids=errno.errorcode.get)
def test_what_the_system_refuses_is_not_called_damage(number):
    with pytest.raises(FileError, match=f"Can't read x.npy: .*{SYSTEM[number]}") as caught, reading("x.npy"):
        raise OSError(number, os.strerror(number))

    assert "damaged" not in str(caught.value)


def test_too_little_memory_is_told_with_the_size_of_the_file(tmp_path):
    (tmp_path / "x.npy").write_bytes(bytes(2_500_000))

    with pytest.raises(FileError, match=r"not enough memory to read .*x.npy \(2.5 MB\)"), reading(tmp_path / "x.npy"):
        np.ones(1 << 48)
    with pytest.raises(FileError, match=r"Can't read .*x.npy \(2.5 MB\): .*memory"), reading(tmp_path / "x.npy"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.linux
def test_a_file_that_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"")
    regular = os.stat(tmp_path / "x")
    (tmp_path / "x").unlink()
    os.mkfifo(tmp_path / "x")
    monkeypatch.setattr(os, "stat", lambda *_, **__: regular)

    with pytest.raises(FileError, match=r"not a file but a pipe"):
        open_regular(tmp_path / "x")


def test_a_file_has_at_most_so_many_bytes(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(2000))

    assert read_bytes(tmp_path / "x") == bytes(2000)
    with pytest.raises(FileError, match=r"has 2.0 kB; such a file has at most 1.0 kB"):
        read_bytes(tmp_path / "x", 1000)
    leave_memory(monkeypatch, 1999)
    with pytest.raises(FileError, match=r"has 2.0 kB, and 2.0 kB of memory are free"):
        read_bytes(tmp_path / "x")


@pytest.mark.linux
def test_free_memory_knows_the_limit_of_this_process():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 46, before[1]))
        assert 0 < free_memory() < 1 << 46
        resource.setrlimit(resource.RLIMIT_AS, (4096, before[1]))
        assert free_memory() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_container_has_less_memory_than_its_machine(tmp_path):
    for name, text in (
        ("memory.max", "5000000"),
        ("memory.current", "4000000"),
        ("memory.stat", "anon 1\ninactive_file 500000"),
    ):
        (tmp_path / name).write_text(text)

    assert free_memory(tmp_path) == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 1_500_000


def test_what_unpacks_to_more_than_is_free_is_told():
    require_memory("x.npz", 2_000, "unpacks to")
    with pytest.raises(FileError, match=r"unpacks to 1,000.0 TB, and .* of memory are free"):
        require_memory("x.npz", 10**15, "unpacks to")


def test_sizes_are_told_in_units_of_people():
    assert [size_words(size) for size in (7, 1500, 2 * 10**6, 8 * 10**9, 3 * 10**13)] == [
        "7 bytes",
        "1.5 kB",
        "2.0 MB",
        "8.0 GB",
        "30.0 TB",
    ]

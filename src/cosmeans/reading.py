"""How files are read: regular files only, sizes checked before they are believed, one error for any damage."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import psutil

from cosmeans.errors import CosmeansError, FileError
from cosmeans.system_errors import kind_words, reading_words

# never wait for the other end of a pipe or a terminal; the flags that a system lacks are 0
_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_AGAIN = "Copy or write the file again."
_DAMAGED = "is truncated or damaged"
_END_BYTES = 1 << 16  # at either end of a file that are compared
_CGROUP = Path("/sys/fs/cgroup")  # of Linux: limits of a container


@contextmanager
def reading(
    path: str | os.PathLike[str],
    error: type[FileError] = FileError,
    advice: str = _AGAIN,
    says: str = _DAMAGED,
) -> Iterator[None]:
    """Make one error of whatever is raised while `path` is read.

    error   the class to raise for a damaged file
    advice  what to do about one
    says    what is wrong with one

    Errors of ours pass. What the system refuses (no file, no permission, no memory) is a FileError in words; anything
    else that a reader raises, of whatever class, means that the file is not what it says it is.
    """
    try:
        yield
    except CosmeansError:
        raise
    except MemoryError as cause:
        raise FileError(
            f"There is not enough memory to read {path}{_told_size(path)}. Free some, or use a smaller file."
        ) from cause
    except OSError as cause:
        words = reading_words(cause)
        if words is None:
            raise damaged(path, cause, error, advice, says) from cause
        raise _refused(path, cause, words) from cause
    # other people's readers raise anything for bytes they did not expect: zlib.error, TokenError, KeyError,
    # RecursionError, struct.error, ... A list of them is never complete. This is the one place that takes all.
    except Exception as cause:
        raise damaged(path, cause, error, advice, says) from cause


def damaged(
    path: str | os.PathLike[str],
    reason: Any,
    error: type[FileError] = FileError,
    advice: str = _AGAIN,
    says: str = _DAMAGED,
) -> FileError:
    """The error for a file whose contents are not what they should be. reason: an exception, or words."""
    text = str(reason).strip().splitlines() or [type(reason).__name__]
    return error(f"{path} {says} ({text[0][:200]}). {advice}")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened for reading.

    Raises FileError for anything else: a pipe, a socket, a device or a folder is never opened or waited for, even one
    that takes the file's place at this moment.
    """
    with reading(path):
        require_regular(path, os.stat(path).st_mode)
        file = open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115
        try:
            require_regular(path, os.fstat(file.fileno()).st_mode)
        except FileError:
            file.close()
            raise
        return file


def require_regular(path: str | os.PathLike[str], mode: int) -> None:
    """Raise FileError unless the mode is that of a regular file."""
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is not a file but {kind_words(mode)}. Pass a regular file.")


def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The contents of a regular file. Raises FileError, also if it has more than `most` bytes."""
    with open_regular(path) as file, reading(path):
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise FileError(f"{path} has {size_words(size)}; such a file has at most {size_words(most)}. {_AGAIN}")
        require_memory(path, size, "has")
        return file.read(size + 1)  # a byte more: what grows is not read on and on


def name_of(file: BinaryIO, path: Path) -> str:
    """A name by which a library opens the very file that is open here, whatever stands at `path` by now."""
    opened = f"/dev/fd/{file.fileno()}"
    return opened if os.path.exists(opened) else os.fspath(path)


def require_memory(path: str | os.PathLike[str], needed: int, says: str) -> None:
    """Raise FileError if there is not so much free memory. says: how the file tells it, as "unpacks to"."""
    free = free_memory()
    if needed > free:
        raise FileError(
            f"{path} {says} {size_words(needed)}, and {size_words(free)} of memory are free. "
            "Use a machine with more memory, or a smaller file."
        )


def free_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that this process can still have: of the machine, of its container and of its limit (ulimit -v)."""
    free = psutil.virtual_memory().available
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, limit - psutil.Process().memory_info().vms)
    return int(max(0, min(free, _container_memory(cgroup))))


class Fingerprint(NamedTuple):
    """What tells the content of a file, or of a folder that is one data set, from another; None where it isn't known.

    bytes     its size; of a folder the sum
    mtime_ns  when it was changed last, in nanoseconds; of a folder the latest
    sha256    of the first and last 64 KB of a file on a disk; of a folder, of names and sizes
    version   of what is behind a URL: the ETag, or else the time of the last change, as the server tells it
    """

    bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    version: str | None = None


def fingerprint(path: Path) -> Fingerprint:
    """Of a file, or of a folder that is one data set. Raises FileError."""
    with reading(path):
        if path.is_dir():
            return _of_folder(path)
        found, digest = path.stat(), hashlib.sha256()
        with open_regular(path) as file:
            digest.update(file.read(_END_BYTES))
            if found.st_size > _END_BYTES:
                file.seek(max(_END_BYTES, found.st_size - _END_BYTES))
                digest.update(file.read(_END_BYTES))
        return Fingerprint(found.st_size, found.st_mtime_ns, digest.hexdigest())


def _of_folder(path: Path) -> Fingerprint:
    size, latest, digest = 0, 0, hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            found = file.stat()
            size, latest = size + found.st_size, max(latest, found.st_mtime_ns)
            digest.update(f"{file.relative_to(path).as_posix()}\0{found.st_size}\0".encode("utf-8", "surrogateescape"))
    return Fingerprint(size, latest, digest.hexdigest())


def size_words(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} bytes"


def _container_memory(cgroup: Path) -> float:
    """What the limit of a container (cgroup 2) leaves; what the system only caches in it can be taken back."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (cgroup / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, ValueError, StopIteration):
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used + cached


def _told_size(path: str | os.PathLike[str]) -> str:
    try:
        return f" ({size_words(os.stat(path).st_size)})"
    except OSError:
        return ""


def _refused(path: str | os.PathLike[str], cause: OSError, words: tuple[str, str]) -> FileError:
    if isinstance(cause, FileNotFoundError):
        return FileError(f"No such file: {path}.")
    return FileError(f"Can't read {path}{_told_size(path)}: {words[0]}. {words[1]}.")

"""What the operating system says, in words: its errors, for reading and for writing; and what stands at a path."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from cosmeans.errors import WriteError

_SHORT_WRITE = "requested and"  # how NumPy tells that a disk took less than it was given; it keeps no errno
_CHECK = "Check the path"
_PATH = (_CHECK, _CHECK)
_FILES = ("Close some of them, or raise the limit (ulimit -n)",) * 2
_SHARE = ("Try again when the share answers, or copy the file to a local disk", "Try again when the share answers")

# name: what happened, what to do when reading, what to do when writing; names, since no system has them all
_TABLE: dict[str, tuple[str, tuple[str, str]]] = {
    "ENOENT": ("there is no such file or folder", _PATH),
    "ENOTDIR": ("a part of the path is a file where a folder is needed", _PATH),
    "EISDIR": ("it is a folder", _PATH),
    "ENAMETOOLONG": ("the name is longer than the file system allows", ("Use a shorter name", "Use a shorter name")),
    "ELOOP": ("its symbolic links form a loop, or are too many", _PATH),
    "EACCES": ("permission denied", ("Check its permissions", "Check the permissions of the folder")),
    "EPERM": ("the system does not permit it", ("Check its permissions", "Check the permissions of the folder")),
    "EROFS": ("the file system is read-only", (_CHECK, "Choose another folder")),
    "ENOMEM": (
        "the system has no memory or address space left for it",
        ("Free some memory, or raise the limit (ulimit -v)",) * 2,
    ),
    "EMFILE": ("this process has as many open files as it may have", _FILES),
    "ENFILE": ("this machine has as many open files as it can have", ("Close some of them",) * 2),
    "EIO": (
        "the disk reports an input/output error",
        ("Check the disk, or take another copy of the file", "Check the disk, or choose another"),
    ),
    "EFBIG": (
        "the file is larger than the file system, or the limit of this process, allows",
        ("Raise the limit (ulimit -f), or choose another disk",) * 2,
    ),
    "EOVERFLOW": ("the file is larger than this system can address", ("Use a 64-bit system",) * 2),
    "ESTALE": (
        "its network share was unmounted, or the file was replaced, since it was opened",
        ("Mount the share again, and open the file again", "Mount the share again"),
    ),
    "ENOSPC": ("no space left on the disk", ("Free some space", "Free some space or choose another disk")),
    "EDQUOT": ("the disk quota is used up", ("Free some space", "Free some space or choose another disk")),
    "EBUSY": ("another program, or the system, is using it", ("Close what uses it",) * 2),
    "ETXTBSY": ("another program is running it", ("Close what uses it",) * 2),
    "ENODEV": ("there is no such device, or it can't be mapped", _PATH),
    "ENXIO": ("there is no such device", _PATH),
    "ETIMEDOUT": ("its network share does not answer", _SHARE),
    "EHOSTDOWN": ("its network share does not answer", _SHARE),
    "EHOSTUNREACH": ("its network share does not answer", _SHARE),
    "ENOTCONN": ("its network share is not connected", _SHARE),
    "ECONNRESET": ("its network share closed the connection", _SHARE),
    "EREMOTEIO": ("its network share reports an input/output error", _SHARE),
    "ENOLCK": ("its file system gives no more locks", ("Try again",) * 2),
    "EXDEV": ("it is on another disk", _PATH),
}
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
)
_WORDS = {number: words for name, words in _TABLE.items() if (number := getattr(errno, name, None)) is not None}


def reading_words(error: OSError) -> tuple[str, str] | None:
    """What happened and what to do about a file that can't be read; None if the system did not refuse it."""
    return _words(error, 0)


def kind_words(mode: int) -> str:
    """What stands at a path, by its mode (`os.stat`)."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def write_error(named: Path, error: OSError, temporary: Path | None = None) -> WriteError:
    """What the system said of writing something, in words.

    named      as the user wrote it
    temporary  what was being written in its place; None: nothing was begun
    """
    if _SHORT_WRITE in str(error) and error.errno is None:
        error = OSError(errno.EFBIG if temporary is not None and _at_the_limit(temporary) else errno.ENOSPC, "")
    if error.errno == errno.ENOSPC:
        return WriteError(
            f"No space left to write {named}; what was there before is untouched. "
            "Free some space or choose another disk."
        )
    words = _words(error, 1)  # None for a number without words
    if words is None:
        reason = error.strerror or str(error)
        return WriteError(f"Can't write {named}: {reason}. Check the path and its permissions.")
    untouched = "; what was there before is untouched" if os.path.lexists(named) else ""
    return WriteError(f"Can't write {named}: {words[0]}{untouched}. {words[1]}.")


def _words(error: OSError, purpose: int) -> tuple[str, str] | None:
    found = _WORDS.get(error.errno or 0)
    return None if found is None else (found[0], found[1][purpose])


def _at_the_limit(temporary: Path) -> bool:
    """Whether something written there is as large as this process may write (ulimit -f)."""
    if sys.platform == "win32":
        return False
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    written = [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]
    return limit != resource.RLIM_INFINITY and any(path.stat().st_size >= limit for path in written)

"""What the standard library lacks of names: two exchanged, one that must be free, and a second one for a whole folder.

Linux has renameat2(2), macOS renamex_np(2); not every file system offers what they do, and then the caller hears so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h: names are relative to the working folder
_LINUX = {"new": 1, "exchange": 2}  # linux/fs.h: RENAME_NOREPLACE, RENAME_EXCHANGE
_MACOS = {"new": 4, "exchange": 2}  # sys/stdio.h: RENAME_EXCL, RENAME_SWAP
_LACKING = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def exchange(one: Path, other: Path) -> bool:
    """Exchange what stands at two names at once; False if the system or the file system can't."""
    return _rename(one, other, "exchange")


def rename_to_free(source: Path, target: Path) -> None:
    """Rename a file or folder to a name at which nothing stands. Raises FileExistsError if something does."""
    if _rename(source, target, "new"):
        return
    if source.is_dir():
        _rename_folder(source, target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # no links here either: what is left is to look first
        _require_free(target)
        os.rename(source, target)
        return
    os.unlink(source)


def link(source: Path, target: Path) -> None:
    """A second name for a file, or for every file of a folder; a copy where there are no links."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=lambda one, other: link(Path(one), Path(other)))
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def _rename_folder(source: Path, target: Path) -> None:
    _require_free(target)
    try:
        os.rename(source, target)  # between the two only an empty folder could be replaced
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def _rename(source: Path, target: Path, how: str) -> bool:
    """Rename by the system's own call; False if there is none or the file system does not know it."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            call, before, between, flag = library.renameat2, (_AT_FDCWD,), (_AT_FDCWD,), _LINUX[how]
        elif sys.platform == "darwin":
            call, before, between, flag = library.renamex_np, (), (), _MACOS[how]
        else:
            return False
    except (OSError, AttributeError, TypeError):  # a C library without it; Windows has no library None
        return False
    arguments = (*before, os.fsencode(source), *between, os.fsencode(target))
    if call(*arguments, ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))

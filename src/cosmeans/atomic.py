"""Files and folders that appear whole or not at all: written beside their place, flushed, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmeans.errors import CosmeansError, OutputExistsError, WriteError

_SHORT_WRITE = "requested and"  # how NumPy tells that a disk took less than it was given; it keeps no errno


@contextmanager
def new_file(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well and is removed when it doesn't.

    Raises OutputExistsError if `path` exists and force is False; WriteError if the disk refuses, in which
    case what stood at `path` is still there.
    """
    target = Path(path)
    refuse_existing(target, force)
    temporary = _beside(target)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, target)
            flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` when the block ends well and is removed when it doesn't.

    An older folder at `path` (force) is set aside before the rename and removed after it, so that at every
    moment one of the two is whole. Raises as `new_file` does.
    """
    target = Path(path)
    refuse_existing(target, force)
    temporary = _beside(target)
    with _told(target):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for entry in temporary.iterdir():
                flush(entry)
            flush(temporary)
            _exchange(temporary, target)
            flush(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise OutputExistsError if something is at `path` and may not be replaced."""
    if not force and os.path.lexists(path):
        raise OutputExistsError(f"{path} exists already. Choose another name, or pass force (--force).")


def flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    if sys.platform == "win32" and path.is_dir():  # Windows opens no folders, and writes their entries by itself
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, ending: str = "tmp") -> Path:
    # same folder, so that the rename stays on one disk; random, so that two runs never share it
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{ending}")


def _exchange(new: Path, target: Path) -> None:
    if not target.exists():
        os.rename(new, target)
        return
    aside = _beside(target, "old")
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except CosmeansError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _SHORT_WRITE in str(error):
            raise WriteError(
                f"No space left to write {target}; what was there before is untouched. "
                "Free some space or choose another disk."
            ) from error
        reason = error.strerror or str(error)
        raise WriteError(f"Can't write {target}: {reason}. Check the path and its permissions.") from error

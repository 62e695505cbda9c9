"""Locks on files and folders, which the system takes back when their process ends, however it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileLock:
    """The lock on a file or folder, if it can be had now; nothing is waited for. Close it to give it back.

    held   it is ours
    taken  another has it: another process, or this one by another FileLock

    Both are False where there are no locks: on Windows, and on some network file systems.
    Raises OSError if nothing is at the path, or it may not be opened.
    """

    def __init__(self, path: Path) -> None:
        self.held = self.taken = False
        self._descriptor: int | None = None
        if sys.platform == "win32":
            return
        # a network file system gives a lock only on what is opened for writing, which no folder can be
        access = os.O_RDONLY if path.is_dir() else os.O_RDWR
        self._descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with suppress(OSError):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.taken = True
                return
            # what was renamed or removed since it was opened is not what was meant
            self.held = os.path.samestat(os.fstat(self._descriptor), os.lstat(path))

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

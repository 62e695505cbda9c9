"""A system that refuses: a disk that is full, names that can't be exchanged, memory that is gone.

Nothing of the package is touched. Each takes a `pytest.MonkeyPatch`, with which it ends.
"""

import ctypes
import os
from types import SimpleNamespace

import psutil

FULL = OSError(28, "No space left on device")


def refuse_flush(patch, part="", after=0, error=FULL):
    """Raise the error where a file or folder is flushed whose path, while it is written, has this part.

    after  how many of these are flushed before

    Returns the list of their paths, which grows.
    """
    opened, flushed = {}, []
    before, flush = os.open, os.fsync

    def opening(path, *arguments, **options):
        descriptor = before(path, *arguments, **options)
        opened[descriptor] = os.fspath(path)
        return descriptor

    def flushing(descriptor):
        path = opened.get(descriptor, "")
        if part in path:
            flushed.append(path)
            if len(flushed) > after:
                raise error
        flush(descriptor)

    patch.setattr(os, "open", opening)
    patch.setattr(os, "fsync", flushing)
    return flushed


def without_exchange(patch):
    """As on a system, or a file system, that can't exchange two names at once nor rename to a free one."""

    def without_a_library(*_, **__):
        raise OSError("no such library")

    patch.setattr(ctypes, "CDLL", without_a_library)


def leave_memory(patch, free):
    """As on a machine with so many bytes of memory free."""
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=max(free, 1 << 30)))

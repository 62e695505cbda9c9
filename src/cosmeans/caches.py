"""Folders for what only saves time: used where there is one, done without where there is none.

Compiled code is read back from them and run. So a folder under the temporary one, where everyone may write, is used
only if it is this user's alone.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_TRIAL = bytes(1 << 16)  # a full disk may still have room for an empty file


def writable(folder: Path) -> bool:
    """Whether files can be written there. Makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_TRIAL)
    except OSError:
        return False
    return True


def temporary_folder() -> Path | None:
    """A folder of this user's alone under the system's temporary one, made if needed. None if there can't be one."""
    user = os.geteuid() if hasattr(os, "geteuid") else "user"  # Windows has a temporary folder for each user
    try:
        folder = Path(tempfile.gettempdir(), f"cosmeans-{user}")
        if folder.parent == Path.cwd() and not _named(folder.parent):
            return None  # Python's last resort: what is kept there would be in the user's way
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if hasattr(os, "geteuid"):
        private = found.st_uid == user and not found.st_mode & 0o077
        return folder if private and stat.S_ISDIR(found.st_mode) else None
    return folder


def _named(folder: Path) -> bool:
    """Whether the user said that this is the temporary folder."""
    return any(Path(os.environ[name]) == folder for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name))

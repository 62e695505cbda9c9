"""Files and folders that appear whole or not at all: written next to their place, flushed, then renamed.

What is being written to NAME is called `.NAME.xxxxxxxx.tmp`, and its writer holds a lock on it. The first half of the
eight digits stands for the machine, since some network file systems keep locks to one. So a `.tmp` of this machine
without a lock was left behind by a writer that is gone: the next writer of NAME removes it, and no other. Where a file
system has no locks, it stays.

Where two folders can't be exchanged at once, the older one is called `.NAME.xxxxxxxx.old` for a moment. If the process
ends in that moment, the next one that asks for NAME puts it back; it is never removed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cosmeans.errors import CosmeansError, OutputExistsError, WriteError
from cosmeans.locks import FileLock
from cosmeans.paths import as_path
from cosmeans.renaming import exchange, link, rename_to_free
from cosmeans.system_errors import kind_words, write_error

_TRIES = 100  # names: the other half of the digits has 65,536
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp")
_PATIENCE = 1.0  # seconds for another process to look through a folder


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something is to appear. named: as the user wrote it; path: the same, absolute."""

    named: Path
    path: Path
    force: bool
    folder: bool
    owned: Collection[str] | None = None
    keep_others: bool = False


@contextmanager
def new_file(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well and is removed when it doesn't.

    Raises OutputExistsError as `refuse_existing` does, also if another writer was quicker, and WriteError if the disk
    refuses; then what stood at `path` is still there.
    """
    with _written(_Place(as_path(path), _absolute(path), force, folder=False)) as temporary:
        yield temporary


@contextmanager
def new_folder(
    path: str | os.PathLike[str], force: bool = False, owned: Collection[str] | None = None, keep_others: bool = False
) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` when the block ends well and is removed when it doesn't.

    owned        names of what is written there (default: any): the rest of an older folder at `path` is not ours
    keep_others  carry that over to the new folder, at its end; else a folder with other things is not replaced

    Should such things come at the last moment, the older folder is kept as `.NAME.xxxxxxxx.old`. An older folder
    (force) and the new one are exchanged at once where the system can; elsewhere the older one is set aside before the
    rename and removed after it. Raises as `new_file` does.
    """
    with _written(
        _Place(as_path(path), _absolute(path), force, folder=True, owned=owned, keep_others=keep_others)
    ) as temporary:
        yield temporary


def refuse_existing(
    path: str | os.PathLike[str],
    force: bool,
    folder: bool | None = None,
    owned: Collection[str] | None = None,
) -> None:
    """Raise what `new_file` (folder False) or `new_folder` (True) raises before its block begins; None: what both do.

    That is OutputExistsError if something is at `path` that may not be replaced: anything without force; with it
    anything but a regular file, or a folder of `owned` names. WriteError if nothing can be written there.
    """
    target = as_path(path)
    put_back(target)
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise write_error(target, error) from error
    if mode is not None and not force:
        raise OutputExistsError(f"{target} already exists. Choose another name, or pass force=True.")
    if mode is not None:
        _refuse_other_kinds(target, mode, folder, owned)
    _require_writable(target)


def put_back(path: str | os.PathLike[str]) -> None:
    """If nothing is at `path`, and a process ended while it replaced what was there: put that back."""
    target = _absolute(path)
    if os.path.lexists(target):
        return
    with suppress(OSError):
        for aside in sorted(_siblings(target, "old"), key=lambda found: found.lstat().st_ctime_ns, reverse=True):
            with FileLock(aside) as lock:
                if not lock.taken:  # else its writer is about to put the new one there
                    rename_to_free(aside, target)
            return


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Whether a file has the name of one that is being written."""
    return _TEMPORARY.fullmatch(os.path.basename(path)) is not None


def flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    if sys.platform == "win32" and path.is_dir():  # Windows opens no folders, and writes their entries by itself
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written(place: _Place) -> Iterator[Path]:
    refuse_existing(place.named, place.force, place.folder, None if place.keep_others else place.owned)
    with _parents(place):
        try:
            temporary, lock = _claim(place)
        except CosmeansError:
            raise
        except OSError as error:
            raise write_error(place.named, error) from error
        with lock:
            try:
                yield temporary
                _complete(temporary, place)
            except CosmeansError:
                raise
            except OSError as error:
                raise write_error(place.named, error, temporary) from error
            finally:
                _remove(temporary)


@contextmanager
def _parents(place: _Place) -> Iterator[None]:
    """The folders above a place. Those that were made for it go again if nothing comes to stand in them."""
    folder = place.path.parent
    missing = [above for above in (folder, *folder.parents) if not os.path.lexists(above)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(place.named, error) from error
        yield
    except BaseException:
        for made in missing:
            with suppress(OSError):
                made.rmdir()
        raise


def _complete(temporary: Path, place: _Place) -> None:
    """What was written reaches the disk, and its place."""
    for entry in temporary.iterdir() if place.folder else ():
        flush(entry)
    others = _others(place.path, place.owned) if place.keep_others else []
    for name in others:
        link(place.path / name, temporary / name)
    flush(temporary)
    _appear(temporary, place, others)
    flush(place.path.parent)


def _claim(place: _Place) -> tuple[Path, FileLock]:
    """Something new to write to next to the place, and its lock, after what others left there was removed.

    Raises OutputExistsError if another is writing there, unless it may be replaced.
    """
    with _alone_in(place.path.parent):
        for other in _siblings(place.path, "tmp"):
            with suppress(FileNotFoundError, PermissionError), FileLock(other) as lock:
                if lock.taken and not place.force:
                    raise OutputExistsError(
                        f"{place.named} is being written by another process ({other.name}). Choose another name, or "
                        "wait until it ends."
                    )
                if lock.held and _of_this_machine(other, place) and not _others(other, place.owned):
                    _remove(other)
        for _ in range(_TRIES):
            temporary = _beside(place.path, "tmp")
            with suppress(FileExistsError, FileNotFoundError):  # taken, or cleared away before its lock was ours
                if place.folder:
                    temporary.mkdir()
                else:
                    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                lock = FileLock(temporary)
                if not lock.taken:
                    return temporary, lock
                lock.close()
    raise WriteError(f"Can't write {place.named}: no name is free next to it. Remove .{place.named.name}.*.tmp there.")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time looks through a folder and takes a name there, as far as there are locks."""
    if _TEMPORARY.fullmatch(folder.name):  # being written, so it is its writer's alone, and so is its lock
        yield
        return
    end = time.monotonic() + _PATIENCE
    lock = FileLock(folder)
    while lock.taken and time.monotonic() < end:
        lock.close()
        time.sleep(0.005)
        lock = FileLock(folder)
    try:
        yield
    finally:
        lock.close()


def _appear(temporary: Path, place: _Place, kept: list[str]) -> None:
    """Rename to the place. An older folder there gets the temporary's name, to be removed, unless others use it."""
    if place.force and os.path.lexists(place.path):
        _refuse_other_kinds(place.named, os.lstat(place.path).st_mode, place.folder)
        _replace_folder(temporary, place.path) if place.folder else os.replace(temporary, place.path)
    else:
        try:
            rename_to_free(temporary, place.path)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{place.named} already exists: another process has just written it. Choose another name, "
                "or pass force=True."
            ) from error
    if place.folder and set(_others(temporary, place.owned)) - set(kept):
        os.rename(temporary, _beside(place.path, "old"))


def _replace_folder(temporary: Path, target: Path) -> None:
    if exchange(temporary, target):
        return
    aside = _beside(target, "old")
    with FileLock(target):  # who finds it aside must see that its writer lives
        os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, temporary)  # what is called .old is whole, so it is removed under another name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _beside(target: Path, ending: str) -> Path:
    # same folder, so that the rename stays on one disk; random, so that two runs never share it
    return target.with_name(f".{target.name}.{_machine()}{secrets.token_hex(2)}.{ending}")


def _siblings(target: Path, ending: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.{ending}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        return sorted(target.parent / entry.name for entry in entries if pattern.fullmatch(entry.name))
    return []


def _of_this_machine(temporary: Path, place: _Place) -> bool:
    return temporary.name.startswith(f".{place.path.name}.{_machine()}")


def _others(folder: Path, owned: Collection[str] | None) -> list[str]:
    """What a folder holds besides what may be there, and what writers of that left behind."""
    if owned is None or not folder.is_dir():
        return []
    names = {entry.name for entry in folder.iterdir()} - set(owned)
    return sorted(name for name in names if not _TEMPORARY.fullmatch(name))


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(as_path(path)))  # "." has no name, and the working folder may change


def _refuse_other_kinds(target: Path, mode: int, folder: bool | None, owned: Collection[str] | None = None) -> None:
    """Raise for what force does not replace."""
    is_folder = stat.S_ISDIR(mode)
    if not (is_folder or stat.S_ISREG(mode)) or folder not in (None, is_folder):
        replaced = {None: "files and folders", False: "regular files", True: "folders"}[folder]
        advice = "name what it points to" if stat.S_ISLNK(mode) else "choose another name"
        raise OutputExistsError(f"{target} is {kind_words(mode)}, and force=True replaces {replaced} only: {advice}.")
    if not folder:
        return
    if os.path.ismount(target):
        raise OutputExistsError(f"{target} is a mount point, which can't be replaced. Choose a folder inside it.")
    if others := _others(target, owned):
        raise OutputExistsError(
            f"{target} also holds files that are not outputs ({', '.join(others[:3])}), so it is not replaced. "
            "Choose another folder, or move these files elsewhere."
        )


def _require_writable(target: Path) -> None:
    """Raise WriteError unless a name can be made next to the target, as far as that can be known before."""
    folder = _absolute(target).parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise WriteError(f"Can't write {target}: {folder} is not a folder. Choose another name.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"Can't write {target}: permission denied in {folder}. Choose another folder.")


def _machine() -> str:
    """Four digits of this machine: what another one may be writing is never removed."""
    return hashlib.blake2b(platform.node().encode(), digest_size=2).hexdigest()

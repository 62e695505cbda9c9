"""The copy of rows that one command makes: where it is, whether it pays, and that it goes when the command ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmeans import environment
from cosmeans.console import say
from cosmeans.estimator import KMeans
from cosmeans.options import FitOptions
from cosmeans.reading import size_words
from cosmeans.rows.copied import copy_files, remove_copy
from cosmeans.rows.files import FileRows
from cosmeans.rows.held import exceeds

_FREE_SHARE = 10  # of a disk, one part stays free where nobody named the folder


@contextmanager
def copied_rows(kmeans: KMeans, rows: FileRows, out: Path, *, keep: bool, quiet: bool) -> Iterator[None]:
    """Give the model a folder for the copy, within the block: the one it has, or OUT.cache where a copy pays.

    The copy is removed at the end, unless it is to be kept or was there before.
    """
    named, beside = kmeans.cache or environment.cache(), Path(f"{out}.cache")
    folder = beside if named is None else Path(named)
    if named == environment.OFF or (named is None and not _pays(kmeans, rows, beside)):
        kmeans.set_params(cache=None)
        yield
        return
    if named is None and not quiet:
        say(
            f"cosmeans: memory does not hold the {size_words(rows.n_bytes)} of decoded rows: they are copied to "
            f"{folder} while they are read first" + ("" if keep else ", and the copy is removed at the end")
        )
    kmeans.set_params(cache=folder)
    keep = keep or any(path.exists() for path in copy_files(rows, folder))
    try:
        yield
    finally:
        kmeans.set_params(cache=None)
        if not keep:
            remove_copy(rows, folder)


def _pays(kmeans: KMeans, rows: FileRows, folder: Path) -> bool:
    """Whether rows must be decoded again and again, and the disk has room for them."""
    limit = FitOptions.plain({"memory_limit": kmeans.memory_limit})["memory_limit"]
    if not exceeds(rows, limit):
        return False
    there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    disk = shutil.disk_usage(there)
    return disk.free - rows.n_bytes >= disk.total // _FREE_SHARE

"""Tables of labels cut by cluster: a folder for each, named as Hive names partitions, so that one can be read alone."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from cosmeans.atomic import new_file
from cosmeans.label_files.columns import CLUSTER
from cosmeans.label_files.writers import Chunk, Layout, table_of

ROWS = 1 << 20  # that are sorted by cluster at once; more rows of one file get more files in each folder
_FOLDER = re.compile(rf"{CLUSTER}=-?\d+")
_LATER = re.compile(r"\.from-\d+(?=\.\w+$)")


def path_in(table: str, cluster: int, start: int) -> str:
    """Where the rows of one cluster are, from row `start` of a file on."""
    stem, _, suffix = table.rpartition(".")
    later = f".from-{start}" if start else ""
    return f"{CLUSTER}={cluster}/{stem}{later}.{suffix}"


def table_of_file(name: str) -> str:
    """The table that a file in the folder of a cluster is part of."""
    return _LATER.sub("", name.partition("/")[2])


def files_of(folder: Path, tables: set[str]) -> set[str]:
    """The files of these tables in the folders of clusters, as paths in the folder."""
    found: set[str] = set()
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if _FOLDER.fullmatch(entry.name) and entry.is_dir():
                names = (path.relative_to(folder).as_posix() for path in Path(entry.path).rglob("*"))
                found.update(name for name in names if table_of_file(name) in tables)
    return found


def write_clusters(folder: Path, table: str, chunk: Chunk, layout: Layout) -> int:
    """Write the rows of a chunk into one file for each cluster, in their order. Returns the number of files."""
    from pyarrow import parquet

    order = np.argsort(chunk.labels, kind="stable")
    clusters, starts = np.unique(chunk.labels[order], return_index=True)
    rows = table_of(chunk, layout, cluster=False)
    for cluster, members in zip(clusters.tolist(), np.split(order, starts[1:]), strict=True):
        path = folder / path_in(table, cluster, chunk.start)
        with new_file(path, force=True) as temporary, temporary.open("wb") as file:
            parquet.write_table(rows.take(members), file)
    return len(clusters)

"""What the tables of a folder of labels are called: after the files of rows, below the folder that these share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from cosmeans.errors import InputError
from cosmeans.label_files import manifest
from cosmeans.label_files.writers import CSV, JSON_LINES, PARQUET
from cosmeans.rows.place import Place

_KINDS = {".csv": CSV, ".tsv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES}
LABELS, SIMILARITY = "_labels.npy", "_similarity.npy"  # of all rows; hidden from what reads a folder of tables
_RESERVED = (manifest.NAME, LABELS, SIMILARITY)


def kind_for(name: str, wanted: str | None) -> str:
    """The kind of table for a file: the one wanted, else the file's own, or Parquet where labels can't be in it."""
    return wanted or _KINDS.get(Place(Path(name)).suffix, PARQUET)


def below_common_folder(names: Sequence[str]) -> list[str]:
    """The path of each file below the folder that all share, with / between its parts. Raises InputError for copies."""
    split = [_parts(name) for name in names]
    if len({tuple(parts) for parts in split}) < len(split):
        twice = next(name for place, name in enumerate(names) if split[place] in split[:place])
        raise InputError(f"{twice} is given twice, and a file of rows has one table of labels. Name it once.")
    folders = zip(*(parts[:-1] for parts in split), strict=False)  # as deep as the least deep of them
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, folders))
    return ["/".join(parts[shared:]) for parts in split]


def table_names(files: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The path of the table of each of these files. Raises InputError where two would be one."""
    found: dict[str, str] = {}
    for file, kind in zip(files, kinds, strict=True):
        path = PurePosixPath(file)
        stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        name = str(path.with_name(f"{stem}.{kind}"))
        if name in found or name in _RESERVED:
            other = found.get(name, "what the folder keeps for itself")
            raise InputError(
                f"The labels of {file} would be stored in {name}, as would {other}. Give the files other names, or "
                "label them one by one."
            )
        found[name] = file
    return list(found)


def _parts(name: str) -> list[str]:
    return name.split("/") if "://" in name else list(Path(os.path.abspath(name)).parts)

"""A folder of labels: one table for each file of rows, kept when the same work is done again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cosmeans.atomic import is_temporary, new_file, refuse_existing
from cosmeans.errors import FileError, OptionError, OutputExistsError
from cosmeans.label_files import manifest, naming, partitions
from cosmeans.label_files.columns import CLUSTER, Carried
from cosmeans.label_files.manifest import Input, Manifest, read_manifest, require_same
from cosmeans.label_files.writers import (
    NPY,
    PARQUET,
    Pieces,
    in_chunks,
    layout_of,
    require_tables,
    write_table,
)
from cosmeans.rows.files import FilePart, FileRows
from cosmeans.rows.formats import open_table
from cosmeans.rows.place import Place
from cosmeans.rows.table import validated

KINDS = (PARQUET, NPY)  # that can be asked for
_FEW = 100  # files, after each of which the manifest is written
_PAUSE = 20  # times as long as a manifest takes to write are between two of more files


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is wanted of a folder of labels.

    kind       "parquet", "npy", or None: by the kind of each file of rows
    carried    columns of these that go along
    partition  a folder `cluster=K` for each cluster, so that one can be read alone
    """

    kind: str | None = None
    carried: Carried = Carried()
    partition: bool = False

    def check(self) -> None:
        """Raise OptionError for what can't be had together."""
        if self.kind is not None and self.kind not in KINDS:
            raise OptionError(f"Labels are written as {' or '.join(KINDS)}; got {self.kind!r}.")
        if self.kind == NPY and self.partition:
            raise OptionError("Partitions by cluster are tables, and .npy holds labels alone. Leave out one of them.")
        if self.kind == NPY and self.carried.names:
            raise OptionError("Labels as .npy are labels alone; columns are carried to tables. Leave out one of them.")
        if self.kind != NPY:
            require_tables()
        self.carried.refuse_clash()


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder of labels holds now: rows, rows without a cluster, files, and how many of these were there."""

    rows: int
    left_out: int
    files: int
    kept: int


class LabelFolder:
    """The tables of these rows in a folder, some of which may be there from an earlier run.

    What can be refused is refused when it is made: raises OptionError, InputError, FileError, OutputExistsError.
    """

    def __init__(self, folder: Path, rows: FileRows, wanted: TableOptions) -> None:
        wanted.check()
        self._folder, self._wanted = folder, wanted
        self.parts = rows.parts()
        files = naming.below_common_folder([part.name for part in self.parts])
        self._kinds = [naming.kind_for(part.name, PARQUET if wanted.partition else wanted.kind) for part in self.parts]
        tables = naming.table_names(files, self._kinds)
        self._layouts = [
            layout_of(kind, part.rows, wanted.carried.part(part.start, part.stop))
            for kind, part in zip(self._kinds, self.parts, strict=True)
        ]
        inputs = [
            Input(file, *part.place.fingerprint(), part.stop - part.start, table)
            for file, part, table in zip(files, self.parts, tables, strict=True)
        ]
        self._manifest = Manifest("", _options(rows, wanted), inputs)
        if os.path.lexists(folder) and not folder.is_dir():
            raise OutputExistsError(f"{folder} is not a folder, and tables of labels go there. Choose another name.")
        refuse_existing(folder / manifest.NAME, force=True, folder=False)

    def agree(self, model: str, *, force: bool = False) -> None:
        """Find out what is to be done, given what is in the folder. Raises OutputExistsError, FileError.

        model  the digest of its centroids
        force  replace the tables of another model, of other rows or options
        """
        self._manifest = self._agreed(replace(self._manifest, model=model), force)

    def require_new(self) -> None:
        """Raise OutputExistsError if the folder holds labels already."""
        if os.path.lexists(self._folder / manifest.NAME):
            raise OutputExistsError(f"{self._folder} holds labels already. Choose another folder, or remove this one.")
        self._agreed(self._manifest, force=False)

    def write(
        self,
        label: Callable[[list[FilePart]], Iterator[Pieces]],
        into: np.ndarray | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Written:
        """Write every table that is not finished.

        label     gives for each of these files, in order, the labels and similarity of its rows, piece by piece
        into      (N,) int64: gets the labels of all rows
        progress  called with (rows labelled, N)
        """
        kept = [entry.done for entry in self._manifest.inputs]
        labelled = label([part for part, there in zip(self.parts, kept, strict=True) if not there])
        self._save()
        try:
            for place, part in enumerate(self.parts):
                target = None if into is None else into[part.start : part.stop]
                if not kept[place]:
                    self._one(place, part, _noted(next(labelled), target, part, progress, self.parts[-1].stop))
                elif target is not None:
                    self._read_labels(place, target)
            self._remove_older()
        finally:
            self._save()
        counts = [entry.left_out or 0 for entry in self._manifest.inputs]
        return Written(self.parts[-1].stop, sum(counts), len(self.parts), sum(kept))

    def _agreed(self, now: Manifest, force: bool) -> Manifest:
        """What is to be done, given what is there."""
        there = read_manifest(self._folder)
        existing = self._existing({entry.table for entry in now.inputs})
        if there is None:
            if existing:
                raise OutputExistsError(
                    f"{self._folder / min(existing)} already exists, and no {manifest.NAME} says what it belongs to. "
                    "Choose another folder, or move the file elsewhere."
                )
            return now
        if not force:
            require_same(self._folder, there, now)
        owned = _owned(self._folder, there)
        if foreign := existing - owned:
            raise OutputExistsError(
                f"{self._folder / min(foreign)} already exists and is not listed in {manifest.NAME}. Choose another "
                "folder, or move the file elsewhere."
            )
        if force:
            return replace(now, older=sorted(owned))
        files = Counter(partitions.table_of_file(name) if self._wanted.partition else name for name in existing)
        inputs = [  # what is finished, unless somebody has removed it since
            old if old.done and files[old.table] == old.tables else new
            for old, new in zip(there.inputs, now.inputs, strict=True)
        ]
        return replace(there, inputs=inputs)

    def _existing(self, tables: set[str]) -> set[str]:
        """Of these tables, the files that are there, as paths in the folder."""
        if not self._wanted.partition:
            return {table for table in tables if os.path.lexists(self._folder / table)}
        return partitions.files_of(self._folder, tables)

    def _one(self, place: int, part: FilePart, pieces: Pieces) -> None:
        """Write the table of one file, and note that it is finished."""
        entry, layout, kind = self._manifest.inputs[place], self._layouts[place], self._kinds[place]
        counted, tables = _Counted(pieces), 1
        if self._wanted.partition:
            chunks = in_chunks(kind, part.rows, layout, counted, partitions.ROWS)
            tables = sum(partitions.write_clusters(self._folder, entry.table, chunk, layout) for chunk in chunks)
        else:
            with new_file(self._folder / entry.table, force=True) as temporary, temporary.open("wb") as file:
                write_table(kind, file, entry.rows, layout, in_chunks(kind, part.rows, layout, counted))
        now = part.place.fingerprint()
        if (entry.bytes, entry.mtime_ns, entry.version) != (now.bytes, now.mtime_ns, now.version):
            raise FileError(f"{part.name} was changed while its rows were labelled. Run the command again.")
        self._manifest = self._manifest.finished(place, counted.left_out, tables)
        if len(self.parts) <= _FEW or time.monotonic() >= self._next_save:
            self._save()

    def _save(self) -> None:
        """Write the manifest. Of many files it is long: it takes a small part of the time only."""
        started = time.monotonic()
        self._manifest.write(self._folder)
        self._next_save = time.monotonic() + _PAUSE * (time.monotonic() - started)

    def _read_labels(self, place: int, into: np.ndarray) -> None:
        """Labels of a finished table."""
        path, done = self._folder / self._manifest.inputs[place].table, 0
        if self._kinds[place] == NPY:
            into[:] = np.load(path)
            return
        table = open_table(Place(path))
        for batch in validated(table, 0, [CLUSTER]):
            into[done : done + len(batch)] = batch.column(0).to_numpy(zero_copy_only=False)
            done += len(batch)

    def _remove_older(self) -> None:
        """Remove what an earlier run left and this one did not replace."""
        if not self._manifest.older:
            return
        tables = {entry.table for entry in self._manifest.inputs}
        for name in set(self._manifest.older) - self._existing(tables):
            with suppress(FileNotFoundError):
                (self._folder / name).unlink()
            with suppress(OSError):  # something else is there
                for parent in Path(name).parents[:-1]:
                    (self._folder / parent).rmdir()
        self._manifest = replace(self._manifest, older=[])


def refuse_foreign(folder: Path) -> None:
    """Raise OutputExistsError if a folder holds anything but labels, and so is not replaced."""
    there = read_manifest(folder)
    owned = {manifest.NAME, naming.LABELS, naming.SIMILARITY} | (set() if there is None else _owned(folder, there))
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    if others := [name for name in found if name not in owned and not is_temporary(name)]:
        raise OutputExistsError(
            f"{folder} also holds files that are not outputs ({', '.join(others[:3])}), so it is not replaced. "
            "Choose another folder, or move these files elsewhere."
        )


def _owned(folder: Path, there: Manifest) -> set[str]:
    """The files in a folder that its manifest is about."""
    tables = {entry.table for entry in there.inputs}
    if there.options["partition_by_cluster"]:
        found = partitions.files_of(folder, tables)
    else:
        found = {table for table in tables if os.path.lexists(folder / table)}
    return found | {name for name in there.older if os.path.lexists(folder / name)}


class _Counted:
    """Pieces, and how many of their rows were left out."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces, self.left_out = pieces, 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for labels, similarity in self._pieces:
            self.left_out += int((labels < 0).sum())
            yield labels, similarity


def _noted(
    pieces: Pieces, into: np.ndarray | None, part: FilePart, progress: Callable[[int, int], None], n_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    done = 0
    for labels, similarity in pieces:
        if into is not None:
            into[done : done + len(labels)] = labels
        done += len(labels)
        progress(part.start + done, n_rows)
        yield labels, similarity


def _digest(texts: Sequence[str] | None) -> str | None:
    """What tells these texts from others."""
    if texts is None:
        return None
    found = sha256()
    for text in texts:
        cell = text.encode("utf-8", "surrogatepass")
        found.update(len(cell).to_bytes(8, "little") + cell)
    return found.hexdigest()


def _options(rows: FileRows, wanted: TableOptions) -> dict[str, Any]:
    """What shapes tables, as plain values."""
    read = rows.wanted
    return {
        "labels": wanted.kind,
        "partition_by_cluster": wanted.partition,
        "id_column": wanted.carried.id_column,
        "columns": list(wanted.carried.others),
        "texts": _digest(wanted.carried.texts),
        "embedding": read.embedding,
        "key": read.key,
        "dtype": read.dtype,
        "shape": None if read.shape is None else list(read.shape),
    }

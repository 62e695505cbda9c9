"""`_manifest.json` of a folder of labels: what its tables were made of, and which of them are finished."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cosmeans.atomic import new_file
from cosmeans.errors import FileError, OutputExistsError
from cosmeans.reading import read_bytes, reading
from cosmeans.records import Check, each, integer, optional, parse, record, text
from cosmeans.version import __version__

NAME = "_manifest.json"
_FORMAT, _FORMAT_VERSION = "cosmeans labels", 1
_LARGEST = 1 << 30  # bytes of a manifest: millions of files
_ADVICE = "Choose another folder, or remove this one."
_OTHERWISE = "Choose another folder; on the command line --force replaces its tables."


@dataclass(frozen=True, slots=True)
class Input:
    """A file of rows and its table.

    file      the path below the inputs' common folder; names in this file use /
    bytes, mtime_ns, sha256, version  of the file, as `reading.Fingerprint`
    rows      in it
    table     the path of its table in the folder; with partitions, in each folder of a cluster
    left_out  rows without a cluster; None: the table is not finished
    tables    files that its table consists of, one for each cluster with partitions
    """

    file: str
    bytes: int | None
    mtime_ns: int | None
    sha256: str | None
    version: str | None
    rows: int
    table: str
    left_out: int | None = None
    tables: int = 1

    @property
    def done(self) -> bool:
        return self.left_out is not None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the tables of a folder were made of.

    model   `digests.centroids_digest`
    options  what shapes the tables, and how the rows were read
    inputs  in the order of their rows
    older   tables of an earlier run that are to be replaced or removed
    """

    model: str
    options: dict[str, Any]
    inputs: list[Input]
    older: list[str] = field(default_factory=list)

    def finished(self, place: int, left_out: int, tables: int) -> Manifest:
        """The same, with one more table finished."""
        inputs = [*self.inputs]
        inputs[place] = replace(inputs[place], left_out=left_out, tables=tables)
        return replace(self, inputs=inputs)

    def write(self, folder: Path) -> None:
        """Replace the manifest of the folder: one input a line."""
        head = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "library": __version__, "model": self.model}
        head |= {"options": self.options, "older": self.older}
        names = [spec.name for spec in fields(Input)]
        lines = (json.dumps({name: getattr(entry, name) for name in names}) for entry in self.inputs)
        with new_file(folder / NAME, force=True) as temporary:
            written = ",\n".join(lines)
            temporary.write_text(f'{json.dumps(head)[:-1]}, "inputs": [\n{written}\n]}}\n', encoding="utf-8")


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value


def _name(value: Any, name: str) -> str:
    """Names of files may hold what no text may: they are bytes on Linux."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    return value


def _anything(value: Any, name: str) -> Any:
    return value


_COUNT = integer(0)
_INPUT: dict[str, Check] = {
    "file": _name, "bytes": optional(_COUNT), "mtime_ns": optional(integer(-(2**63))), "sha256": optional(text),
    "version": optional(text), "rows": _COUNT, "table": _name, "left_out": optional(_COUNT),
    "tables": _COUNT,
}  # fmt: skip
_OPTIONS: dict[str, Check] = {
    "labels": optional(text), "partition_by_cluster": _boolean, "id_column": optional(_name), "columns": each(_name),
    "texts": optional(text),
    "embedding": optional(_name), "key": optional(_name), "dtype": optional(text), "shape": optional(each(_COUNT)),
}  # fmt: skip
_FIELDS: dict[str, Check] = {
    "format": text, "format_version": _anything, "model": text, "options": record(_OPTIONS),
    "inputs": each(record(_INPUT)), "older": each(_name),
}  # fmt: skip


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, checked; None: it has none. Raises FileError for one that is damaged or newer."""
    path = folder / NAME
    if not os.path.lexists(path):
        return None
    with reading(path, advice=_ADVICE):
        values = record(_FIELDS)(parse(read_bytes(path, _LARGEST).decode("utf-8")), "")
    if values["format"] != _FORMAT or values["format_version"] != _FORMAT_VERSION:
        raise FileError(f"{path} is not a manifest of labels that this version can read. {_ADVICE}")
    names = {spec.name for spec in fields(Input)}
    inputs = [Input(**{name: entry[name] for name in names}) for entry in values["inputs"]]
    for name in (*(entry.table for entry in inputs), *values["older"]):
        if os.path.isabs(name) or ".." in name.split("/"):
            raise FileError(f"{path} names {name}, which is not in its folder. {_ADVICE}")
    return Manifest(values["model"], values["options"], inputs, values["older"])


def require_same(folder: Path, there: Manifest, now: Manifest) -> None:
    """Raise OutputExistsError, which says what differs, unless both are about the same tables."""
    if there.model != now.model:
        raise OutputExistsError(
            f"{folder} holds labels of another model (digest {there.model[:12]}, this one's is {now.model[:12]}). "
            f"{_OTHERWISE}"
        )
    for name, value in now.options.items():
        if there.options[name] != value:
            if name == "texts" and value and there.options[name]:
                raise OutputExistsError(f"{folder} was written with other texts. {_OTHERWISE}")
            raise OutputExistsError(
                f"{folder} was written {_said(name, there.options[name])}, this call is {_said(name, value)}. "
                f"{_OTHERWISE}"
            )
    if difference := _difference(there.inputs, now.inputs):
        raise OutputExistsError(f"{folder} belongs to other rows: {difference}. {_OTHERWISE}")


def _difference(there: list[Input], now: list[Input]) -> str | None:
    """What differs between inputs, in words."""
    before, after = ({entry.file: entry for entry in inputs} for inputs in (there, now))
    for name in before.keys() - after.keys():
        return f"{name} is not among the files now"
    for name in after.keys() - before.keys():
        return f"{name} was not among the files"
    finished = ((name, entry) for name, entry in after.items() if before[name].done)
    for name, entry in finished:
        for which, unit in (("bytes", " bytes"), ("rows", " rows"), ("sha256", ""), ("mtime_ns", ""), ("version", "")):
            was, is_now = getattr(before[name], which), getattr(entry, which)
            if was != is_now:
                told = unit and was is not None and is_now is not None
                return f"{name} had {was:,}{unit} and has {is_now:,}" if told else f"{name} was changed since"
    if list(before) != list(after):
        return "the files are in another order"
    return None


def _said(name: str, value: Any) -> str:
    """An option in words."""
    if not value:
        return f"without {name}"
    if name == "texts":  # a digest tells a person nothing
        return "with texts"
    if value is True:
        return f"with {name}=True"
    return f"with {name}={json.dumps(','.join(value) if isinstance(value, list) else value)}"

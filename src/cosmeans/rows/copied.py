"""A copy of rows that are slow to decode: written to a disk while they are read first, mapped from then on."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cosmeans.atomic import new_file
from cosmeans.containers.converted import copy_rows
from cosmeans.errors import CosmeansError, WriteError
from cosmeans.paths import is_url
from cosmeans.reading import fingerprint, read_bytes, size_words
from cosmeans.rows.batches import BatchRows
from cosmeans.rows.files import FileRows
from cosmeans.rows.stored import HalvedRows, Layout, WholeRows
from cosmeans.system_errors import write_error

_FORMAT = {"format": "cosmeans rows", "format_version": 1}
_BLOCK_BYTES = 64 << 20  # that are written, or checked, at once
_LARGEST_MARK = 1 << 16


class CopiedRows:
    """`contracts.RowSource` over files or batches, and over the copy of them as soon as it is complete.

    NAME.rows holds the rows as they are stored, or other files their halves (`rows.stored`); NAME.json, written last,
    says that they are complete, and their sizes and checksums. NAME stands for the contents of the files, so that files
    that changed have another copy, and one that is torn or damaged is made again.

    What is behind a URL can't be told apart by its contents: such a copy belongs to this source alone, and its files
    have no name once it is complete.

    complete  whether rows come from the copy
    """

    def __init__(
        self,
        source: FileRows | BatchRows,
        folder: Path,
        make: bool = True,
        layouts: Sequence[type[Layout]] = (WholeRows,),
        heads_room: int = 0,
    ) -> None:
        """folder: of the copy, made if it is missing. make: False: take a copy that is there, make none.

        layouts: of a copy that may be taken; the first is that of a new one
        heads_room: bytes for heads, which stay in memory once they are read

        A copy that is there is read once, to check it. Raises WriteError if there is no room for a new one.
        """
        self._source = source
        self.n_rows, self.n_features, self.n_bytes = source.n_rows, source.n_features, source.n_bytes
        self.dtype, self.device, self.where, self.names = source.dtype, source.device, source.where, source.names
        self._stem = folder / _name_of(source)
        self._shared = not any(map(is_url, source.names))
        self._done = 0  # rows that are written
        self._writing = ExitStack()
        self._files: list[_Written] = []  # while the copy is written
        self._rows: Layout | None = None
        there = [kind for kind in layouts if self._shared and self._is_whole(kind)]
        self._layout = (there or layouts)[0](self.n_features, self.dtype)
        if isinstance(self._layout, HalvedRows):
            self._layout.n_kept = min(self.n_rows, heads_room // max(1, 2 * self.n_features))
        if there:
            self._map()
        elif make:
            self._require_space(folder)
            self._begin()

    @property
    def complete(self) -> bool:
        return self._rows is not None

    @property
    def halved(self) -> bool:
        """Whether the copy has heads, or will have."""
        return self._layout.narrow and (self.complete or bool(self._files))

    @property
    def n_bytes_held(self) -> int:
        """Bytes of the heads that stay in memory."""
        return self._layout.n_bytes_kept if isinstance(self._layout, HalvedRows) and self.halved else 0

    @property
    def n_bytes_there(self) -> int:
        """Bytes of the heads that are in memory by now."""
        return self._rows.n_bytes_there if isinstance(self._rows, HalvedRows) else 0

    @property
    def n_direct(self) -> int:
        return self.n_rows if self.complete else self._source.n_direct

    @property
    def one_view(self) -> bool:
        whole = not self._layout.narrow and (self.complete or bool(self._files))
        return whole or self._source.one_view

    def read(self, span: slice) -> Tensor:
        if self._rows is not None:
            return self._rows.read(span)
        rows = self._source.read(span)
        if self._files and span.start <= self._done < span.stop:
            self._write(rows[self._done - span.start :])
        return rows

    def view(self) -> Tensor:
        """All rows, mapped from the copy, which is made of them now if there is to be one; of halves, joined."""
        if self._layout.narrow and self._source.one_view:
            return self._source.view()
        step = max(1, _BLOCK_BYTES // max(1, self.n_bytes // max(1, self.n_rows)))
        while self._files:
            self.read(slice(self._done, min(self._done + step, self.n_rows)))
        if not isinstance(self._rows, HalvedRows):
            return self.read(slice(0, self.n_rows))
        rows = torch.empty((self.n_rows, self.n_features), dtype=self.dtype, device="cpu")
        for start in range(0, self.n_rows, step):
            span = slice(start, min(start + step, self.n_rows))
            copy_rows(self.read(span), rows[span])
        return rows

    def gather(self, indices: Tensor) -> Tensor:
        if self._rows is None:
            return self._source.gather(indices)
        return self._rows.gather(indices)

    def heads(self, span: slice) -> tuple[Tensor, Tensor] | None:
        return self._rows.heads(span) if isinstance(self._rows, HalvedRows) else None

    def joined(self, heads: Tensor, indices: Tensor) -> Tensor:
        assert isinstance(self._rows, HalvedRows)  # which the heads came from
        return self._rows.joined(heads, indices)

    def hold_none(self) -> None:
        """None are held here (`rows.held`)."""

    def part(self, indices: Tensor) -> None:
        return None  # a session reads through `rows.held`, which knows what memory there is

    def close(self) -> None:
        """Nothing stays of a copy that is not complete."""
        if self._files:
            with suppress(_UnfinishedError), self._writing:
                self._files = []
                raise _UnfinishedError

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self.close()

    def _begin(self) -> None:
        for path in _paths(self._stem, self._layout):
            temporary = self._writing.enter_context(new_file(path, force=True))
            with _told(path):
                self._files.append(_Written(path, self._writing.enter_context(temporary.open("wb"))))

    def _write(self, rows: Tensor) -> None:
        for written, data in zip(self._files, self._layout.pieces(rows), strict=True):
            written.add(data)
        self._done += len(rows)
        if self._done < self.n_rows:
            return
        self._writing.close()
        if self._shared:
            found = {written.path.suffix: written.facts() for written in self._files}
            with new_file(_mark_path(self._stem, self._layout), force=True) as temporary:
                temporary.write_text(json.dumps(self._mark(found)) + "\n", encoding="utf-8")
        self._files = []
        self._map()
        if not self._shared:
            for path in _paths(self._stem, self._layout):
                with suppress(OSError):  # Windows keeps what is mapped
                    path.unlink()

    def _mark(self, files: Any) -> dict[str, Any]:
        numbers = {"rows": self.n_rows, "features": self.n_features}
        return {**_FORMAT, **numbers, "dtype": str(self.dtype), "files": files}

    def _is_whole(self, kind: type[Layout]) -> bool:
        """Whether a copy is there, complete, and has the checksums that it had when it was written."""
        try:
            mark = json.loads(read_bytes(_mark_path(self._stem, kind), _LARGEST_MARK))
            if not isinstance(mark, dict) or mark != self._mark(mark.get("files")):
                return False
            return bool(mark["files"] == {path.suffix: _facts_of(path) for path in _paths(self._stem, kind)})
        except (CosmeansError, OSError, ValueError, RecursionError):
            return False

    def _map(self) -> None:
        self._layout.map(_paths(self._stem, self._layout), self.n_rows)
        self._rows = self._layout

    def _require_space(self, folder: Path) -> None:
        with _told(self._stem):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        if free < self.n_bytes:
            raise WriteError(
                f"No space left for the copy of the rows: {size_words(self.n_bytes)} are needed in {folder}, and "
                f"{size_words(free)} are free. Choose another cache (--cache DIR), or none (--cache off): the files "
                "are then decoded in every pass."
            )


class _Written:
    """A file of the copy while it is written, with the checksum of what is there."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file, self._size, self._sum = path, file, 0, 0

    def add(self, data: memoryview) -> None:
        with _told(self.path):
            self._file.write(data)
        self._size, self._sum = self._size + data.nbytes, zlib.crc32(data, self._sum)

    def facts(self) -> dict[str, int]:
        return {"bytes": self._size, "crc32": self._sum}


class _UnfinishedError(Exception):
    """What is being written is not to appear."""


def copy_files(
    source: FileRows | BatchRows, folder: Path, layouts: Sequence[type[Layout]] = (WholeRows, HalvedRows)
) -> list[Path]:
    """The files of the copies of these rows in a folder, whether or not they are there; each mark is the last."""
    stem = folder / _name_of(source)
    return [path for kind in layouts for path in (*_paths(stem, kind), _mark_path(stem, kind))]


def _paths(stem: Path, layout: type[Layout] | Layout) -> list[Path]:
    return [stem.with_suffix(suffix) for suffix in layout.suffixes]


def _mark_path(stem: Path, layout: type[Layout] | Layout) -> Path:
    return stem.with_suffix(".halves.json" if layout.narrow else ".json")


def remove_copy(source: FileRows | BatchRows, folder: Path) -> None:
    """Remove the copy of these rows, if there is one, and the folder if nothing else is in it."""
    for path in copy_files(source, folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _name_of(source: FileRows | BatchRows) -> str:
    """What stands for the contents of rows: hashes of files, or of all batches; of URLs none does."""
    if any(map(is_url, source.names)):
        return secrets.token_hex(12)
    found = hashlib.sha256(repr((source.n_rows, source.n_features, source.dtype)).encode())
    if isinstance(source, BatchRows):
        found.update(source.prints)
    else:
        found.update(repr(source.wanted).encode())
        for name in source.names:
            found.update(repr(fingerprint(Path(name))[:3]).encode())  # without a version, which URLs alone have
    return found.hexdigest()[:24]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What a disk refuses, in words."""
    try:
        yield
    except OSError as error:
        raise error if isinstance(error, CosmeansError) else write_error(path, error) from error


def _facts_of(path: Path) -> dict[str, int]:
    """What `_Written.facts` was of this file."""
    size = total = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size, total = size + len(block), zlib.crc32(block, total)
    return {"bytes": size, "crc32": total}

"""Files that are not on a disk: URLs, by the file systems of pyarrow (s3, gs) and fsspec (all others)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cosmeans.errors import FileError
from cosmeans.paths import as_path, is_url
from cosmeans.printable import without_secrets
from cosmeans.reading import Fingerprint, damaged, reading, require_memory, size_words
from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place
from cosmeans.rows.ranges import StoredArray

_UNREACHED = "can't be read"
_ADVICE = "Check the address, the right to read it and the connection, and run it again."
_ARROW = {"s3": "S3FileSystem", "gs": "GcsFileSystem", "gcs": "GcsFileSystem"}  # Arrow's own, where it was built in
_ETAG = ("ETag", "etag")
_CHANGED = ("mtime", "Last-Modified", "LastModified", "last_modified", "updated", "created")
_VERSION = ("size", *_ETAG, *_CHANGED)
_WEB = ("http", "https")
_NOT_FOUND = 404  # of HTTP; fsspec calls all that a web server refuses a file that is not there
_MANY = 64  # buckets whose file systems are kept


def place_of(named: Any) -> Place:
    """Where the file is that a caller named, by a path or a URL. Raises as `paths.as_path` does."""
    if isinstance(named, Place):
        return named
    if not is_url(named):
        return Place(as_path(named))
    if named.lower().startswith("file://"):
        return Place(as_path(url2pathname(urlsplit(named).path)))
    return RemotePlace(named)


class RemotePlace(Place):
    """A file, or a folder that is one data set, behind a URL.

    Bytes are fetched when they are asked for. The libraries try again where a connection breaks; what they give up on
    is a FileError. Names and messages have no credentials: neither `user:password@` nor what follows a `?`.
    """

    remote = True

    def __init__(self, url: str, files: tuple[Any, str] | None = None, folder: bool | None = None) -> None:
        """files, folder: its file system and its name there, and whether it is a folder, where that is known."""
        split = urlsplit(without_secrets(url))
        super().__init__(PurePosixPath("/", split.netloc, split.path.lstrip("/")))
        self.name, self._url = without_secrets(url), url
        self._folder = folder
        self.scheme = url.split(":", 1)[0].lower()
        self.files, self.key = files or _file_system(self, url)

    def child(self, name: str) -> RemotePlace:
        return self.at(f"{self.key.rstrip('/')}/{name}")

    def at(self, key: str, folder: bool | None = None) -> RemotePlace:
        """Another file of the same file system, by its name there."""
        url = key if is_url(key) else f"{self.scheme}://{key.lstrip('/')}"
        return RemotePlace(url, (self.files, key), folder)

    def exists(self) -> bool:
        with self._reaching():
            return bool(self.files.exists(self.key))

    def is_folder(self) -> bool:
        """Web servers have no folders: a URL of theirs is one if it ends in a slash."""
        if self.scheme in _WEB:
            return self.key.endswith("/")
        if self._folder is None:
            with self._reaching():
                self._folder = bool(self.files.isdir(self.key))
        return self._folder

    def glob(self) -> list[RemotePlace]:
        """The files and folders that match the URL, which is a pattern."""
        with self._reaching():
            found = self.files.glob(self.key, detail=True)
            return [self.at(key, info["type"] == "directory") for key, info in found.items()]

    def inside(self) -> list[tuple[str, RemotePlace]]:
        """All files in the folder and in folders in it, each with its path from here."""
        with self._reaching():
            start = len(self.key.rstrip("/")) + 1
            return [(key[start:], self.at(key, folder=False)) for key in self.files.find(self.key)]

    @property
    def n_bytes(self) -> int:
        with self._reaching():
            return int(self.files.du(self.key) if self.is_folder() else self._info()["size"])

    def fingerprint(self) -> Fingerprint:
        """By what the server tells, without reading. Web servers tell nothing of a folder."""
        if self.scheme in _WEB and self.is_data_folder():
            return Fingerprint()
        with self._reaching():
            if not self.is_folder():
                info = self._info()
                return Fingerprint(info.get("size"), version=_version_of(info))
            inside = self.files.find(self.key, detail=True)
        start, digest = len(self.key.rstrip("/")) + 1, sha256()
        for key, info in sorted(inside.items()):
            digest.update(f"{key[start:]}\0{info['size']}\0{_version_of(info)}\0".encode("utf-8", "surrogateescape"))
        return Fingerprint(sum(info["size"] for info in inside.values()), version=digest.hexdigest())

    @property
    def address(self) -> str:
        return self._url

    def open(self, *, by_ranges: bool = False) -> BinaryIO:
        with self._reaching():
            self._check()
            file = self.files.open(self.key, "rb", **({"cache_type": "none"} if by_ranges else {}))
            if not file.seekable():
                file.close()
                raise self._no_ranges()
        return cast(BinaryIO, _RemoteFile(self, file))

    def size(self, file: BinaryIO) -> int:
        return int(self._seen[0])

    def handle(self, file: BinaryIO) -> BinaryIO:
        return file

    def array(self, file: BinaryIO, dtype: Any, offset: int, shape: tuple[int, ...], order: str = "C") -> StoredArray:
        if order == "F":
            raise FileError(
                f"{self} is stored column by column (Fortran order): each batch would fetch all of it. Copy it to a "
                'disk, or write it row by row once: np.save("rows.npy", np.ascontiguousarray(x)).'
            )
        return StoredArray(self.name, self._range, offset, dtype, shape)

    def open_whole(self) -> BinaryIO:
        with self.open() as file:
            require_memory(self.name, self.size(file), "has")
            return io.BytesIO(file.read())

    @contextmanager
    def reading(self, says: str = "is truncated or damaged", advice: str = "Write the file again.") -> Iterator[None]:
        with _without_secrets(), reading(self.name, advice=advice, says=says):
            yield

    def _range(self, start: int, length: int) -> bytes:
        """Bytes of the file."""
        if not length:
            return b""
        with self._reaching():
            self._check()
            if getattr(self.files, "async_impl", False):  # asks for the range at once, without a look at the file
                data = bytes(self.files.cat_file(self.key, start, start + length))
            else:
                with self.files.open(self.key, "rb") as file:
                    file.seek(start)
                    data = bytes(file.read(length))
        if len(data) > length:
            raise self._no_ranges()
        if len(data) < length:
            raise damaged(self.name, f"{size_words(length)} were asked for, and {size_words(len(data))} came")
        return data

    def _check(self) -> None:
        """Raise FileError if it is another version of the file than at first."""
        info = self._info()
        if info.get("size") is None or info.get("partial") is False:
            raise self._no_ranges()
        self._same(tuple(info.get(name) for name in _VERSION))

    def _info(self) -> dict[str, Any]:
        found: dict[str, Any] = self.files.info(self.key)
        return found

    def _no_ranges(self) -> FileError:
        return FileError(f"{self}: its server does not give parts of files. Copy it to a disk, and read it there.")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Within, whatever a file system raises is a FileError about this URL."""
        with _without_secrets(), reading(self.name, advice=_ADVICE, says=_UNREACHED):
            try:
                yield
            except FileNotFoundError as cause:  # which some raise without a number
                told = cause.__cause__
                if type(told).__module__.startswith("aiohttp") and getattr(told, "status", None) != _NOT_FOUND:
                    raise damaged(self.name, told, says=_UNREACHED, advice=_ADVICE) from told
                raise FileError(f"No such file: {self}.") from cause
            except ImportError as cause:
                raise FileError(f"Reading {self} needs a library that is missing ({cause}). Install it.") from cause


class _RemoteFile(io.RawIOBase):
    """A file of a file system, as a file of Python's: what goes wrong with it is a FileError about its URL."""

    def __init__(self, place: RemotePlace, file: Any) -> None:
        self._place, self._file = place, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        with self._place._reaching():  # noqa: SLF001  of the same house
            return bytes(self._file.read() if size is None or size < 0 else self._file.read(size))

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def _without_secrets() -> Iterator[None]:
    """Errors of ours are raised without a cause that holds credentials, which a traceback would show."""
    try:
        yield
    except FileError as error:
        told = str(error.__cause__)
        if without_secrets(told) != told:
            error.__cause__ = None
            error.__suppress_context__ = True
        raise


def _version_of(info: dict[str, Any]) -> str | None:
    """The ETag, or else when the file was changed last; None: its file system tells neither."""
    told = (info[name] for name in (*_ETAG, *_CHANGED) if info.get(name) is not None)
    return next(map(str, told), None)


def _file_system(place: RemotePlace, url: str) -> tuple[Any, str]:
    """The file system of a URL as fsspec knows it, and the name there. Raises FileError if a library is missing."""
    fsspec = needed("fsspec", place, "remote")
    with _without_secrets(), reading(place.name, says=_UNREACHED, advice=_ADVICE):
        try:
            files, key = _of_arrow(place.scheme, url) or fsspec.core.url_to_fs(url)
        except ImportError as cause:
            extra = ' pip install "cosmeans[remote]".' if place.scheme in _WEB else ""
            raise FileError(f"Reading {place} needs a library that is missing: {cause}.{extra}") from cause
        except ValueError as cause:
            raise FileError(f"{place}: {cause}. Known are s3, gs, hf, https and whatever fsspec knows.") from cause
    return files, key


def _of_arrow(scheme: str, url: str) -> tuple[Any, str] | None:
    """The file system that Arrow has for a bucket, and the name of the object; None: Arrow has none for this."""
    kind = _ARROW.get(scheme)
    if kind is None:
        return None
    try:
        from pyarrow import fs as arrow
    except ImportError:
        return None
    if not hasattr(arrow, kind):
        return None
    split = urlsplit(url)
    query = f"?{split.query}" if split.query else ""
    key = f"{split.netloc.rpartition('@')[2]}/{split.path.lstrip('/')}"
    return _bucket(f"{scheme}://{split.netloc}{query}"), key.rstrip("/")


@lru_cache(_MANY)
def _bucket(uri: str) -> Any:
    """One for all files of a bucket: where it is, is asked once."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    class Files(ArrowFSWrapper):
        fsid = without_secrets(uri)  # fsspec makes one of a host, which only HDFS has

    return Files(FileSystem.from_uri(uri)[0], skip_instance_cache=True)

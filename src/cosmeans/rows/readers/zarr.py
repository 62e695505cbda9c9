"""zarr, versions 2 and 3, by zarr: one array of shape (N, D), read by shards or chunks."""

from __future__ import annotations

from typing import Any

from cosmeans.errors import OptionError
from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.readers.sliced import SlicedRows, choose
from cosmeans.rows.remote import RemotePlace


def read_zarr(place: Place, wanted: Wanted) -> SlicedRows:
    """Rows of a zarr array, or of one in a group. Raises as `rows.formats.open_reader` does."""
    wanted.refuse(place, "a zarr folder", shape="says how many rows it has", dtype="says what its numbers are")
    zarr = needed("zarr", place, "zarr")
    with place.reading():
        stored = zarr.open(_store(place, zarr), mode="r")
        if not hasattr(stored, "shape"):
            members = dict(stored.members(max_depth=None))
            arrays = {name: item for name, item in members.items() if hasattr(item, "shape")}
            stored = choose(place, arrays, wanted, "array")
        elif wanted.name is not None:
            raise OptionError(f"embedding={wanted.name!r}: {place} is one array. Remove the embedding.")
        shards = getattr(stored, "shards", None)
        return SlicedRows(place.name, stored, (shards or stored.chunks)[0])


def _store(place: Place, zarr: Any) -> Any:
    """What zarr reads a folder by."""
    if not isinstance(place, RemotePlace):
        return str(place.path)
    return zarr.storage.FsspecStore.from_mapper(place.files.get_mapper(place.key), read_only=True)

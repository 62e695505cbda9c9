"""HDF5, by h5py: one data set of shape (N, D)."""

from __future__ import annotations

from typing import Any

from cosmeans.errors import OptionError
from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.readers.sliced import SlicedRows


def read_hdf5(place: Place, wanted: Wanted) -> SlicedRows:
    """Rows of an HDF5 file. Raises as `rows.files.open_reader` does."""
    wanted.refuse(place, "an HDF5 file", shape="says how many rows it has", dtype="says what its numbers are")
    h5py = needed("h5py", place, "hdf5")
    with place.reading(), place.open():  # a regular file, and one that may be read
        stored = h5py.File(place.path, "r")
        found: dict[str, Any] = {}
        stored.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        two = [name for name, item in found.items() if item.ndim == 2]
        name = wanted.name
        if name is None and len(two) == 1:
            name = two[0]
        if name is None or name not in found:
            listed = ", ".join(f"{name} {found[name].shape}" for name in list(found)[:20]) or "none"
            asked = "" if name is None else f"no data set {name!r}; "
            raise OptionError(
                f"{place}: {asked}name the data set with the vectors by embedding (--embedding). It holds: {listed}."
            )
        chunks = found[name].chunks
        return SlicedRows(place.name, found[name], None if chunks is None else chunks[0])

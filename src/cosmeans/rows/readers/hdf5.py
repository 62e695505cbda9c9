"""HDF5, by h5py: one data set of shape (N, D)."""

from __future__ import annotations

from typing import Any

from cosmeans.rows.extras import needed
from cosmeans.rows.place import Place
from cosmeans.rows.reader import Wanted
from cosmeans.rows.readers.sliced import SlicedRows, choose


def read_hdf5(place: Place, wanted: Wanted) -> SlicedRows:
    """Rows of an HDF5 file. Raises as `rows.formats.open_reader` does."""
    wanted.refuse(place, "an HDF5 file", shape="says how many rows it has", dtype="says what its numbers are")
    h5py = needed("h5py", place, "hdf5")
    with place.reading():
        file = place.open()  # a regular file, and one that may be read
        if not place.remote:
            file.close()
        stored = h5py.File(file if place.remote else place.path, "r")
        found: dict[str, Any] = {}
        stored.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        rows = choose(place, found, wanted, "data set")
        return SlicedRows(place.name, rows, None if rows.chunks is None else rows.chunks[0])

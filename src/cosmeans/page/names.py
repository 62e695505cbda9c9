"""Names that people give to clusters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from cosmeans.errors import FileError, InputError, InputTypeError
from cosmeans.page.examples import clean
from cosmeans.paths import as_path
from cosmeans.printable import brief
from cosmeans.reading import read_bytes, reading

_LONGEST = 80
_MOST_BYTES = 16 << 20
_FORM = 'an object of cluster and name, such as {"0": "fish", "12": "tools"}'


def read_names(given: Mapping[Any, Any] | str | os.PathLike[str] | None, n_clusters: int) -> dict[int, str]:
    """Names by cluster, from a mapping or from the JSON file that the page saves.

    Raises FileError for a file that can't be read, InputError for what is not a name of one of these clusters.
    """
    if given is None:
        return {}
    where = "names"
    if isinstance(given, str | os.PathLike):
        path = as_path(given, "names")
        where = str(path)
        with reading(path):
            text = read_bytes(path, _MOST_BYTES)
        try:
            given = json.loads(text.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path} is not JSON ({error}). It must hold {_FORM}.") from error
    if not isinstance(given, Mapping):
        raise InputTypeError(f"{where} must be {_FORM}; got {brief(given)}.")
    found = {}
    for key, name in given.items():
        cluster = _cluster(key)
        if cluster is None or not 0 <= cluster < n_clusters:
            raise InputError(
                f"{where} names cluster {brief(key)}; the clusters of this model are 0 to {n_clusters - 1}. Remove "
                "that entry, or use the names of this model."
            )
        if not isinstance(name, str):
            raise InputError(f"{where} says {brief(name)} of cluster {cluster}; a name must be a string.")
        if name.strip():
            found[cluster] = clean(name, _LONGEST)
    return found


def _cluster(key: Any) -> int | None:
    """A number, or a number in JSON's spelling of keys."""
    try:
        return int(key) if isinstance(key, str) or (hasattr(key, "__index__") and not isinstance(key, bool)) else None
    except ValueError:
        return None

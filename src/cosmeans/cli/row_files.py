"""The rows that a command line names: how their files are read, and which of their columns go along with results."""

from __future__ import annotations

from dataclasses import dataclass, field
from glob import has_magic
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cosmeans.cli.silence import doing
from cosmeans.errors import OptionError
from cosmeans.label_files.columns import TEXT, Carried
from cosmeans.paths import is_url

if TYPE_CHECKING:
    import numpy as np

    from cosmeans.rows.files import FileRows
    from cosmeans.rows.look import RowFacts


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Paths as they were written, options of `open_rows`, and the columns that are carried to tables of results."""

    paths: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    carried: Carried = Carried()

    def open(self) -> FileRows:
        """The rows. Raises what `open_rows` raises, and OptionError for a column to carry that isn't there."""
        from cosmeans.rows.opening import open_rows

        with doing("opening the rows"):
            rows = open_rows(list(self.paths), **self.options)
        rows.require(self.carried.names)
        return rows

    def look(self) -> RowFacts:
        """What headers and footers say of the rows. Raises as `open` does."""
        from cosmeans.rows.look import look

        options = dict(self.options)
        named = [options.pop(name, None) for name in ("id_column", "weight_column")]
        return look(list(self.paths), columns=[name for name in (*named, *self.carried.names) if name], **options)

    @property
    def name(self) -> str:
        """What results are named after: the file, or the folder of several."""
        url = urlsplit(self.paths[0]) if is_url(self.paths[0]) else None
        path = PurePath(self.paths[0] if url is None else url.netloc + url.path)
        if has_magic(path.name) or len(self.paths) > 1:
            path = path.parent
        return path.stem or "rows"

    def others(self, rows: FileRows) -> dict[str, np.ndarray]:
        """The carried columns (N,): numbers as numbers, all else as text, missing cells as empty text."""
        names = self.carried.names
        if not names:
            return {}
        import pyarrow

        with doing("reading the columns of the rows"):
            table = pyarrow.Table.from_batches(list(rows.columns(names)))
        return {name: _array(table.column(name)) for name in names}


def row_files(given: dict[str, Any]) -> RowFiles:
    """What flags say; takes its own out of `given`."""
    options = {name: given.pop(name, None) for name in ("embedding", "dtype", "key", "id_column", "weight_column")}
    options = {name: value for name, value in options.items() if value is not None}
    order, shape, carried = given.pop("file_order"), given.pop("shape"), given.pop("carried", None)
    if shape is not None:
        options["shape"] = _shape(shape)
    names = tuple(name.strip() for name in (carried or "").split(",") if name.strip())
    if given.get("texts") is None and given.get("column") == TEXT:  # it is carried as the texts
        names = tuple(name for name in names if name != TEXT)
    kept = Carried(options.get("id_column"), names)
    return RowFiles(given.pop("embeddings") or [], options | {"order": order}, kept)


def _shape(text: str) -> tuple[int, int]:
    try:
        n, d = (int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"--shape {text} must be two numbers, rows and features, such as 100000,768.") from error
    if n < 1 or d < 1:
        raise OptionError(f"--shape {text}: both numbers must be at least 1.")
    return n, d


def _array(column: Any) -> np.ndarray:
    import numpy as np

    values = column.to_numpy()
    if values.dtype.kind in "fiub":
        return np.asarray(values)
    found = np.empty(len(values), dtype=object)
    found[:] = ["" if value is None else str(value) for value in column.to_pylist()]
    return found

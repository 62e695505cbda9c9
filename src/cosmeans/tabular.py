"""Results as tables: one line for a prompt, HTML for a notebook, frames and Arrow for other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from torch import Tensor

from cosmeans.choices import Library, names_of
from cosmeans.errors import OptionError
from cosmeans.printable import brief, line

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Columns = Mapping[str, "np.ndarray | Sequence[Any]"]
_SHOWN = 10  # rows of a table in a notebook
_LONGEST = 80  # characters of a text there
_WORDS = 30  # characters up to which the texts of a list follow one another in a line
_INSTALL = {"pandas": "pandas", "polars": "polars", "pyarrow": '"cosmeans[tables]"'}


class Tabular:
    """A result that is a table, too: `to_frame`, the Arrow PyCapsule interface, a short repr and one in HTML."""

    __slots__ = ()

    def _columns(self) -> Columns:
        """The table: its columns by name, of one length."""
        raise NotImplementedError

    def _summary(self) -> str:
        """What it is, in a few words."""
        raise NotImplementedError

    @overload
    def to_frame(self, library: Literal["pandas"] = "pandas") -> pandas.DataFrame: ...
    @overload
    def to_frame(self, library: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def to_frame(self, library: Literal["arrow"]) -> pyarrow.Table: ...
    def to_frame(self, library: Library = "pandas") -> Any:
        """The table as a frame of "pandas" or "polars", or an "arrow" table. Columns are NumPy's, copied as needed.

        Raises OptionError for another library, ImportError if it is not installed.
        """
        if not isinstance(library, str) or library not in names_of(Library):
            allowed = ", ".join(map(repr, names_of(Library)))
            raise OptionError(f"library must be one of {allowed}; got {brief(library)}.")
        if library == "arrow":
            return _imported("pyarrow", self).table(_without_tuples(self._columns()))
        return _imported(library, self).DataFrame(dict(self._columns()))

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The table for any library that reads Arrow streams: `polars.DataFrame(result)`. Needs pyarrow."""
        return self.to_frame("arrow").__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary()})"

    def _repr_html_(self) -> str:
        """The first rows, as a notebook shows them."""
        columns = self._columns()
        n_rows = len(next(iter(columns.values())))
        shown = [[_cell(value) for value in values[:_SHOWN]] for values in columns.values()]
        head = _row("th", map(escape, columns))
        body = "".join(_row("td", row) for row in zip(*shown, strict=True))
        cut = f"<p>the first {_SHOWN} of {n_rows:,} rows</p>" if n_rows > _SHOWN else ""
        return f"<p>{escape(repr(self))}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>{cut}"


def host(values: Any) -> np.ndarray:
    """An array or a tensor as NumPy's."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _imported(module: str, result: Tabular) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"A {type(result).__name__} becomes such a table by {module}, which is missing. Install it with: "
            f"pip install {_INSTALL[module]}"
        ) from error


def _without_tuples(columns: Columns) -> dict[str, Any]:
    return {name: values if isinstance(values, np.ndarray) else list(values) for name, values in columns.items()}


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _cell(value: Any) -> str:
    """A cell in HTML: four digits for people, lists as one writes them, nothing for what there is not."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.4f}"
    if isinstance(value, list | tuple):
        cells = [_cell(part) for part in value]
        return ("<br>" if any(len(cell) > _WORDS for cell in cells) else ", ").join(cells)
    text = line(str(value))
    return escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…")

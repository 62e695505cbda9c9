"""Texts of rows, as commands ask for them: from a file of their own, or from a column of the rows' own table."""

from __future__ import annotations

from cosmeans.rows.files import FileRows
from cosmeans.rows.texts import read_texts, texts_of


def given_texts(path: str | None, rows: FileRows, column: str | None) -> list[str] | None:
    """One text per row, as `read_texts` finds them; without a file from this column of the rows; None without both."""
    if path is not None:
        return read_texts(path, len(rows), column)
    return None if column is None else texts_of(rows.tables, column, len(rows))

"""What belongs to rows, as commands ask for it: texts from a file of their own, and columns of the rows' own table."""

from __future__ import annotations

from typing import Any

from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.silence import doing
from cosmeans.rows.files import FileRows
from cosmeans.rows.texts import read_texts, texts_of


def given_texts(path: str | None, rows: FileRows, column: str | None) -> list[str] | None:
    """One text per row, as `read_texts` finds them; without a file from this column of the rows; None without both."""
    with doing("reading the texts"):
        if path is not None:
            return read_texts(path, len(rows), column)
        return None if column is None else texts_of(rows.tables, column, len(rows))


def described(embeddings: RowFiles, rows: FileRows, link: str | None = None) -> dict[str, Any]:
    """Ids, links and columns of the rows, as `write_report` takes them. link: a column with addresses."""
    others = embeddings.others(rows)
    id_column = embeddings.carried.id_column
    ids = None if id_column is None else others.pop(id_column).tolist()
    links = None if link is None else texts_of(rows.tables, link, len(rows))
    return {"ids": ids, "links": links, "columns": others or None}

"""Files with columns: what each format answers, whichever of its columns holds the vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from cosmeans.errors import OptionError
from cosmeans.reading import reading


def validated(table: Table, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
    """`table.batches`, each checked before it is used: in what is mapped, offsets may lead anywhere."""
    for batch in table.batches(group, names, text):
        with reading(table.name):
            batch.validate(full=True)
        yield batch


def require_columns(table: Table, names: Iterable[str]) -> None:
    """Raise OptionError for a column that the table doesn't have."""
    for name in names:
        if name not in table.schema.names:
            listed = ", ".join(table.schema.names[:20]) or "none"
            raise OptionError(f"{table.name} has no column {name!r}. Its columns: {listed}.")


class Table(Protocol):
    """One file with columns. Any thread may ask; each answer has a handle of its own on the file."""

    name: str
    """The file, as the caller knows it."""
    schema: Any
    """A schema of Arrow. Vectors that a file stores as text are lists of numbers here."""

    counted: bool
    """Whether `groups` is known without reading the whole file."""

    @property
    def groups(self) -> Sequence[int]:
        """Rows of each part of the file that can be decoded without the parts before it."""

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        """Record batches of Arrow with these columns, from the first row of a group to the end of the file.

        text: as text is stored in a file of text, where 007 is not 7
        """

"""The columns of a table of labels, as every table of this project names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cosmeans.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

ROW, CLUSTER, SIMILARITY, TEXT = "row", "cluster", "similarity", "text"
OLD_NAME = "label"  # of `cluster` in 0.1: tables of all rows have it, too, unless a column of that name is carried


@dataclass(frozen=True, slots=True)
class Carried:
    """Columns that go along: the one that names the rows comes first, others of the files come last, then texts.

    texts  one for each row, from wherever they came; None: the table has no column of texts
    """

    id_column: str | None = None
    others: tuple[str, ...] = ()
    texts: Sequence[str] | None = None

    @property
    def names(self) -> list[str]:
        """Those of the files, each once."""
        ids = [] if self.id_column is None else [self.id_column]
        return list(dict.fromkeys((*ids, *self.others)))

    def part(self, start: int, stop: int) -> Carried:
        """What goes along with rows `start` to `stop`."""
        return self if self.texts is None else replace(self, texts=self.texts[start:stop])

    def refuse_clash(self) -> None:
        """Raise OptionError for a column that would take the place of one of a table of labels."""
        refuse_clash((ROW, CLUSTER, SIMILARITY) if self.texts is None else (ROW, CLUSTER, SIMILARITY, TEXT), self.names)


def in_order(names: Iterable[str], carried: Sequence[str], id_column: str | None) -> list[str]:
    """The columns of a table: `row`, the ids, its own others, and then what is carried."""
    own = list(names)
    ids = [] if id_column is None or id_column not in carried else [id_column]
    return [*own[:1], *ids, *own[1:], *(name for name in carried if name not in ids)]


def refuse_clash(own: Sequence[str], carried: Iterable[str]) -> None:
    """Raise OptionError for a column to carry that would take the place of one of the table's own."""
    for name in carried:
        if name in own:
            raise OptionError(
                f"The column {name!r} can't be carried: the table has one of that name ({', '.join(own)}). Rename it "
                "in the files, or leave it out."
            )


def as_similarity(cosines: np.ndarray) -> np.ndarray:
    """Cosines as tables hold them: float32, in [-1, 1]."""
    import numpy as np  # the command line reads this file to show its help

    found: np.ndarray = np.clip(cosines, -1.0, 1.0).astype(np.float32)
    return found

"""What a fitted model says of rows of files, piece by piece: labels for tables, and cosines for a file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans._estimator.fitted_state import state_of
from cosmeans._estimator.opening import open_fitted, options_of
from cosmeans.console import warn, without
from cosmeans.contracts import Session
from cosmeans.errors import SkippedRowsWarning, ZeroRowsWarning
from cosmeans.label_files.columns import as_similarity
from cosmeans.label_files.folder import LabelFolder, Wanted, Written
from cosmeans.label_files.writers import NPY, Pieces
from cosmeans.memory_rows import MemoryRows
from cosmeans.model_file import digest
from cosmeans.progress import Silent, set_observer, watch
from cosmeans.reading import free_memory
from cosmeans.rows.files import FilePart, FileRows
from cosmeans.scoring import own_scores

_SHARE = 16  # of the memory that rows may take, one part for a piece: the next one is decoded meanwhile
_LEAST_BYTES, _MOST_BYTES = 64 << 20, 1 << 30  # of a piece


class FileLabels:
    """A fitted model and rows of files. A row's label does not depend on other rows, so pieces have those of all."""

    def __init__(self, model: Any, rows: FileRows) -> None:
        self._model, self._rows = copy.copy(model), rows
        self._options = options_of(model)
        self.left_out, self._first_left_out = 0, -1
        set_observer(self._model, Silent())  # one bar for all pieces

    def write(self, folder: Path, wanted: Wanted, into: np.ndarray | None = None, *, force: bool = False) -> Written:
        """The tables of all files in a folder, as `label_files.folder.LabelFolder` writes them."""
        tables = LabelFolder(folder, self._rows, wanted)
        tables.agree(digest(state_of(self._model).centroids()), force=force)
        with self._watched() as progress:
            written = tables.write(partial(self.pieces, similarity=wanted.kind != NPY), into, progress)
        self.warn_of_left_out()
        return written

    def pieces(self, part: FilePart, similarity: bool = True) -> Pieces:
        """Labels and similarity of the rows of a part, in order. similarity: False where it is not wanted."""
        for start, session, centroids in self.sessions(part):
            labels = session.assign(centroids)
            scores = own_scores(session, centroids, labels) if similarity else torch.zeros(len(labels))
            found = labels.cpu().numpy().astype(np.int64)
            self._note(found, start)
            yield found, as_similarity(scores.cpu().numpy())

    def sessions(self, part: FilePart) -> Iterator[tuple[int, Session, Tensor]]:
        """A session for each piece of the rows of a part, with the number of its first row and the centroids."""
        n_rows, step = part.stop - part.start, self._step()
        for start in range(0, n_rows, step):
            first = part.start + start
            rows = part.rows.read(slice(start, min(start + step, n_rows)))
            piece = MemoryRows(rows, partial(self._where, first))
            with ExitStack() as opened:
                with without(ZeroRowsWarning), without(SkippedRowsWarning):
                    session, _, centroids = opened.enter_context(open_fitted(self._model, piece))
                yield first, session, centroids
            self._model.verbose = 0  # what there is to say of backend and device has been said

    def warn_of_left_out(self) -> None:
        """Warn of rows without a cluster, as `zero_rows` asks for it: once for all pieces."""
        if self.left_out and self._options.zero_rows == "warn":
            warn(
                f"{self.left_out} of {self._rows.n_rows} rows are zero or skipped (the first is "
                f"{self._rows.where(self._first_left_out)}). They get label -1.",
                ZeroRowsWarning,
            )

    def _step(self) -> int:
        """Rows of a piece."""
        limit = self._options.memory_limit
        room = (free_memory() // 4 if limit is None else limit) // _SHARE
        size = min(max(room, _LEAST_BYTES), _MOST_BYTES)
        return max(1, size // max(1, self._rows.n_bytes // max(1, self._rows.n_rows)))

    def _where(self, first: int, row: int) -> str:
        return self._rows.where(first + row)

    def _note(self, labels: np.ndarray, start: int) -> None:
        left_out = np.flatnonzero(labels < 0)
        if len(left_out) and not self.left_out:
            self._first_left_out = start + int(left_out[0])
        self.left_out += len(left_out)

    @contextmanager
    def _watched(self) -> Iterator[Callable[[int, int], None]]:
        """What shows progress."""
        with watch(self._rows.n_rows, verbose=self._model.verbose) as observer:
            yield lambda done, of: observer.step("labels", done, of, "rows")

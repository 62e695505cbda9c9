"""What a fitted model says of rows of files, piece by piece: labels for tables, and cosines for a file."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans._estimator.fitted_state import FitState, state_of
from cosmeans._estimator.inputs import Kind, check_features
from cosmeans._estimator.opening import open_fitted, options_of
from cosmeans._estimator.row_outputs import given_out, label_array
from cosmeans.console import warn, without
from cosmeans.containers.converted import as_type
from cosmeans.contracts import RowSource, Session
from cosmeans.digests import centroids_digest
from cosmeans.errors import CosmeansError, FeatureNamesWarning, OptionError, SkippedRowsWarning, ZeroRowsWarning
from cosmeans.label_files.columns import Carried, as_similarity
from cosmeans.label_files.folder import LabelFolder, TableOptions, Written
from cosmeans.label_files.writers import CHUNK_ROWS, NPY, Pieces
from cosmeans.memory_rows import MemoryRows
from cosmeans.paths import as_path
from cosmeans.progress import Silent, set_observer, watch
from cosmeans.rows.files import FilePart, FileRows
from cosmeans.rows.held import limit_of
from cosmeans.scoring import own_scores

_SHARE = 16  # of the memory that rows may take, one part for a piece: the next one is decoded meanwhile
_LEAST_BYTES, _MOST_BYTES = 64 << 20, 1 << 30  # of a piece


class FileLabels:
    """A fitted model and rows of files. A row's label does not depend on other rows, so pieces have those of all.

    Raises what `KMeans.predict` raises for a model and rows that can't be.
    """

    def __init__(self, model: Any, rows: FileRows) -> None:
        self._model, self._rows = copy.copy(model), rows
        self._options, self._state = options_of(self._model), state_of(self._model)
        check_features(self._model, Kind(tensor=False, device=rows.device), rows)
        self.left_out, self._first_left_out = 0, -1
        set_observer(self._model, Silent())  # one bar for all pieces

    def write(self, folder: Path, wanted: TableOptions, *, force: bool = False) -> Written:
        """The tables of all files in a folder, as `label_files.folder.LabelFolder` writes them."""
        return self._write(self._agreed(folder, wanted, force), similarity=wanted.kind != NPY)

    def predict(self, folder: Path) -> Any:
        """Labels of all rows (N,) int64, which are in the tables of a folder, too: some maybe from an earlier run."""
        tables = self._agreed(folder, _by_id(self._rows), force=False)
        with label_array(len(self._rows), folder) as labels:
            self._write(tables, labels)
        return given_out(labels, Kind(self._rows.tensor, self._rows.device))

    def _agreed(self, folder: Path, wanted: TableOptions, force: bool) -> LabelFolder:
        tables = LabelFolder(folder, self._rows, wanted)
        tables.agree(centroids_digest(self._state.centroids()), force=force)
        return tables

    def _write(self, tables: LabelFolder, into: np.ndarray | None = None, similarity: bool = True) -> Written:
        with watch(len(self._rows), verbose=self._model.verbose) as observer:
            label = partial(self._each, similarity=similarity)
            written = tables.write(label, into, lambda done, of: observer.step("labels", done, of, "rows"))
        self.warn_of_left_out()
        return written

    def pieces(self, part: FilePart, similarity: bool = True) -> Pieces:
        """Labels and similarity of the rows of a part, in order. similarity: False where it is not wanted."""
        for start, session, centroids in self.sessions(part):
            found = self._labels(session, centroids, start, similarity)
            del session  # before the next piece is read
            yield found

    def watched_pieces(self, part: FilePart, similarity: bool = True) -> Pieces:
        """The same, with a bar over them."""
        with watch(len(self._rows), verbose=self._model.verbose) as observer:
            done = 0
            for labels, scores in self.pieces(part, similarity):
                done += len(labels)
                observer.step("labels", done, len(self._rows), "rows")
                yield labels, scores

    def sessions(self, part: FilePart) -> Iterator[tuple[int, Session, Tensor]]:
        """A session for each piece of the rows of a part, with the number of its first row and the centroids."""
        n_rows, step = part.stop - part.start, self._step()
        for start in range(0, n_rows, step):
            rows = part.rows.read(slice(start, min(start + step, n_rows)))
            with self._session(rows, part.start + start) as (session, centroids):
                del rows
                yield part.start + start, session, centroids
            del session  # before the next piece is read

    def _each(self, parts: list[FilePart], similarity: bool) -> Iterator[Pieces]:
        """The pieces of each of these files. Small files in a row are one piece: a session costs some milliseconds."""
        for group in _groups(parts, self._step()):
            several = sum(part.stop > part.start for part in group) > 1
            together = self._together(group, similarity) if several else None
            for part in group:
                if together is None:
                    yield self.pieces(part, similarity)
                else:
                    span = slice(part.start - group[0].start, part.stop - group[0].start)
                    yield [(together[0][span], together[1][span])]

    def _together(self, group: list[FilePart], similarity: bool) -> tuple[np.ndarray, np.ndarray] | None:
        """Labels and similarity of files in a row; None where one of them can't be labelled, so that the others are."""
        with suppress(CosmeansError):
            parts = [
                as_type(part.rows.read(slice(0, len(part.rows))), self._rows.dtype) for part in group if len(part.rows)
            ]
            with self._session(torch.cat(parts), group[0].start) as (session, centroids):
                return self._labels(session, centroids, group[0].start, similarity)
        return None

    @contextmanager
    def _session(self, rows: Tensor, first: int) -> Iterator[tuple[Session, Tensor]]:
        """A session over some rows, of which the first has this number among all; and the centroids."""
        piece = MemoryRows(rows, partial(self._where, first))
        with ExitStack() as opened:
            with without(ZeroRowsWarning), without(SkippedRowsWarning), without(FeatureNamesWarning):
                session, _, centroids = opened.enter_context(open_fitted(self._model, piece))
            yield session, centroids
        self._model.verbose = 0  # what there is to say of backend and device has been said

    def _labels(
        self, session: Session, centroids: Tensor, first: int, similarity: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        labels = session.assign(centroids)
        scores = own_scores(session, centroids, labels).cpu().numpy() if similarity else np.zeros(len(labels))
        found = labels.cpu().numpy().astype(np.int64)
        self._note(found, first)
        return found, as_similarity(scores)

    def warn_of_left_out(self) -> None:
        """Warn of rows without a cluster, as `zero_rows` asks for it: once for all pieces."""
        if self.left_out and self._options.zero_rows == "warn":
            are, they = ("is", "It gets") if self.left_out == 1 else ("are", "They get")
            warn(
                f"{self.left_out} of {self._rows.n_rows} rows {are} zero or skipped (the first is "
                f"{self._rows.where(self._first_left_out)}). {they} label -1.",
                ZeroRowsWarning,
            )

    def _step(self) -> int:
        """Rows of a piece."""
        limit = self._options.memory_limit
        room = limit_of(limit) // _SHARE
        size = min(max(room, _LEAST_BYTES), _MOST_BYTES)
        return max(1, size // max(1, self._rows.n_bytes // max(1, self._rows.n_rows)))

    def _where(self, first: int, row: int) -> str:
        return self._rows.where(first + row)

    def _note(self, labels: np.ndarray, start: int) -> None:
        left_out = np.flatnonzero(labels < 0)
        if len(left_out) and not self.left_out:
            self._first_left_out = start + int(left_out[0])
        self.left_out += len(left_out)


def _groups(parts: list[FilePart], n_rows: int) -> Iterator[list[FilePart]]:
    """The files in groups of at most n_rows, in each of which one begins where the one before ends."""
    group: list[FilePart] = []
    for part in parts:
        if group and (part.start != group[-1].stop or part.stop - group[0].start > n_rows):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def tables_of_fit(labels_out: Any, source: RowSource) -> LabelFolder | None:
    """The tables that a fit on these rows is to write; None: none. Raises what can be refused before the fit."""
    if labels_out is None:
        return None
    tables = LabelFolder(as_path(labels_out, "labels_out"), files_for(source), _by_id(source))
    tables.require_new()
    return tables


def write_fit(tables: LabelFolder, state: FitState) -> None:
    """The tables of a fit on the same rows."""
    tables.agree(centroids_digest(state.centroids()))
    tables.write(lambda parts: (pieces_of(state, part.start, part.stop) for part in parts))


def pieces_of(fit: Any, start: int, stop: int) -> Pieces:
    """The labels_ and similarity_ of a fit from row `start` to `stop`, as tables are written from them."""
    for first in range(start, stop, CHUNK_ROWS):
        span = slice(first, min(first + CHUNK_ROWS, stop))
        yield np.asarray(fit.labels_[span]), as_similarity(np.asarray(fit.similarity_[span]))


def files_for(source: RowSource) -> FileRows:
    """Rows that tables of labels can be written for. Raises OptionError for others."""
    if not isinstance(source, FileRows):
        raise OptionError(
            "labels_out writes a table for each file of rows, and these rows are not those of files. Pass paths, or "
            "what open_rows returns."
        )
    return source


def _by_id(rows: Any) -> TableOptions:
    return TableOptions(carried=Carried(rows.id_column))

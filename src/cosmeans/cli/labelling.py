"""The work of `predict`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cosmeans._estimator.file_labels import FileLabels
from cosmeans.atomic import refuse_existing
from cosmeans.cli.outputs import check_label_path, load_model, refuse_model, write_labels
from cosmeans.cli.row_files import RowFiles
from cosmeans.cli.tell import tell_json
from cosmeans.cli.texts import given_texts
from cosmeans.console import say
from cosmeans.errors import OptionError
from cosmeans.label_files.folder import TableOptions
from cosmeans.label_files.writers import NPY


def label_files(
    model: Path,
    embeddings: RowFiles,
    out: str,
    wanted: TableOptions,
    *,
    texts: str | None,
    column: str | None,
    folder: bool,
    memory_limit: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Labels of rows of files, in one file, or in a folder with a table for each file of rows."""
    if folder:
        wanted.check()
        if wanted.kind == NPY and (texts is not None or column is not None):
            raise OptionError("--labels npy holds labels alone, and texts are carried to tables. Remove one of them.")
        refuse_model(Path(out))
    else:
        check_label_path(Path(out), embeddings.carried, texts is not None or column is not None)
        refuse_existing(out, force, folder=False)
    kmeans = load_model(model, quiet).set_params(memory_limit=memory_limit)
    rows = embeddings.open()
    wanted = replace(wanted, carried=replace(wanted.carried, texts=given_texts(texts, rows, column)))
    wanted.carried.refuse_clash()
    found = FileLabels(kmeans, rows)
    if folder:
        written = found.write(Path(out), wanted, force=force)
    else:
        written = write_labels(Path(out), rows, found, wanted.carried, force)
    files = {"files": written.files, "kept": written.kept} if folder else {}
    if as_json:
        record = {"rows": written.rows, "left_out": written.left_out, "labels": out, "digest": kmeans.digest()}
        tell_json(record | files)
    elif not quiet:
        kept = f"; {written.kept} of {written.files} files were finished before" if written.kept else ""
        say(f"Wrote {written.rows:,} labels to {out} ({written.left_out:,} rows skipped){kept}")

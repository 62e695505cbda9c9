"""The commands `look` and `info`: what files of rows, or a model, hold.

What does the work is imported when a command runs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cosmeans.cli import flags, results
from cosmeans.cli.app import command
from cosmeans.cli.given import OF_FILES, without_effect
from cosmeans.cli.row_files import RowFiles
from cosmeans.paths import is_url
from cosmeans.printable import line, without_secrets
from cosmeans.reading import size_words

if TYPE_CHECKING:
    from cosmeans.rows.look import RowFacts

_SHOWN = 20  # names of columns
_SEEDS = ("random_state", "seed")


@command()
@flags.takes_rows_and_columns
def look(embeddings: RowFiles, quiet: flags.Quiet = False, as_json: flags.Json = False) -> None:
    """Show what files of embeddings hold, and the memory and disk that a fit needs, from headers and footers alone."""
    _tell(embeddings, quiet, as_json)


@command()
@flags.takes_rows_and_columns
def info(context: typer.Context, embeddings: RowFiles, quiet: flags.Quiet = False, as_json: flags.Json = False) -> None:
    """Show what a model contains; of files of embeddings, what `look` shows."""
    from cosmeans.cli.outputs import find_model
    from cosmeans.cli.tell import tell_json
    from cosmeans.model_file import is_model

    path = embeddings.paths[0]
    model = find_model(Path(path)) if len(embeddings.paths) == 1 and not is_url(path) else None
    if model is None or not is_model(model):
        _tell(embeddings, quiet, as_json)
        return
    without_effect(context, OF_FILES, f"on {path}, which is a model")
    facts = model_facts(model)
    if as_json:
        tell_json(facts)
    elif not quiet:
        _show(facts)


def _tell(embeddings: RowFiles, quiet: bool, as_json: bool) -> None:
    from cosmeans.cli.tell import tell_json

    facts = embeddings.look()
    if as_json:
        tell_json({"embeddings": list(map(without_secrets, embeddings.paths))} | asdict(facts))
    elif not quiet:
        results.show("\n".join(lines(facts)))


def model_facts(folder: Path) -> dict[str, Any]:
    """Shape, sizes, seed and outcome of a saved model."""
    from cosmeans.model_file import load_model

    state = load_model(folder)
    counts = [0] if state.counts is None else state.counts.tolist()
    return {
        "model": str(folder),
        "clusters": state.centroids.shape[0],
        "features": state.centroids.shape[1],
        "rows": sum(counts),
        "smallest_cluster": min(counts),
        "largest_cluster": max(counts),
        "similarity": state.similarity,
        "epochs": len(state.history),
        "stop_reason": "not fitted" if state.stop_reason is None else state.stop_reason.value,
        "random_state": state.options.get("random_state"),
        "seed": state.seed,
        "digest": state.digest,
        "cosmeans": state.library,
    }


def lines(facts: RowFacts) -> list[str]:
    """The facts in words, for people."""
    rows = "rows not counted" if facts.rows is None else f"{facts.rows:,} rows"
    files = f"{_count(facts.files, 'file')}, {size_words(facts.bytes_on_disk)}"
    found = [
        f"{files}: {rows} x {facts.features or 'unknown'} {facts.dtype}",
        *_columns(facts),
        f"memory: {_memory(facts)}",
    ]
    if facts.label_bytes is not None:
        found.append(f"disk: labels and cosines of a fit take up to {size_words(facts.label_bytes)}")
    return [line(text) for text in found]


def _columns(facts: RowFacts) -> list[str]:
    """Where the vectors are, their nulls and row groups, and the other columns, of files that have columns."""
    if not facts.columns:
        return []
    first, last = facts.columns[0], facts.columns[-1]
    each = f'columns "{first}" to "{last}", one number each' if len(facts.columns) > 1 else f'column "{first}"'
    where = f'column "{first}", lists, {"named" if facts.named else "found by itself"}' if facts.lists else each
    nulls = "nulls not counted"
    if facts.nulls is not None:
        nulls = f"{_count(facts.nulls, 'null')}"
        nulls += f" in {_count(facts.files_with_nulls or 0, 'file')}" if facts.nulls else ""
    groups = ""
    if facts.row_groups is not None:
        groups = f"; {_count(facts.row_groups, 'row group')} of up to {facts.largest_row_group:,} rows"
    others = [f"{name} ({kind})" for name, kind in facts.other_columns.items()]
    cut = ", ..." if len(others) > _SHOWN else ""
    listed = [f"other columns: {', '.join(others[:_SHOWN])}{cut}"] if others else []
    return [f"{where}; {nulls}{groups}", *listed]


def _memory(facts: RowFacts) -> str:
    """What rows need of the memory in a fit."""
    if facts.mapped:
        return "rows are mapped from the files, and need none of their own"
    limit = f"--memory-limit, by default {size_words(facts.memory_limit)} here"
    if facts.rows is None or facts.decoded_bytes is None or facts.rows_in_memory is None:
        return f"decoded rows are kept as far as {limit} allows; the files are read once before to count them"
    needed = f"decoded rows take {size_words(facts.decoded_bytes)}"
    if facts.rows_in_memory == facts.rows:
        return f"{needed}, which {limit}, holds: the files are decoded once"
    share = f"{facts.rows_in_memory / facts.rows:.0%}"
    return (
        f"{needed}, of which {limit}, holds {share}: a fit copies them to the disk, or decodes the others in every pass"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _show(facts: dict[str, Any]) -> None:
    """The facts of a model as a table on stdout."""
    from cosmeans.cli.tables import show_facts

    # numbers that people read, in groups and with four digits; seeds are names
    counts = {name: value for name, value in facts.items() if isinstance(value, int | float) and name not in _SEEDS}
    show_facts({name: counts.get(name, str(value)) for name, value in facts.items()})

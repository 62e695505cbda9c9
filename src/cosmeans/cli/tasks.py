"""The commands about models: how many clusters, how good they are, which is which of an older model.

What does the work is imported when a command runs.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cosmeans.atomic import new_file, refuse_existing
from cosmeans.choices import InitName
from cosmeans.cli import extras, flags
from cosmeans.cli.app import command
from cosmeans.cli.given import OF_FILES, without_effect
from cosmeans.cli.row_files import RowFiles
from cosmeans.console import say
from cosmeans.errors import OptionError

if TYPE_CHECKING:
    from cosmeans.rows.files import FileRows

_SHOWN = 20


@command("choose-k")
@flags.takes_rows
def choose(
    embeddings: RowFiles,
    ks: Annotated[
        str | None,
        typer.Option("--ks", help="numbers to try, such as 10,20,40; default: from 2 up to 256", metavar="K,K,..."),
    ] = None,
    n_seeds: Annotated[int, typer.Option("--seeds", help="fits per number")] = 3,
    sample_size: Annotated[int, typer.Option("--sample", help="rows of the sample that is clustered")] = 20_000,
    epochs: Annotated[int, typer.Option("--epochs", help="maximum number of epochs of each fit")] = 50,
    init: flags.Init = "k-means++",
    random_state: flags.RandomState = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder of the results; finished fits in it are reused", metavar="DIR"),
    ] = None,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Suggest a number of clusters; plot how good each is. Run it again to continue after an interruption."""
    tried = None if ks is None else _integers(ks)
    from cosmeans.analysis.choose_k import choose_k
    from cosmeans.cli import tables
    from cosmeans.cli.tell import tell_json

    folder = out or Path(f"cosmeans-choose-{embeddings.name}")
    rows = embeddings.open()
    drawn = not extras.left_out({"matplotlib": "curve.png"})
    try:
        choice = choose_k(
            rows,
            tried,
            n_seeds=n_seeds,
            sample_size=sample_size,
            epochs=epochs,
            init=cast(InitName, init),  # checked there
            random_state=random_state,
            folder=folder / "runs",
            verbose=int(not quiet),
        )
    except KeyboardInterrupt:
        say(f"Interrupted. Finished fits are kept in {folder}; the same command continues from them.")
        raise typer.Exit(1) from None
    if drawn:
        choice.plot(folder / "curve.png")
    if as_json:
        tell_json(choice.to_json() | ({"plot": str(folder / "curve.png")} if drawn else {}))
    elif not quiet:
        tables.show_choice(choice)
        say(choice.reason)
        if drawn:
            say(f"The curve is stored in {folder / 'curve.png'}")


@command("evaluate")
@flags.takes_rows
def measure(
    model: flags.Model,
    embeddings: RowFiles,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="known class of each row: a file like that of --texts, or .npy of integers",
            metavar="FILE",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", help="the column with the classes, if there are several", metavar="NAME"),
    ] = None,
    sample_size: Annotated[int, typer.Option("--sample", help="rows of the sampled silhouette")] = 5000,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Measure how good a model is on embeddings, and against known classes."""
    from cosmeans.analysis.evaluation import evaluate
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    rows = embeddings.open()
    known = _classes(classes, rows, column)
    measured = evaluate(load_model(model, quiet), rows, known, sample_size=sample_size)
    if as_json:
        tell_json(measured.to_json())
    elif not quiet:
        tables.show_evaluation(measured)


@command("match")
@flags.takes_rows
def match_models(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(help="the model whose cluster ids are kept", show_default=False)],
    new: Annotated[Path, typer.Argument(help="the model whose clusters get these ids", show_default=False)],
    embeddings: RowFiles = RowFiles([]),  # noqa: B008  no default of Python's: `takes_rows` makes it
    plot: Annotated[
        Path | None, typer.Option("--plot", help="picture of what moved (needs --embeddings)", metavar="FILE.png")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="everything as JSON", metavar="FILE.json")] = None,
    force: flags.Force = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Match the clusters of a new model to those of an old one, and report which rows moved."""
    if not embeddings.paths:
        without_effect(context, OF_FILES, "without --embeddings")
    if plot is None and out is None:
        without_effect(context, ("force",), "without --out or --plot")
    if plot is not None and not embeddings.paths:
        raise OptionError("--plot draws how rows moved, so it needs them: pass --embeddings FILE.")
    if plot is not None:
        extras.require("matplotlib", "--plot")
    for path in (plot, out):
        if path is not None:
            refuse_existing(path, force, folder=False)
    from cosmeans.analysis.matching import match, moved
    from cosmeans.cli import tables
    from cosmeans.cli.outputs import load_model
    from cosmeans.cli.tell import tell_json

    before, after = load_model(old, quiet), load_model(new, quiet)
    matched = match(before, after)
    record: dict[str, Any] = {
        "new_of_old": matched.new_of_old.tolist(),
        "ids_of_new": matched.ids.tolist(),
        "cosines": [float(cosine) for cosine in matched.cosines],
    }
    moves = moved(before, after, embeddings.open(), matched) if embeddings.paths else None
    if moves is not None:
        record["moves"] = moves.to_json()
    with ExitStack() as files:  # both are written before one of them appears
        if plot is not None and moves is not None:
            moves.plot(files.enter_context(new_file(plot, force)))
        if out is not None:
            files.enter_context(new_file(out, force)).write_text(tables.as_json(record), encoding="utf-8")
    if as_json:
        tell_json(record)
    elif not quiet:
        tables.show_match(matched, moves, _SHOWN)


def _classes(path: str | None, rows: FileRows, column: str | None) -> Any:
    from cosmeans.cli.texts import given_texts
    from cosmeans.rows.readers.array_files import open_array

    if path is not None and path.lower().endswith(".npy") and column is None:
        return open_array(path, n_dims=1)
    return given_texts(path, rows, column)


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(f"--ks {text} must be integers separated by commas, such as 10,20,40.") from error

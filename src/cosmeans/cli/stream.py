"""`predict MODEL -`: rows that arrive on stdin."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from cosmeans.analysis.stream import predict_arrow, predict_json_lines
from cosmeans.cli import results
from cosmeans.cli.outputs import load_model
from cosmeans.errors import InputError, WriteError


def predict_stream(model: Path, arrow: bool, field: str) -> None:
    """Answer rows from stdin on stdout until they end."""
    source = _source(sys.stdin)
    if not results.is_open():
        raise WriteError("The standard output is closed, and answers go there. Send it somewhere: > FILE.")
    answer = predict_arrow if arrow else predict_json_lines
    answer(load_model(model, quiet=True), source, cast(BinaryIO, results.Bytes()), field)


def _source(stdin: Any) -> BinaryIO:
    if stdin is None or stdin.closed:
        raise InputError(
            "The standard input is closed, and rows are read from there. Send some: < FILE, or name a file."
        )
    source = cast(BinaryIO, stdin.buffer)
    with suppress(OSError, ValueError):  # where reads don't wait, rows still to come look like the end
        os.set_blocking(source.fileno(), True)
    return source

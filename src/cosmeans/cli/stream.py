"""`predict MODEL -`: rows that arrive on stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from cosmeans.cli.outputs import load_model
from cosmeans.stream import predict_arrow, predict_json_lines


def predict_stream(model: Path, arrow: bool, field: str) -> None:
    """Answer rows from stdin on stdout until they end."""
    answer = predict_arrow if arrow else predict_json_lines
    answer(load_model(model, quiet=True), sys.stdin.buffer, sys.stdout.buffer, field)

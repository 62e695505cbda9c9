"""One message in two languages: with names of options in Python, and with flags."""

import pytest
from typer.main import get_command

from cosmeans.cli import app
from cosmeans.cli.flag_names import with_flags

COMMANDS = get_command(app).commands


@pytest.mark.parametrize(
    ("command", "message", "typed"),
    [
        ("fit", "n_clusters=301 needs at least 301 rows.", "--clusters 301 needs at least 301 rows."),
        ("fit", "Lower n_clusters, or add rows.", "Lower --clusters, or add rows."),
        ("fit", 'device="cuda:9" needs that GPU. Use device="cpu" or "auto".',
         '--device cuda:9 needs that GPU. Use --device cpu or "auto".'),
        ("fit", "tol must be a number.", "--tol must be a number."),
        ("fit", "The device is full; the cache must go.", "The device is full; the cache must go."),
        ("fit", "memory_limit allows 5. Raise it.", "--memory-limit allows 5. Raise it."),
        ("fit", "x exists. Choose another name, or pass force=True.",
         "x exists. Choose another name, or pass --force."),
        ("fit", "embedding='e 1' (--embedding): no such column.", "--embedding 'e 1': no such column."),
        ("fit", "dtype=\"f4\" (--dtype) is for raw files.", "--dtype f4 is for raw files."),
        ("fit", "No such file: n_clusters.npy.", "No such file: n_clusters.npy."),
        ("fit", "No such file: /data/batch_size/x.npy.", "No such file: /data/batch_size/x.npy."),
        ("fit", "The column 'id_column' is missing.", "The column 'id_column' is missing."),
        ("choose-k", "n_seeds must be at least 2.", "--seeds must be at least 2."),
        ("choose-k", "sample_size=1: too few.", "--sample 1: too few."),
        ("report", "n_examples must be an integer.", "--examples must be an integer."),
        ("top", "m=5, but it has 4. Lower m.", "--clusters 5, but it has 4. Lower --clusters."),
        ("outliers", "quantile=2.0 and threshold=1 clash.", "--quantile 2.0 and --threshold 1 clash."),
        ("plot", "n_clusters=3 is not an option here.", "n_clusters=3 is not an option here."),
    ],
)  # fmt: skip
def test_names_of_options_become_flags(command, message, typed):
    assert with_flags(message, COMMANDS[command].params) == typed

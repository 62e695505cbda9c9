"""Who waits for a command is told what it does: once, and not while something is shown."""

import threading
import time

import numpy as np
import pytest

from cosmeans import console
from cosmeans.cli import run
from cosmeans.cli.silence import doing, watched

SHORT = 0.02  # seconds


@pytest.fixture
def heard(capsys):
    """Wait until a line is on stderr; gives all lines so far."""
    lines = []

    def wait_for(what):
        end = time.monotonic() + 20
        while f"cosmeans: {what}" not in lines and time.monotonic() < end:
            time.sleep(SHORT)
            lines.extend(capsys.readouterr().err.splitlines())
        assert f"cosmeans: {what}" in lines
        return lines

    return wait_for


def test_a_silence_is_broken_by_what_is_done_each_time_something_else_is(heard):
    with watched(SHORT):
        heard("loading libraries")
        time.sleep(20 * SHORT)
        with doing("reading the texts"):
            heard("reading the texts")
        heard("working on the rows")
        with doing("writing x.parquet"):
            lines = heard("writing x.parquet")

    assert lines == [
        "cosmeans: loading libraries",
        "cosmeans: reading the texts",
        "cosmeans: working on the rows",
        "cosmeans: writing x.parquet",
    ]


def test_a_bar_on_the_screen_says_what_is_done(heard, request):
    bar = object  # erasing it does nothing
    console.DRAWN.append(bar)
    request.addfinalizer(lambda: console.DRAWN.remove(bar))

    with watched(SHORT):
        with doing("reading the texts"):
            heard("reading the texts")
        time.sleep(20 * SHORT)
        with doing("writing x.parquet"):
            lines = heard("writing x.parquet")

    assert "cosmeans: working on the rows" not in lines


def test_no_thread_of_a_command_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.eye(9, dtype=np.float32))
    before = threading.active_count()

    assert run(["look", "rows.npy"]) == 0
    assert run(["look", "nothing.npy"]) == 2

    assert [thread.name for thread in threading.enumerate() if thread.name == "cosmeans-silence"] == []
    assert threading.active_count() <= before

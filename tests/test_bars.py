"""What people see of progress: in terminals of several widths, through a real one, and in a pipe."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from tqdm.std import tqdm

from cosmeans import console
from cosmeans.bars import Bar, Lines, display

pytestmark = pytest.mark.linux


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return -1  # of no file that is open


NOTES = ["at most 03:18 left", "similarity 0.5123", "changed 3.0%", "500 rows/s", "1,000 of 9,000 rows"]


def lines_of(text):
    """What was on the line each time that it was drawn."""
    return [line.strip("\n") for line in text.split("\r") if line.strip()]


@pytest.mark.parametrize(
    ("columns", "drawn"),
    [
        (30, r"epoch 3 of at most 100"),
        (45, r"epoch 3 of at most 100: at most 03:18 left"),
        (60, r"epoch 3 of at most 100 \|.{6,}\| at most 03:18 left"),
        (80, r"epoch 3 of at most 100 \|.{6,}\| at most 03:18 left, similarity 0\.5123"),
        (120, r"epoch 3 of at most 100 \|.{6,}\| at most 03:18 left, similarity 0\.5123, changed 3\.0%, 500 rows/s, "
              r"1,000 of 9,000 rows"),
    ],
)  # fmt: skip
def test_a_narrow_terminal_leaves_out_the_last_notes_and_before_the_first_the_bar(monkeypatch, columns, drawn):
    stream = Terminal()
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    monkeypatch.setenv("COLUMNS", str(columns))  # what earlier versions of tqdm ask
    monkeypatch.setenv("LINES", "24")
    bar = Bar(stream)
    bar.show("epoch 3 of at most 100", 10, 100, NOTES)
    bar.close()

    lines = lines_of(stream.getvalue())
    assert max(map(len, lines)) < columns
    assert re.fullmatch(drawn + " *", lines[-1]), lines


def test_work_of_unknown_length_has_a_title_and_no_bar():
    stream = Terminal()
    bar = Bar(stream)
    bar.show("keywords", 0, 0, [])
    bar.close()

    assert lines_of(stream.getvalue())[-1].strip() == "keywords"


def test_a_sentence_gets_a_line_of_its_own(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show("reading", 10, 100, ["about 00:10 left"])
    console.say("cosmeans: a sentence")
    bar.show("reading", 20, 100, ["about 00:09 left"])
    bar.close()
    console.say("cosmeans: another one")

    # a terminal keeps of each line what stands after the last return
    rows = [row.split("\r")[-1] for row in stream.getvalue().splitlines()]
    assert [row.strip() for row in rows if row.startswith("cosmeans")] == [
        "cosmeans: a sentence",
        "cosmeans: another one",
    ]


def test_the_place_decides_between_bars_and_lines(monkeypatch):
    assert isinstance(display(Terminal()), Bar)
    assert isinstance(display(io.StringIO()), Lines)
    monkeypatch.setattr(tqdm, "__module__", "tqdm.notebook")
    assert isinstance(display(io.StringIO()), Bar)


PROGRAM = """
import time
passed = 0.0
real = time.perf_counter
time.perf_counter = lambda: real() + passed
from cosmeans.progress import watch
from cosmeans.result import EpochCost, Iteration
with watch(1000) as observer:
    for number in range(1, 4):
        observer.epoch(number, 20)
        for _ in range(4):
            passed += 1.0
            observer.batch(250)
        observer.iteration(Iteration(0.41234, 0.1, 30, 0, 1.25, 9, 0), EpochCost(4.0))
"""


@pytest.mark.parametrize(("columns", "last"), [(60, ""), (120, ", similarity 0.4123, changed 3.0%, 750 of 1,000 rows")])
def test_a_fit_in_a_real_terminal(columns, last):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while piece := os.read(controller, 4096):
            seen += piece
    except OSError:  # the other end is closed
        pass
    os.close(controller)
    assert child.wait() == 0

    lines = lines_of(seen.decode())
    assert max(map(len, lines)) < columns
    # 18.25 passes of 4 s are left
    assert any(re.fullmatch(rf"epoch 3 of at most 20 \|.+\| at most 01:13 left{last} *", line) for line in lines), lines
    assert seen.count(b"\n") == 1

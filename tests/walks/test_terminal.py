"""What a newcomer types first, in terminals of two widths: every command ends well, every mistake is explained."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

PROGRAM = """
import sys
from cosmeans.cli import run
for line in sys.argv[1:]:
    print("$", line, flush=True)
    print("exit", run(line.split()), flush=True)
"""
GOOD = [
    "demo --data data",
    "look data/entries.parquet",
    "fit data/entries.parquet -k 8 --epochs 3 --column text --out clusters",
    "info clusters",
    "predict clusters data/embeddings.npy --texts data/texts.txt --out labels.parquet",
    "top clusters data/entries.parquet --column text",
    "outliers clusters data/entries.parquet --column text",
    "exemplars clusters data/entries.parquet --column text -m 3",
    "match clusters clusters",
    "plot clusters",
]
MISTAKES = {  # what is typed, and a part of what is answered
    "fit data/entries.parquet -k 8 --device gpu": "Did you mean",
    "fit data/entries.parquet -k 8 --init kmeans++": "Did you mean",
    "fit nothing.parquet -k 8": "nothing.parquet",
    "fit data/entries.parquet -k 8 --column txt --out other": "has no such column",
    "fit data/entries.parquet -k 8 --out clusters": "--force",
    "fit data/entries.parquet -k 7000 --out other": "7000",
    "predict clusters data/embeddings.npy --texts data/texts.txt": "--out labels.parquet",
}


def walked(folder, columns, lines):
    """What a terminal of this width shows for each command, and its exit code."""
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(folder)
        # not what readline, which pytest imports, has put into the environment: COLUMNS
        environment = os.environ | {"NO_COLOR": "1", "TERM": "xterm"}  # in a dumb terminal tables are 80 columns wide
        environment.pop("COLUMNS", None)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM, *lines], environment)
    shown = b""
    try:
        while piece := os.read(screen, 65536):
            shown += piece
    except OSError:  # how Linux says that the other side has gone
        pass
    finally:
        os.close(screen)
        os.waitpid(pid, 0)
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())
    found = re.findall(r"^\$ (.*?)\r\n(.*?)^exit (\d+)\r\n", text, flags=re.DOTALL | re.MULTILINE)
    return {line: (told, int(code)) for line, told, code in found}


@pytest.mark.linux
@pytest.mark.parametrize("columns", [60, 120])
def test_the_first_minutes_have_no_stumble(tmp_path, columns):
    shown = walked(tmp_path, columns, [*GOOD, *MISTAKES])

    assert list(shown) == [*GOOD, *MISTAKES], shown
    for line in GOOD:
        told, code = shown[line]
        assert code == 0, told
        drawn = [row for row in re.split(r"[\r\n]+", told) if row.startswith(("│", "┏", "└"))]
        assert all(len(row) <= columns for row in drawn), told
    for line, answer in MISTAKES.items():
        told, code = shown[line]
        assert code == 2, (line, told)
        assert answer in told, (line, told)
        assert "Traceback" not in told

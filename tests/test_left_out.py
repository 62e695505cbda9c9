"""Rows left out take part in nothing: every strategy, start, dtype and kind, in processes that may crash."""

import json
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

import left_out
from left_out import FACTORS, covering_cells, every_cell, pairs

PROCESSES = 2
PROGRAM = Path(left_out.__file__)


def failures(cells):
    """What is wrong with each cell that is not right; a crash is what is wrong with the cell it happened in."""
    lines = "".join(json.dumps(cell) + "\n" for cell in cells)
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(PROGRAM)], input=lines, capture_output=True, text=True, check=False
    )
    told = run.stdout.splitlines()
    wrong = {cell: json.loads(said) for cell, said in zip(told[::2], told[1::2], strict=False) if said != "[]"}
    if run.returncode or len(told) != 2 * len(cells):
        wrong[told[-1] if told else "none"] = f"exit status {run.returncode}: {run.stderr[-2000:]}"
    return wrong


def test_the_cover_holds_every_pair():
    cells = covering_cells()
    assert len(cells) <= 150
    covered = {pair for cell in cells for pair in pairs(cell)}
    for a, b in combinations(FACTORS, 2):
        assert {((a, x), (b, y)) for x, y in product(FACTORS[a], FACTORS[b])} <= covered


@pytest.mark.parametrize("part", range(PROCESSES))
def test_rows_left_out_take_part_in_nothing(part):
    assert failures(covering_cells()[part::PROCESSES]) == {}


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
def test_rows_left_out_take_part_in_nothing_whatever_is_combined(part):
    assert failures(every_cell()[part::4]) == {}

"""Progress: silent for small fits, one line in a terminal, plain lines in a pipe, and cheap."""

import io
import os
import re
import time

import pytest
from tqdm.auto import tqdm

from cosmeans.progress import LINE_INTERVAL, Bar, Lines, Silent, Watch, watch
from cosmeans.result import EpochCost, Iteration

ITERATION, COST = Iteration(0.51234, 0.1, 30, 0, 1.25, 9, 0), EpochCost(2.0)


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return -1  # of no file that is open


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def run_epochs(observer, clock, epochs, seconds, batches=10, rows=10):
    for epoch in range(1, epochs + 1):
        observer.epoch(epoch, 100)
        for _ in range(batches):
            clock.now += seconds / batches
            observer.batch(rows)
        observer.iteration(ITERATION, COST)


def test_work_of_less_than_half_a_second_is_silent(clock):
    for stream in (io.StringIO(), Terminal()):
        with watch(100, file=stream) as observer:
            observer.reading(100, 100)
            observer.seeding(5, 5)
            run_epochs(observer, clock, epochs=4, seconds=0.1)
        assert stream.getvalue() == ""


def test_many_short_epochs_are_shown_once_they_last_together(clock):
    stream = io.StringIO()
    with watch(100, file=stream) as observer:
        run_epochs(observer, clock, epochs=8, seconds=0.1)

    assert stream.getvalue().startswith("epoch 5 of at most 100: ")


def test_a_pipe_gets_plain_lines_every_few_seconds(clock):
    stream = io.StringIO()
    with watch(100, file=stream) as observer:
        run_epochs(observer, clock, epochs=10, seconds=2.0)

    text = stream.getvalue()
    lines = text.splitlines()
    assert "\r" not in text
    assert "\x1b" not in text
    assert 3 <= len(lines) <= 2 + 20 / LINE_INTERVAL
    assert re.fullmatch(
        r"epoch \d+ of at most 100: \d+ of 100 rows; similarity 0.5123, imbalance 1.25, changed 30.0%",
        lines[-1],
    )


def test_a_terminal_gets_one_line_that_every_epoch_fills_again(clock):
    stream = Terminal()
    with watch(100, file=stream) as observer:
        run_epochs(observer, clock, epochs=3, seconds=2.0)

    text = stream.getvalue()
    assert text.count("\n") == 1
    assert all(f"epoch {number} of at most 100" in text for number in (1, 2, 3))
    assert "similarity 0.5123, imbalance 1.25, changed 30.0%" in text


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (60, "similarity 0.5123"),
        (80, "similarity 0.5123, at most 03:18 left"),
        (100, "similarity 0.5123, at most 03:18 left, imbalance 1.25, 500 rows/s"),
        (200, "similarity 0.5123, at most 03:18 left, imbalance 1.25, 500 rows/s, 1,000 GFLOP/s, changed 3.0%, "
              "100 of 1,000 rows"),
    ],
)  # fmt: skip
def test_a_narrow_terminal_leaves_notes_away_whole(clock, monkeypatch, columns, told):
    stream = Terminal()
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    monkeypatch.setenv("COLUMNS", str(columns))  # what earlier versions of tqdm ask
    monkeypatch.setenv("LINES", "24")
    with watch(1000, flops_per_row=2 * 10**9, file=stream) as observer:
        run_epochs(observer, clock, epochs=3, seconds=6.0, rows=100)

    lines = [line.strip("\n") for line in stream.getvalue().split("\r")]
    assert max(len(line) for line in lines) < columns
    assert any(re.fullmatch(rf"epoch 3 of at most 100 \|.{{6,}}\| {re.escape(told)} *", line) for line in lines), lines


def test_of_several_runs_each_is_named_and_all_count_as_left(clock):
    stream = io.StringIO()
    with watch(1000, flops_per_row=2 * 10**9, file=stream) as observer:
        observer.run(2, 3)
        clock.now += 1
        observer.seeding(1, 4)
        run_epochs(observer, clock, epochs=3, seconds=6.0)

    text = stream.getvalue()
    assert "run 2 of 3, first centroids: 1 of 4 centroids" in text
    # 98 epochs and the labels of this run, 100 and the labels of the next, of 2 s each
    assert "run 2 of 3, epoch 2 of at most 100" in text
    assert "at most 06:40 left" in text


def test_a_step_tells_what_is_left_by_its_own_pace(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 100  # what happened before is no part of its pace
        for done in (10, 20, 30):
            observer.step("comparing", done, 100, "pairs")
            clock.now += 6

    assert stream.getvalue().splitlines()[:2] == [
        "comparing: 10 of 100 pairs",
        "comparing: 20 of 100 pairs; about 00:48 left",
    ]


def test_reading_and_seeding_have_their_own_totals(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 1
        observer.reading(400, 1000)
        clock.now += 10
        observer.seeding(3, 8)
        clock.now += 10
        observer.epoch(1, 5)
        observer.batch(1000)
        clock.now += 10
        observer.epoch(6, 0)
        observer.batch(500)
        observer.batch(500)

    assert stream.getvalue().splitlines() == [
        "reading: 400 of 1,000 rows",
        "first centroids: 3 of 8 centroids",
        "epoch 1 of at most 5: 1,000 of 1,000 rows",
        "final labels: 500 of 1,000 rows",
        "final labels: 1,000 of 1,000 rows",
    ]


def test_rates_and_the_time_left_are_shown_when_asked_for(clock):
    stream = io.StringIO()
    with watch(1000, flops_per_row=2 * 10**9, file=stream) as observer:
        run_epochs(observer, clock, epochs=3, seconds=6.0)

    # 1000 rows in the 2 s that the iteration says; after two epochs 98 of 2 s and the labels are left
    assert "at most 03:18 left, imbalance 1.25, 500 rows/s, 1,000 GFLOP/s" in stream.getvalue()
    assert "left" not in stream.getvalue().splitlines()[-1]


def test_verbose_0_is_silent_and_can_be_stopped(clock):
    stream = Terminal()
    with watch(100, verbose=0, file=stream) as observer:
        run_epochs(observer, clock, epochs=3, seconds=2.0)
        assert observer.stop_requested is False
        observer.stop_requested = True

    assert type(observer) is Silent
    assert stream.getvalue() == ""


def test_a_batch_between_two_signs_does_not_touch_the_display(clock):
    shown = []

    class Display:
        interval = 1.0

        def show(self, *state):
            shown.append(state)

        def close(self):
            shown.append("closed")

    with Watch(Display(), 100_000) as observer:
        observer.epoch(1, 1)
        for _ in range(100_000):
            clock.now += 1e-4  # ten seconds in all
            observer.batch(1)

    assert 10 <= len(shown) - 1 <= 11
    assert shown[-1] == "closed"


def test_the_place_decides_between_bars_and_lines(monkeypatch):
    assert isinstance(watch(1, file=Terminal()).display, Bar)
    assert isinstance(watch(1, file=io.StringIO()).display, Lines)
    monkeypatch.setattr(tqdm, "__module__", "tqdm.notebook")
    assert isinstance(watch(1, file=io.StringIO()).display, Bar)


def test_the_time_left_of_a_step_is_that_of_work_which_was_watched(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 60
        observer.step("comparing", 20, 100, "pairs")
        clock.now += 20
        observer.step("comparing", 60, 100, "pairs")

    first, second, _ = stream.getvalue().splitlines()
    assert first == "comparing: 20 of 100 pairs", "nobody knows how long those 20 took"
    assert second == "comparing: 60 of 100 pairs; about 00:20 left"

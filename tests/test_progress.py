"""Progress: silent for small fits, one line in a terminal, plain lines in a pipe, and cheap."""

import io
import re
import time

import pytest

from cosmeans.bars import LINE_INTERVAL
from cosmeans.compile_clock import CLOCK
from cosmeans.progress import Silent, Watch, watch, watching
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
        r"epoch \d+ of at most 100: at most 03:\d\d left, similarity 0.5123, changed 30.0%, \d+ of 100 rows", lines[-2]
    )
    assert lines[-1] == "epoch 10 of at most 100: similarity 0.5123, changed 30.0%, 100 of 100 rows"


def test_a_terminal_gets_one_line_for_the_whole_fit(clock):
    stream = Terminal()
    with watch(100, file=stream) as observer:
        run_epochs(observer, clock, epochs=3, seconds=2.0)

    text = stream.getvalue()
    assert text.count("\n") == 1
    assert all(f"epoch {number} of at most 100" in text for number in (1, 2, 3))
    assert "similarity 0.5123, changed 30.0%, 100 of 100 rows" in text


class Shown:
    """A display that keeps what it is asked to show."""

    interval = 0.0

    def __init__(self):
        self.states, self.closed = [], 0

    def show(self, title, done, total, notes):
        self.states.append((title, done, total, notes))

    def close(self):
        self.closed += 1


def test_the_bar_is_that_of_all_epochs_and_of_the_final_labels(clock):
    shown = Shown()
    with Watch(shown, 100) as observer:
        clock.now += 1
        run_epochs(observer, clock, epochs=2, seconds=2.0)
        observer.epoch(3, 0)
        observer.batch(50)

    # (100 epochs + 1 pass for the final labels) x 100 rows
    assert [state[2] for state in shown.states] == [10_100] * len(shown.states)
    done = [state[1] for state in shown.states]
    assert done[:3] == [10, 20, 30]
    assert done == sorted(done)
    assert (10 * 1000 + 50) in done, "all epochs are behind the final labels, however few they were"
    assert done[-1] == 10_100, "at its end a fit is complete"


def test_the_bar_of_what_was_stopped_stays_where_it_was(clock):
    for stop in (True, False):
        shown = Shown()
        try:
            with Watch(shown, 100) as observer:
                clock.now += 1
                run_epochs(observer, clock, epochs=2, seconds=2.0)
                observer.stop_requested = stop
                if not stop:
                    raise ValueError
        except ValueError:
            pass
        assert shown.states[-1][1] == 200


def test_the_time_left_leaves_out_compiling_and_the_first_epoch(clock):
    shown = Shown()
    with Watch(shown, 100) as observer:
        observer.epoch(1, 10)
        with CLOCK.running():
            clock.now += 500
        clock.now += 4
        observer.batch(50)
        assert shown.states[-1][3][0] == "at most 01:24 left", "10.5 passes at 8 s"
        clock.now += 4
        observer.batch(50)
        observer.iteration(ITERATION, EpochCost(8.0))
        observer.epoch(2, 10)
        clock.now += 1
        observer.batch(50)
        assert shown.states[-1][3][0] == "at most 00:19 left", "9.5 passes at 2 s: that of the first is forgotten"
        observer.batch(50)
        observer.iteration(ITERATION, EpochCost(3.0))
        observer.epoch(3, 10)
        observer.batch(50)
        assert shown.states[-1][3][0] == "at most 00:25 left", "8.5 passes as long as the epoch before"


def test_an_epoch_that_ran_while_rows_were_read_is_no_measure(clock):
    shown = Shown()
    with Watch(shown, 100) as observer:
        clock.now += 1
        observer.reading(50, 100)
        clock.now += 50
        observer.reading(100, 100)
        observer.epoch(1, 10)
        observer.batch(100)
        observer.iteration(ITERATION, EpochCost(0.001))
        observer.epoch(2, 10)
        observer.batch(50)

    assert not [note for _, _, _, notes in shown.states for note in notes if note.startswith("at most")]


def test_of_several_runs_each_is_named_and_all_count_as_left(clock):
    stream = io.StringIO()
    with watch(10, file=stream) as observer:
        observer.run(2, 3)
        clock.now += 1
        observer.seeding(1, 4)
        run_epochs(observer, clock, epochs=3, seconds=6.0, batches=1)

    text = stream.getvalue()
    assert "run 2 of 3, first centroids: 1 of 4 centroids" in text
    # at the end of epoch 3: 97 epochs and the labels of this run, 100 and the labels of the next, of 2 s each
    assert "run 2 of 3, epoch 3 of at most 100: at most 06:38 left" in text


def test_a_step_tells_what_is_left_by_its_own_pace(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 100  # what happened before is no part of its pace
        for done in (10, 20, 30):
            observer.step("comparing", done, 100, "pairs")
            clock.now += 6

    assert stream.getvalue().splitlines()[:2] == [
        "comparing: 10 of 100 pairs",
        "comparing: about 00:48 left, 20 of 100 pairs",
    ]


def test_reading_and_seeding_have_their_own_totals(clock):
    stream = io.StringIO()
    with watch(labelling="outliers", file=stream) as observer:
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


def test_rates_are_shown_when_asked_for(clock):
    told = []
    for flops in (0, 2 * 10**9):
        stream = io.StringIO()
        with watch(1000, flops_per_row=flops, file=stream) as observer:
            run_epochs(observer, clock, epochs=3, seconds=6.0, rows=100)
        told.append(stream.getvalue().splitlines()[-1])

    # 1000 rows in the 2 s that the iteration says
    rates = "500 rows/s, 1,000 GFLOP/s, imbalance 1.25, "
    assert told[1] == f"epoch 3 of at most 100: similarity 0.5123, changed 3.0%, {rates}1,000 of 1,000 rows"
    assert told[0] == told[1].replace(rates, "")


def test_a_pass_that_only_labels_says_what_for(clock):
    stream = io.StringIO()
    with watch(100, labelling="outliers", file=stream) as observer:
        observer.epoch(1, 0)
        clock.now += 5
        observer.batch(50)

    assert stream.getvalue().splitlines()[0] == "outliers: about 00:05 left, 50 of 100 rows"


def test_a_phase_is_told_when_it_begins_once_work_has_lasted(clock):
    stream = io.StringIO()
    with watch(file=stream):
        watching().phase("too soon to be told")
        clock.now += 1
        watching().phase("keywords")
        watching().phase("map")
    watching().phase("nobody watches")

    assert stream.getvalue() == "keywords\nmap\n"


def test_watchers_of_one_thread_take_turns():
    with watch(verbose=0) as outer:
        with watch(verbose=0) as inner, inner:
            assert watching() is inner
        assert watching() is outer


def test_what_is_complete_at_its_first_sign_is_not_shown(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 10
        observer.reading(20, 20)

    assert stream.getvalue() == ""


def test_a_step_may_count_in_words_of_its_own(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 1
        observer.step("trying", 0, 56, "clusters", "fit 1 of 6")

    assert stream.getvalue() == "trying: fit 1 of 6\n", "and the same line is not written twice"


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
            shown.append(state[:2])

        def close(self):
            shown.append("closed")

    with Watch(Display(), 100_000) as observer:
        observer.epoch(1, 1)
        for _ in range(100_000):
            clock.now += 1e-4  # ten seconds in all
            observer.batch(1)

    assert 10 <= len(shown) - 1 <= 11
    assert shown[-1] == "closed"


def test_the_time_left_of_a_step_is_that_of_work_which_was_watched(clock):
    stream = io.StringIO()
    with watch(file=stream) as observer:
        clock.now += 60
        observer.step("comparing", 20, 100, "pairs")
        clock.now += 20
        observer.step("comparing", 60, 100, "pairs")

    first, second, *_ = stream.getvalue().splitlines()
    assert first == "comparing: 20 of 100 pairs", "nobody knows how long those 20 took"
    assert second == "comparing: about 00:20 left, 60 of 100 pairs"

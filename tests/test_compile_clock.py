"""Compiling is announced once, and no epoch counts the time that it takes."""

import json
import os
import subprocess
import sys
import time

import pytest

from cosmeans import KMeans
from cosmeans.compile_clock import CLOCK, CompileClock, Stopwatch


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    return Clock


def test_the_clock_runs_while_anybody_waits(clock):
    compiling = CompileClock()
    clock.now += 10
    with compiling.running():
        clock.now += 1
        with compiling.running():  # another thread, or a loop that needs another one
            clock.now += 2
        clock.now += 4
        assert compiling.seconds() == 7
    clock.now += 10

    assert compiling.seconds() == 7


def test_a_lap_is_what_passed_without_the_compiling(clock):
    stopwatch = Stopwatch()
    clock.now += 2
    with CLOCK.running():
        clock.now += 1000
    first = stopwatch.lap()
    clock.now += 3

    assert (first, stopwatch.lap()) == (2, 3)


def test_each_listener_hears_one_line():
    compiling, heard = CompileClock(), []
    with compiling.heard(heard.append):
        compiling.announce("first")
        compiling.announce("second")
    compiling.announce("nobody listens")

    assert heard == ["first"]


CHILD = """
import json, sys, time
import numpy as np
from numba.core import dispatcher

compiler, real, passed = dispatcher._FunctionCompiler, time.perf_counter, 0.0
time.perf_counter = lambda: real() + passed
whole = compiler.compile

def slow(*given, **named):  # as on a processor that takes 1000 seconds for each loop
    global passed
    passed += 1000.0
    return whole(*given, **named)

compiler.compile = slow
from cosmeans import KMeans
rows = np.random.default_rng(0).standard_normal((300, 8))
kmeans = KMeans(4, epochs=3, random_state=0, device="cpu", verbose=int(sys.argv[1])).fit(rows)
print(json.dumps({"passed": passed, "costs": [cost.seconds for cost in kmeans.costs_]}))
"""


def fit_in_a_child(folder, verbose=1):
    """What a fit tells that finds what is compiled in this folder, if anything."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(verbose)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), done.stderr


def test_the_first_fit_on_a_machine_says_that_it_compiles_and_its_epochs_do_not_count_it(tmp_path):
    found, told = fit_in_a_child(tmp_path / "empty")

    assert told.splitlines().count("cosmeans: compiling for this processor, once: about 5 s") == 1
    assert found["passed"] >= 5000, "loops were compiled"
    assert max(found["costs"]) < 1000, "no epoch holds the time of one of them"

    again, told = fit_in_a_child(tmp_path / "empty")

    assert again["passed"] == 0
    assert "compiling" not in told

    _, told = fit_in_a_child(tmp_path / "other", verbose=0)

    assert told == ""


def test_what_a_fit_finds_compiled_is_not_announced(capsys):
    rows = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    KMeans(2, random_state=0).fit(rows)
    capsys.readouterr()
    KMeans(2, random_state=0).fit(rows)

    assert "compiling" not in capsys.readouterr().err
